/**
 * The full joint pre-training step (forward, backward, clip, AdamW) against PyTorch: first the same numbers, then how fast.
 * `npm run bench -- step [--json] [--write] [--preset=tiny|small] [--batch=16] [--steps=8] [--repetitions=5] [--agree-only]`
 *
 * Agreement: per tensor |octavo - peer| <= 1e-4 |peer|, floor 1e-6 of the norm of all; from the recipe's own start and from weights
 * in which nothing is zero. Key biases do not occur in this model.
 * Speed: both sides do the same steps on the same batches, already in memory; the peer has its fastest setting; repetitions alternate.
 */
import { loadavg } from "node:os";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { RuntimeError } from "../../runtime/errors.ts";
import { temporaryFolder } from "../process/octavo.ts";
import { keep, machine, median, report, reportFlags, rounded, say } from "./report.ts";
import { type JointStep, type Preset, openJointStep, presets } from "./peers/joint-step.ts";
import { type PeerSetting, blasCores, blasLibrary, describeSetting, peerVersions, runPeer } from "./peers/peer.ts";

const tolerance = 1e-4;
const bars: Record<Preset, number> = { tiny: 2, small: 2.5 };

const { values: flags } = parseArgs({ options: {
  ...reportFlags, preset: { type: "string", default: "tiny" }, batch: { type: "string", default: "16" },
  steps: { type: "string", default: "8" }, repetitions: { type: "string", default: "5" }, "agree-only": { type: "boolean", default: false },
} });
if (!(flags.preset in presets)) throw new RuntimeError("ERR_INPUT", `--preset: expected ${Object.keys(presets).join(" or ")}, got ${flags.preset}.`);
const preset = flags.preset as Preset;
const [batch, steps, repetitions] = [Number(flags.batch), Number(flags.steps), Number(flags.repetitions)];

const ms = (seconds: number): string => `${(1000 * seconds).toFixed(1)} ms`;

interface Difference { tensor: string; error: number; norm: number }
interface Comparison {
  missing: string[]; tensors: number; losses: Record<string, Record<"octavo" | "peer" | "peer64", number>>; norm: { octavo: number; peer: number };
  octavoVsPeer: Difference[]; octavoVsPeer64: Difference[]; peerVsPeer64: Difference[]; update: Difference[];
}

async function agreement(what: string, folder: string): Promise<boolean> {
  const found = (await runPeer(["compare", folder])) as Comparison;
  const worst = ([first]: Difference[]): string => `${first.error.toExponential(2)} at ${first.tensor} (norm ${first.norm.toExponential(2)})`;
  const lossError = Math.max(...Object.values(found.losses).map(({ octavo, peer }) => Math.abs(octavo - peer) / Math.abs(peer)));
  const ok = found.missing.length === 0 && lossError <= tolerance && found.octavoVsPeer[0].error <= tolerance && found.update[0].error <= tolerance;
  say(`agreement, ${what}: ${ok ? "yes" : "NO"}; ${found.tensors} gradients`);
  for (const [name, { octavo, peer, peer64 }] of Object.entries(found.losses)) say(`  loss ${name.padEnd(4)} octavo ${octavo}  peer ${peer}  peer in f64 ${peer64}`);
  say(`  worst gradient: octavo to peer ${worst(found.octavoVsPeer)}\n    octavo to peer in f64 ${worst(found.octavoVsPeer64)}\n    peer to itself in f64 ${worst(found.peerVsPeer64)}`);
  say(`  norm octavo ${found.norm.octavo} peer ${found.norm.peer}; worst update (clip, AdamW) ${worst(found.update)}`);
  if (found.missing.length > 0) say(`  on one side only: ${found.missing.join(", ")}`);
  if (!ok && !flags.json) for (const { tensor, error, norm } of found.octavoVsPeer.slice(0, 10)) say(`    ${error.toExponential(2)} ${tensor} norm ${norm.toExponential(2)}`);
  report({ case: `step/${preset}/agreement/${what}`, value: rounded(found.octavoVsPeer[0].error), unit: "relative", bar: tolerance, ok,
    worst: found.octavoVsPeer[0].tensor, losses: rounded(lossError), octavoVsPeer64: rounded(found.octavoVsPeer64[0].error), peerVsPeer64: rounded(found.peerVsPeer64[0].error), update: rounded(found.update[0].error) });
  return ok;
}

/** Medians over the steps of one repetition. */
interface Timing { seconds: number; cpu: number }

async function timePeer(folder: string, setting: PeerSetting, steps: number): Promise<Timing> {
  const { seconds, cpu } = (await runPeer(["time", folder, setting.threads, steps, Number(setting.whole)], setting)) as { seconds: number[]; cpu: number[] };
  return { seconds: median(seconds), cpu: median(cpu) };
}

async function timeOctavo(step: JointStep, threads: number): Promise<Timing> {
  await step.useThreads(threads);
  for (let i = 0; i < step.batches.length; i++) await step.time(i);
  const times: Timing[] = [];
  for (let i = 0; i < steps; i++) times.push(await step.time(i));
  return { seconds: median(times.map((time) => time.seconds)), cpu: median(times.map((time) => time.cpu)) };
}

/** The peer's fastest setting: the kernels of its BLAS on one thread, with the best of them the threads, then how it cuts the batch. */
async function fastestPeer(folder: string): Promise<PeerSetting> {
  let best: PeerSetting = { threads: 1, blasThreads: 1, whole: false }, bestSeconds = Infinity;
  const attempt = async (setting: PeerSetting): Promise<void> => {
    const { seconds, cpu } = await timePeer(folder, setting, Math.min(steps, 4));
    say(`  ${describeSetting(setting)}: ${ms(seconds)} (${ms(cpu)} of CPU)`);
    if (seconds < bestSeconds) [best, bestSeconds] = [setting, seconds];
  };
  say("the peer's settings:");
  for (const core of [undefined, ...blasCores()]) await attempt({ ...best, core });
  for (const [threads, blasThreads] of [[1, 2], [2, 1], [2, 2]]) await attempt({ ...best, threads, blasThreads });
  await attempt({ ...best, whole: true });
  return best;
}

async function speed(step: JointStep, folder: string): Promise<void> {
  const setting = await fastestPeer(folder);
  const peer: Timing[] = [], one: Timing[] = [], two: Timing[] = [];
  for (let repetition = 0; repetition < repetitions; repetition++) {
    peer.push(await timePeer(folder, setting, steps));
    one.push(await timeOctavo(step, 1));
    two.push(await timeOctavo(step, 2));
    const [p, o, t] = [peer, one, two].map((times) => `${ms(times.at(-1)!.seconds)} (${ms(times.at(-1)!.cpu)} of CPU)`);
    say(`repetition ${repetition}: peer ${p}, octavo ${o} with one thread, ${t} with two; load ${loadavg()[0].toFixed(1)}`);
  }
  const clock = (times: Timing[]): number => median(times.map((time) => time.seconds)), cpu = (times: Timing[]): number => median(times.map((time) => time.cpu));
  const octavo = Math.min(clock(one), clock(two)), ratio = clock(peer) / octavo;
  say(`peer at its best (${describeSetting(setting)}) ${ms(clock(peer))}, octavo ${ms(octavo)}: ${ratio.toFixed(2)} times faster, bar ${bars[preset]}`);
  report({ case: `step/${preset}/f32`, value: rounded(1000 * octavo), unit: "ms", ratio: rounded(ratio), bar: bars[preset], ok: ratio >= bars[preset],
    peer: rounded(1000 * clock(peer)), oneThread: rounded(1000 * clock(one)), twoThreads: rounded(1000 * clock(two)),
    cpu: { peer: rounded(1000 * cpu(peer)), oneThread: rounded(1000 * cpu(one)), twoThreads: rounded(1000 * cpu(two)) },
    setting: describeSetting(setting), batch, steps, repetitions, load: rounded(loadavg()[0]) });
}

const versions = peerVersions();
if (!versions) {
  report({ case: `step/${preset}/f32`, value: 0, unit: "ms", ratio: 0, bar: bars[preset], ok: false, reason: "the peer is not installed: apt-get install -y python3-torch python3-numpy libopenblas0-pthread" });
} else {
  const { cpu, cores, isa, gemm, node } = machine();
  say(`${cpu}, ${cores} cores, ${isa.join(" ")}; ${gemm}; node ${node}`);
  say(`torch ${versions.torch} (${versions.isa}, fused attention: ${versions.fusedAttention ? "yes" : "no"}), BLAS ${blasLibrary()}; preset ${preset}, batch ${batch}, load ${loadavg()[0].toFixed(1)}`);
  const folder = temporaryFolder();
  try {
    for (const what of ["filled", "start"] as const) {
      const step = await openJointStep(preset, { batch, microbatches: Math.min(4, batch), batches: 4, filled: what === "filled" });
      try {
        await step.useThreads(2);
        const path = join(folder.path, what);
        mkdirSync(path);
        await step.write(path);
        await agreement(what, path);
        if (what === "start" && !flags["agree-only"]) await speed(step, path);
      } finally {
        await step.close();
      }
    }
  } finally {
    folder.remove();
  }
}
keep("step", "The joint pre-training step against PyTorch");
