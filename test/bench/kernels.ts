/**
 * How fast each kernel is alone, and whether norms, activations and optimizers reach what memory gives.
 * `npm run bench -- kernels [--json] [--write] [--only=NAME,NAME] [--megabytes=128] [--rounds=10]`
 *
 * kernels/memory/...: arrays of 128 MB each, several times the last cache, against STREAM's copy on as many threads, measured in the
 *   same run before, between and after (the best counts). Both are counted as McCalpin does, bytes read plus bytes written. The bar takes
 *   the copy with ordinary stores, as STREAM's loop is written. Optimizers, which update in place, store so; norms and activations stream
 *   outputs larger than the last-level cache (floats.h, FL-2): for them `ofStreaming`, the share of the copy that goes around the caches
 *   too, is the stricter figure.
 * kernels/cache/...: 4096 x 256, no bar: GB/s, or GFLOP/s where the time is in products. There is a row for every kernel of the engine.
 * OCTAVO_GEMM=portable measures the products without oneDNN. Best of the rounds.
 */
import { parseArgs } from "node:util";
import { native } from "../../runtime/native.ts";
import { temporaryFolder } from "../process/octavo.ts";
import { measure } from "./kernels/measure.ts";
import { type Row, everyRow, memoryRows, optimizerRows, withoutRow } from "./kernels/rows.ts";
import { type CopySpeed, streamCopy } from "./peers/stream-copy.ts";
import { keep, report, reportFlags, rounded } from "./report.ts";

const threadCounts = [1, 2], bar = 0.8, width = 256;
const { values: flags } = parseArgs({ options: { ...reportFlags, only: { type: "string", default: "" }, megabytes: { type: "string", default: "128" }, rounds: { type: "string", default: "10" } } });
const only = flags.only.split(",").filter(Boolean), rounds = Number(flags.rounds), arrayBytes = Number(flags.megabytes) * 2 ** 20;
const wanted = (rows: Row[]): Row[] => rows.filter(({ kernel }) => only.length === 0 || only.includes(kernel));
const threadsOf = (threads: number): string => `${threads} thread${threads === 1 ? "" : "s"}`;

async function memory(): Promise<void> {
  const folder = temporaryFolder();
  try {
    const copy = streamCopy(folder.path), best = new Map<number, CopySpeed>();
    const measureCopy = (): void => threadCounts.forEach((threads) => {
      const { ordinary, streaming } = copy(threads, arrayBytes), before = best.get(threads);
      best.set(threads, { ordinary: Math.max(ordinary, before?.ordinary ?? 0), streaming: Math.max(streaming, before?.streaming ?? 0) });
    });
    const found: { name: string; row: Row; seconds: Map<number, number> }[] = [];
    const groups = [["f32", memoryRows(arrayBytes / 4 / width, width, "f32")], ["f32", optimizerRows(arrayBytes / 4 / width, width)], ["bf16", memoryRows(arrayBytes / 2 / width, width, "bf16")]] as const;
    for (const [dtype, rows] of groups) {
      measureCopy();
      for (const row of wanted(rows)) found.push({ name: `${row.kernel}/${dtype}`, row, seconds: await measure(row, threadCounts, { rounds, roundMs: 1 }) });
    }
    measureCopy();
    for (const [threads, { ordinary, streaming }] of best) {
      report({ case: `kernels/stream copy/${threadsOf(threads)}`, value: ordinary, unit: "GB/s" });
      report({ case: `kernels/stream copy, streaming stores/${threadsOf(threads)}`, value: streaming, unit: "GB/s" });
    }
    for (const { name, row, seconds } of found)
      for (const [threads, each] of seconds) {
        const value = row.bytes / each / 1e9, { ordinary, streaming } = best.get(threads)!;
        report({ case: `kernels/memory/${name}/${threadsOf(threads)}`, value, unit: "GB/s", ratio: value / ordinary, bar, ok: value / ordinary >= bar, ofStreaming: rounded(value / streaming), ms: rounded(1000 * each) });
      }
  } finally {
    folder.remove();
  }
}

async function everyKernel(): Promise<void> {
  const rows = everyRow(4096, width);
  for (const row of wanted(rows))
    for (const [threads, seconds] of await measure(row, threadCounts, { rounds: 5, roundMs: 2 })) {
      const [amount, unit] = row.flop === undefined ? [row.bytes, "GB/s"] : [row.flop, "GFLOP/s"];
      report({ case: `kernels/cache/${row.kernel}/${threadsOf(threads)}`, value: amount / seconds / 1e9, unit, us: rounded(1e6 * seconds) });
    }
  const missing = withoutRow(native().kernels(), rows);
  report({ case: "kernels/without a row", value: missing.length, unit: "kernels", bar: 0, ok: missing.length === 0, ...(missing.length ? { missing } : {}) });
}

await memory();
await everyKernel();
keep("kernels", "Kernels against what memory and cores can do");
