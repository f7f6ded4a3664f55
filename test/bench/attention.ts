/**
 * Attention forward and backward at N tokens: how fast, how much memory, and against PyTorch where that is installed.
 * `npm run bench -- attention [--json] [--write] [--tokens=2048] [--rounds=7] [--no-peer]`
 *
 * Best of the rounds on both sides, alternating; the peer has its fastest kernels of its BLAS and of 1 or 2 threads of torch and BLAS. Memory: the
 * pool's tensors above q, k, v, dy and the gradients, and the growth of the resident set over the first round, the kernels' own buffers included.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Tape } from "../../runtime/autograd/index.ts";
import * as ops from "../../runtime/ops/index.ts";
import { Scope, type Tensor, configureDevice, fence, fromArray, memory } from "../../runtime/tensor/index.ts";
import { noise } from "../native-cuda/device.ts";
import { blasCores, peerVersions } from "./peers/peer.ts";
import { keep, machine, report, reportFlags, rounded, say } from "./report.ts";

const { values: flags } = parseArgs({ options: {
  ...reportFlags, tokens: { type: "string", default: "2048" }, rounds: { type: "string", default: "7" }, "no-peer": { type: "boolean", default: false },
} });
const N = Number(flags.tokens), rounds = Number(flags.rounds), H = 8, K = 64;
const bars = { speed: 2, memory: 8 };

type Rules = Omit<ops.AttentionInput, "q" | "k" | "v" | "heads">;
/** The share of all N x N pairs that are seen: what the products have to do at least. */
interface Case { name: string; rules: Rules; share: number; peer?: boolean }
const cases: Case[] = [
  { name: "full", rules: {}, share: 1, peer: true },
  { name: "causal", rules: { causal: true }, share: 1 / 2, peer: true },
  { name: "window of N/8", rules: { causal: true, window: N / 8 }, share: 1 / 8 },
  { name: "groups of N/4, split", rules: { groups: { size: N / 4 } }, share: 1 / 4 },
  { name: "dropout", rules: { dropout: { p: 0.1, sampleIds: [1], seed: 1, step: 1, site: 1 } }, share: 1 },
];

interface Peer { seconds: number; bytes: number; torch: string }
function runPeer(threads: number, blas: number, core: string | undefined, causal: boolean, count: number): Peer | undefined {
  const script = fileURLToPath(new URL("peers/attention.py", import.meta.url));
  const { status, stdout, stderr } = spawnSync("/usr/bin/python3", [script, ...[N, H, K, threads, count, Number(causal)].map(String)],
    { encoding: "utf8", env: { ...process.env, OPENBLAS_NUM_THREADS: String(blas), ...(core ? { OPENBLAS_CORETYPE: core } : {}) } });
  if (status === 0) return JSON.parse(stdout) as Peer;
  console.error(`the peer with ${threads} threads${core ? `, ${core} kernels` : ""} ended with ${status}:\n${stderr}`);
  return undefined;
}

/** The fastest setting of the peer for as many threads as we have: kernels of its BLAS first, then with the best of them the threads. */
function fastestPeer(threads: number, causal: boolean): Peer | undefined {
  const tried: { peer: Peer; core: string | undefined }[] = [];
  const attempt = (torch: number, blas: number, core: string | undefined): void => {
    const peer = runPeer(torch, blas, core, causal, 3);
    if (peer) tried.push({ peer, core });
    tried.sort((a, b) => a.peer.seconds - b.peer.seconds);
  };
  for (const core of [undefined, ...blasCores()]) attempt(threads, threads, core);
  if (threads > 1) for (const [torch, blas] of [[1, 1], [1, 2], [2, 1]]) attempt(torch, blas, tried[0]?.core);
  return tried[0]?.peer;
}

const hasPeer = !flags["no-peer"] && peerVersions() !== undefined;
const inputs = new Scope("inputs");
const [q, k, v, dy] = inputs.enter(() => [1, 2, 3, 4].map((seed) => fromArray(Float32Array.from(noise([N * H * K], seed).data), [1, N, H * K])));

/** Seconds of forward and backward; the tensors in use at most, in bytes. */
async function step(rules: Rules): Promise<{ seconds: number; bytes: number }> {
  const scope = new Scope("step"), tape = new Tape();
  await fence();
  const before = memory(), start = performance.now();
  const gradients: (Tensor | undefined)[] = scope.enter(() => {
    for (const x of [q, k, v]) tape.watch(x);
    const y = tape.record(() => ops.attention({ q, k, v, heads: H, ...rules }));
    const found = tape.backward([[y, dy]]);
    return [q, k, v].map((x) => found.get(x));
  });
  await fence();
  const seconds = (performance.now() - start) / 1000, bytes = memory().bytesInUse - before.bytesInUse - gradients.reduce((sum, t) => sum + 4 * (t?.size ?? 0), 0);
  scope.close();
  return { seconds, bytes };
}

const { cpu, gemm } = machine();
say(`${cpu}; N ${N}, ${H} heads of ${K}, f32; ${gemm}`);
let firstGrowth: number | undefined;
for (const { name, rules, share, peer } of cases) {
  for (const threads of [1, 2]) {
    await fence();
    configureDevice({ threads });
    const resident = process.resourceUsage().maxRSS;
    const { bytes } = await step(rules); // warm
    firstGrowth ??= (process.resourceUsage().maxRSS - resident) * 1024;
    let seconds = Infinity;
    for (let round = 0; round < rounds; round++) seconds = Math.min(seconds, (await step(rules)).seconds);
    const other = peer && hasPeer ? fastestPeer(threads, Boolean(rules.causal)) : undefined;
    const ratio = other && other.seconds / seconds;
    const gflops = (14 * H * N * N * K * share) / seconds / 1e9, squares = bytes / (4 * H * N * N);
    const note = `${gflops.toFixed(0)} GFLOP/s, ${(bytes / 1e6).toFixed(1)} MB held, ${(100 * squares).toFixed(1)} % of H N N${other ? `, PyTorch ${other.torch} ${(other.seconds * 1000).toFixed(0)} ms` : ""}`;
    report({ case: `attention/${name}/${threads} threads`, value: seconds * 1000, unit: "ms", gflops: rounded(gflops), bytes, ofSquare: rounded(squares), note,
      ...(other && ratio ? { ratio, peer: rounded(other.seconds * 1000) } : {}), ...(ratio && name === "full" ? { bar: bars.speed, ok: ratio >= bars.speed } : {}) });
    if (name === "full" && threads === 1 && other)
      report({ case: "attention/full/memory", value: firstGrowth / 1e6, unit: "MB", peer: rounded(other.bytes / 1e6), ratio: other.bytes / firstGrowth, bar: bars.memory, ok: other.bytes / firstGrowth >= bars.memory,
        note: `of resident set more in the first round, PyTorch ${(other.bytes / 1e6).toFixed(0)} MB` });
  }
}
inputs.close();
keep("attention", "Attention forward and backward against PyTorch");
