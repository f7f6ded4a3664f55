/** The peer of benchmarks: PyTorch from Debian, under the system's Python. Nothing outside `npm run bench` needs it. */
import { execFile, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const python = "/usr/bin/python3";
const script = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

export interface PeerVersions { torch: string; numpy: string; fusedAttention: boolean; isa: string }

/** How the peer is run: threads of torch, threads and kernels of its BLAS, the batch whole or as microbatches. */
export interface PeerSetting { threads: number; blasThreads: number; core?: string; whole: boolean }

export const describeSetting = ({ threads, blasThreads, core, whole }: PeerSetting): string =>
  `torch ${threads} + BLAS ${blasThreads} threads, ${core ?? "detected"} kernels, ${whole ? "whole batch" : "microbatches"}`;

/** Undefined, with a word to the user, when PyTorch is not installed. */
export function peerVersions(): PeerVersions | undefined {
  const { status, stdout, stderr, error } = spawnSync(python, ["-B", script("step.py"), "versions"], { encoding: "utf8" });
  if (status === 0) return JSON.parse(stdout) as PeerVersions;
  console.error(`The peer is missing: expected PyTorch and numpy under ${python}, found ${error?.message ?? stderr.trim().split("\n").at(-1)}. `
    + "Get it: apt-get install -y python3-torch python3-numpy libopenblas0-pthread");
  return undefined;
}

/** Runs `peers/step.py COMMAND ...`; its one line of JSON. Rejects with what Python said. */
export async function runPeer(args: readonly (string | number)[], setting?: PeerSetting): Promise<unknown> {
  const env = { ...process.env, ...(setting ? { OPENBLAS_NUM_THREADS: String(setting.blasThreads) } : {}), ...(setting?.core ? { OPENBLAS_CORETYPE: setting.core } : {}) };
  const { stdout } = await promisify(execFile)(python, ["-B", script("step.py"), ...args.map(String)], { env, maxBuffer: 2 ** 26 });
  return JSON.parse(stdout);
}

/** The BLAS that PyTorch finds, for the report. */
export function blasLibrary(): string {
  const { stdout } = spawnSync("readlink", ["-f", "/usr/lib/x86_64-linux-gnu/libblas.so.3"], { encoding: "utf8" });
  return stdout.trim().split("/").slice(-2).join("/");
}

/** Kernels of OpenBLAS that may be faster than those it picks on a processor younger than itself. */
export function blasCores(): string[] {
  const flags = new Set(/^flags.*$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[0].split(/\s+/));
  return [...(flags.has("avx512bw") ? ["SKYLAKEX"] : []), ...(flags.has("avx512_bf16") ? ["COOPERLAKE"] : [])];
}
