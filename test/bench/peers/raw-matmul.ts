/** oneDNN's matmul primitive called raw, by a small program that is compiled here and now. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { RuntimeError } from "../../../runtime/errors.ts";

export interface RawProduct { transA: boolean; transB: boolean; m: number; n: number; k: number; in: "f32" | "bf16"; out: "f32" | "bf16"; bias: boolean; threads: number }

/** Seconds per execution, and seconds of the processor, which other programs do not stretch. */
export interface Spent { seconds: number; processor: number }

export interface RawMatmul {
  /** Prepares a product; the name of the implementation that oneDNN chose. */
  make(product: RawProduct): Promise<string>;
  run(times: number): Promise<Spent>;
  end(): Promise<void>;
}

/** Compiles into `folder` and starts. Throws ERR_INPUT when g++ is missing; the first answer rejects with it when oneDNN is. */
export function rawMatmul(folder: string): RawMatmul {
  const program = join(folder, "raw_matmul"), source = fileURLToPath(new URL("raw_matmul.cpp", import.meta.url));
  const built = spawnSync("g++", ["-std=c++20", "-O2", "-fopenmp", source, "-o", program, "-ldl"], { encoding: "utf8" });
  if (built.status !== 0) throw new RuntimeError("ERR_INPUT", `the raw product does not compile: ${built.error?.message ?? built.stderr.trim()}. Get a compiler: apt-get install -y g++`);
  const child = spawn(program, { stdio: ["pipe", "pipe", "pipe"] });
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  let complaint = "";
  child.stderr.on("data", (chunk) => (complaint += chunk));
  const ask = async (line: string): Promise<string> => {
    child.stdin.write(`${line}\n`);
    const { value, done } = await answers.next();
    if (done) throw new RuntimeError("ERR_INPUT", `the raw product ended: ${complaint.trim()}. It needs oneDNN: apt-get install -y libdnnl2`);
    return value as string;
  };
  return {
    make: ({ transA, transB, m, n, k, in: from, out, bias, threads }) => ask(`make ${+transA} ${+transB} ${m} ${n} ${k} ${from} ${out} ${+bias} ${threads}`),
    run: async (times) => {
      const [seconds, processor] = (await ask(`run ${times}`)).split(" ").map(Number);
      return { seconds, processor };
    },
    end: () => ended(child),
  };
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.stdin!.end();
  await once(child, "exit");
}
