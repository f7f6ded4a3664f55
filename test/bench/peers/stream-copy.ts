/** What memory gives on this machine: STREAM's copy, compiled here and now. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { RuntimeError } from "../../../runtime/errors.ts";

/** GB/s of reading and writing together, McCalpin's counting. */
export interface CopySpeed { ordinary: number; streaming: number }

/** Compiles into `folder`; what it returns measures. Throws ERR_INPUT when there is no g++. -fno-tree-loop-distribute-patterns: the loop stays a loop. */
export function streamCopy(folder: string): (threads: number, bytesPerArray: number) => CopySpeed {
  const program = join(folder, "stream_copy"), source = fileURLToPath(new URL("stream_copy.cpp", import.meta.url));
  const built = spawnSync("g++", ["-O3", "-fopenmp", "-march=native", "-fno-tree-loop-distribute-patterns", source, "-o", program], { encoding: "utf8" });
  if (built.status !== 0) throw new RuntimeError("ERR_INPUT", `STREAM's copy does not compile: ${built.error?.message ?? built.stderr.trim()}. Get a compiler: apt-get install -y g++`);
  return (threads, bytesPerArray) => {
    const { status, stdout, stderr } = spawnSync(program, [bytesPerArray, threads, 10].map(String), { encoding: "utf8" });
    if (status !== 0) throw new RuntimeError("ERR_INPUT", `STREAM's copy failed with ${status}: ${stderr}`);
    return JSON.parse(stdout) as CopySpeed;
  };
}
