/**
 * Where the joint step's time goes, kernel by kernel. No bar: it is read before something is made faster.
 * `npm run bench -- profile [--json] [--write] [--preset=small] [--batch=4] [--microbatches=2] [--steps=4] [--threads=1] [--precision=f32|bf16] [--top=15] [--shapes] [--eager]`
 *
 * The step is compiled, as training's is (`--eager` leaves that out); its batches take turns and each has been replayed before the clock starts.
 * A case is a kernel's milliseconds per step, by the clock and (cpu) of the stream's thread alone (with --shapes: a kernel with one set of operand shapes), its share, its GB/s (operands' bytes, each once)
 * and, for products, GFLOP/s (on one thread by its CPU time, so that others on the machine do not count). "outside of kernels" is the rest of the step by the clock: JavaScript, copies, waiting.
 */
import { parseArgs } from "node:util";
import { RuntimeError } from "../../runtime/errors.ts";
import { native } from "../../runtime/native.ts";
import { type Precision, precisions, sizeOf } from "../../runtime/tensor/index.ts";
import { type Preset, openJointStep } from "./peers/joint-step.ts";
import { keep, report, reportFlags, rounded, say } from "./report.ts";

const { values: flags } = parseArgs({ options: {
  ...reportFlags, preset: { type: "string", default: "small" }, batch: { type: "string", default: "4" }, microbatches: { type: "string", default: "2" }, steps: { type: "string", default: "4" },
  threads: { type: "string", default: "1" }, top: { type: "string", default: "15" }, precision: { type: "string", default: "f32" }, shapes: { type: "boolean", default: false }, eager: { type: "boolean", default: false },
} });
const batches = 2, steps = Number(flags.steps), batch = Number(flags.batch), threads = Number(flags.threads);
if (!precisions.some((known) => known === flags.precision)) throw new RuntimeError("ERR_INPUT", `--precision: expected ${precisions.join(" or ")}, got ${flags.precision}.`);

interface Share { name: string; calls: number; ms: number; cpu: number; bytes: number; flop: number }

/** Multiplications and additions of a product kernel by its first operands; 0 for the others. */
function flopOf(kernel: string, operands: string): number {
  const shapes = [...operands.matchAll(/\(([\d, ]*)\)/g)].map(([, list]) => list.split(",").map(Number));
  const [a, b, c] = shapes;
  if (kernel === "linear_forward") return 2 * sizeOf(a) * b[0];
  if (kernel === "linear_backward_input") return 2 * sizeOf(a) * b[b.length - 1];
  if (kernel === "linear_backward_weight") return 2 * sizeOf(a) * b[b.length - 1];
  if (kernel === "attention_forward") return 4 * sizeOf(a) * b[b.length - 2];
  return kernel === "attention_backward" ? 10 * sizeOf(b) * c[c.length - 2] : 0;
}

const step = await openJointStep(flags.preset as Preset, { batch, microbatches: Number(flags.microbatches), batches, filled: false, precision: flags.precision as Precision, compile: !flags.eager });
try {
  await step.useThreads(threads);
  for (let i = 0; i < 4 * batches; i++) await step.time(i);
  native().timings(true);
  let seconds = 0;
  for (let i = 0; i < steps; i++) seconds += (await step.time(i)).seconds;
  const rows = native().timings(false), shares = new Map<string, Share>(), whole = (1000 * seconds) / steps;
  for (const { kernel, operands, calls, milliseconds, cpu, bytes } of rows) {
    const name = flags.shapes ? `${kernel} ${operands}` : kernel, share = shares.get(name) ?? { name, calls: 0, ms: 0, cpu: 0, bytes: 0, flop: 0 };
    shares.set(name, { name, calls: share.calls + calls / steps, ms: share.ms + milliseconds / steps, cpu: share.cpu + cpu / steps, bytes: share.bytes + bytes / steps, flop: share.flop + (calls * flopOf(kernel, operands)) / steps });
  }
  const sorted = [...shares.values()].sort((a, b) => b.ms - a.ms), inKernels = sorted.reduce((sum, { ms }) => sum + ms, 0);
  say(`${flags.preset}, batch ${batch}, ${threads} threads: ${whole.toFixed(0)} ms a step, ${inKernels.toFixed(0)} ms of it in kernels`);
  const percent = (ms: number): string => `${((100 * ms) / whole).toFixed(1)} %`;
  for (const { name, calls, ms, cpu, bytes, flop } of sorted.slice(0, Number(flags.top)))
    report({ case: `profile/${flags.preset}/${flags.precision}/${name}`, value: ms, unit: "ms", share: percent(ms), cpu: rounded(cpu), calls: rounded(calls), gigabytesPerSecond: rounded(bytes / (threads === 1 ? cpu : ms) / 1e6), ...(flop ? { gflops: rounded(flop / (threads === 1 ? cpu : ms) / 1e6) } : {}) });
  report({ case: `profile/${flags.preset}/${flags.precision}/outside of kernels`, value: whole - inKernels, unit: "ms", share: percent(whole - inKernels) });
} finally {
  await step.close();
}
keep("profile", "Where the joint step's time goes");
