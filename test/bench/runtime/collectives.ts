/**
 * The embedded all-reduce of 64 MB between two processes, against what copying alone would take: each of N members must put 2 (N-1)/N of the
 * tensor into memory that others read (the parts that others sum, then the sums of its own) and take as much out of it. The limit is that
 * many bytes at the speed of a copy (the copy kernel, one thread) that all members run at once, by turns with the sums.
 */
import { type GroupProcesses, startGroup } from "../../runtime/parallel/group-processes.ts";
import { median, report, rounded } from "../report.ts";

const module = new URL("../../runtime/parallel/collective-bodies.ts", import.meta.url);
const barOfTheIssue = 0.5;

async function measured(group: GroupProcesses, size: number, megabytes: number, rounds: number, bar?: number): Promise<void> {
  const bytes = megabytes * 1e6;
  const times = await group.run<{ copies: number[]; sums: number[] }>("timedSums", { elements: bytes / 4, rounds });
  const copyMs = median(times.flatMap(({ copies }) => copies)), ms = median(times.flatMap(({ sums }) => sums));
  const bytesCopied = (4 * (size - 1) * bytes) / size, limitMs = (copyMs * bytesCopied) / bytes;
  report({
    case: `runtime/collectives/all-reduce, ${size} processes, ${megabytes} MB f32`, value: ms, unit: "ms", ratio: limitMs / ms, ...(bar && { bar, ok: limitMs / ms >= bar }),
    limitMs: rounded(limitMs), bytesCopiedByEach: bytesCopied, copyGBs: rounded(bytes / copyMs / 1e6), rounds,
  });
}

export async function measure(): Promise<void> {
  for (const size of [2, 4]) {
    const group = await startGroup({ size, module });
    await measured(group, size, 64, 15, size === 2 ? barOfTheIssue : undefined);
    await measured(group, size, 1, 50);
    await measured(group, size, 0.001, 200);
    await group.end();
  }
}
