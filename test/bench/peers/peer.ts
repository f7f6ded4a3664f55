/** The peer of benchmarks: PyTorch from Debian, under the system's Python. Nothing outside `npm run bench` needs it. */
import { execFile, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const python = "/usr/bin/python3";
const script = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

export interface PeerVersions { torch: string; numpy: string; fusedAttention: boolean; isa: string }

/** f32; autocast: f32 parameters and torch.autocast to bfloat16; bf16: everything, the parameters too, as bfloat16. */
export type PeerMode = "f32" | "autocast" | "bf16";
/**
 * How the peer is run: what it computes in, threads of torch, threads and kernels of its BLAS, the batch whole or as microbatches, and
 * whether malloc keeps freed memory (glibc gives large blocks back to the system otherwise, and every one costs page faults again).
 */
export interface PeerSetting { mode: PeerMode; threads: number; blasThreads: number; core?: string; whole: boolean; keepMemory: boolean }

export const describeSetting = ({ mode, threads, blasThreads, core, whole, keepMemory }: PeerSetting): string =>
  `${mode}, torch ${threads} + BLAS ${blasThreads} threads, ${core ?? "detected"} kernels, ${whole ? "whole batch" : "microbatches"}${keepMemory ? ", malloc keeps memory" : ""}`;

const install = "Get it: apt-get install -y python3-torch python3-numpy libopenblas0-pthread";

/** Undefined, with a word to the user, when PyTorch is not installed, or has only the reference BLAS, an order of magnitude below what it can do. */
export function peerVersions(): PeerVersions | undefined {
  if (!/openblas|mkl|blis/.test(blasLibrary())) {
    console.error(`The peer's BLAS is ${blasLibrary()}: expected OpenBLAS, a comparison with anything slower says nothing. ${install}`);
    return undefined;
  }
  const { status, stdout, stderr, error } = spawnSync(python, ["-B", script("step.py"), "versions"], { encoding: "utf8" });
  if (status === 0) return JSON.parse(stdout) as PeerVersions;
  console.error(`The peer is missing: expected PyTorch and numpy under ${python}, found ${error?.message ?? stderr.trim().split("\n").at(-1)}. `
    + install);
  return undefined;
}

/** Runs `peers/step.py COMMAND ...`; its one line of JSON. Rejects with what Python said. */
export async function runPeer(args: readonly (string | number)[], setting?: PeerSetting): Promise<unknown> {
  const env = { ...process.env, ...(setting ? { OPENBLAS_NUM_THREADS: String(setting.blasThreads) } : {}), ...(setting?.core ? { OPENBLAS_CORETYPE: setting.core } : {}),
    ...(setting?.keepMemory ? { MALLOC_MMAP_MAX_: "0", MALLOC_TRIM_THRESHOLD_: String(2 ** 34), MALLOC_TOP_PAD_: String(2 ** 26) } : {}) };
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
