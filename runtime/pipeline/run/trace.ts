/**
 * What the ranks of a run did in some steps, beside what was planned: a trace in Chrome's format (Trace Event Format, Google 2016), which
 * Perfetto and chrome://tracing open.
 *
 * TR-1: a rank is a process of the trace with three rows: what its device did, what its host waited for, and the plan.
 * TR-2: the plan is the schedule simulated with the mean cost of each stage's F, B, I and W in this very trace, begun with each step.
 * TR-3: `readTrace` gives back what `formatTrace` was given, to the nanosecond; the file is all that `octavo explain` needs.
 */
import { RuntimeError } from "../../errors.ts";
import { type Span, type SpanKind, spanKinds } from "../../metrics/index.ts";
import type { RankCosts } from "../schedule/progress.ts";
import { type RankSchedule, computeKinds, formatEntry } from "../schedule/schedule.ts";
import { simulateRanks } from "../schedule/simulate.ts";

export interface RankSpans { rank: string; host: string; spans: readonly Span[] }

/** What a schedule would have done: microseconds. */
export interface PlannedSpan { rank: string; name: string; step: number; begin: number; end: number }

export interface Trace {
  run: string;
  schedule: string;
  ranks: readonly RankSpans[];
  planned: readonly PlannedSpan[];
}

/** The spans of all ranks with the plan beside them. Without a schedule (one process) there is no plan. */
export function traceOf(run: string, ranks: readonly RankSpans[], schedule?: RankSchedule): Trace {
  return { run, schedule: schedule?.name ?? "one process", ranks, planned: schedule ? plannedSpans(ranks, schedule) : [] };
}

/** Mean microseconds of every stage's F, B, I and W. */
export function measuredCosts(ranks: readonly RankSpans[], { stages }: Pick<RankSchedule, "stages">): RankCosts {
  const sums = new Float64Array(stages.length * 4), counts = new Float64Array(stages.length * 4);
  const number = new Map(stages.map(({ name }, i) => [name, i]));
  for (const { kind, stage, name, begin, end } of ranks.flatMap(({ spans }) => spans)) {
    const of = kind === "compute" && stage !== undefined ? number.get(stage) : undefined;
    const what = computeKinds.indexOf(name[0] as (typeof computeKinds)[number]);
    if (of === undefined || what < 0) continue;
    sums[of * 4 + what] += end - begin;
    counts[of * 4 + what]++;
  }
  return { compute: sums.map((sum, i) => (counts[i] > 0 ? sum / counts[i] : 0)) };
}

function plannedSpans(ranks: readonly RankSpans[], schedule: RankSchedule): PlannedSpan[] {
  const { starts, ends } = simulateRanks(schedule, measuredCosts(ranks, schedule), { record: true });
  return stepsOf(ranks).flatMap(({ step, begin }) => schedule.ranks.flatMap((rank, r) =>
    Array.from(schedule.entries[r], (entry, i): PlannedSpan => ({ rank, name: formatEntry(schedule, entry), step, begin: begin + starts![r][i], end: begin + ends![r][i] }))));
}

/** When every step began and ended on the devices, over all ranks, in order. A step lasts until the next begins, where that was traced too. */
export function stepsOf(ranks: readonly RankSpans[]): { step: number; begin: number; end: number }[] {
  const steps = new Map<number, { step: number; begin: number; end: number }>();
  for (const { step, begin, end } of ranks.flatMap(({ spans }) => spans.filter(({ on }) => on === "device"))) {
    const known = steps.get(step);
    if (!known) steps.set(step, { step, begin, end });
    else known.begin = Math.min(known.begin, begin), known.end = Math.max(known.end, end);
  }
  const ordered = [...steps.values()].sort((a, b) => a.step - b.step);
  return ordered.map((one, i) => ({ ...one, end: ordered[i + 1]?.step === one.step + 1 ? ordered[i + 1].begin : one.end }));
}

// ------------------------------------------------------------------------------------------------------------- as a file

/** In a run folder. */
export const traceFile = "trace.json";

const rows = ["device", "host", "plan"] as const;
interface TraceEvent { ph: string; name: string; cat?: string; pid: number; tid: number; ts?: number; dur?: number; args: Record<string, unknown> }

export function formatTrace({ run, schedule, ranks, planned }: Trace): string {
  const origin = Math.min(...ranks.flatMap(({ spans }) => spans.map(({ begin }) => begin)), Infinity);
  const at = (us: number): number => Math.round((us - (Number.isFinite(origin) ? origin : 0)) * 1000) / 1000;
  const number = new Map(ranks.map(({ rank }, i) => [rank, i]));
  const events: TraceEvent[] = ranks.flatMap(({ rank, host, spans }, pid) => [
    { ph: "M", name: "process_name", pid, tid: 0, args: { name: rank, host } },
    { ph: "M", name: "process_sort_index", pid, tid: 0, args: { sort_index: pid } },
    ...rows.map((name, tid): TraceEvent => ({ ph: "M", name: "thread_name", pid, tid, args: { name } })),
    ...spans.map(({ on, kind, name, begin, end, step, stage, microbatch, peer }): TraceEvent =>
      ({ ph: "X", name, cat: kind, pid, tid: rows.indexOf(on), ts: at(begin), dur: Math.round((end - begin) * 1000) / 1000, args: { step, stage, microbatch, peer } })),
  ]);
  const plan = planned.map(({ rank, name, step, begin, end }): TraceEvent =>
    ({ ph: "X", name, cat: "plan", pid: number.get(rank)!, tid: rows.indexOf("plan"), ts: at(begin), dur: at(end) - at(begin), args: { step } }));
  return `${JSON.stringify({ displayTimeUnit: "ms", otherData: { format: "octavo-trace-1", run, schedule }, traceEvents: [...events, ...plan] })}\n`;
}

/** Throws ERR_INPUT for a text that `formatTrace` did not write. */
export function readTrace(text: string, file: string): Trace {
  const refuse = (found: string, cause?: unknown): RuntimeError =>
    new RuntimeError("ERR_INPUT", `${file}: expected a trace written by octavo train --trace, found ${found}.`, { file }, cause === undefined ? undefined : { cause });
  let read: { otherData?: { format?: unknown; run?: unknown; schedule?: unknown }; traceEvents?: unknown };
  try {
    read = JSON.parse(text) as typeof read;
  } catch (cause) {
    throw refuse("no JSON", cause);
  }
  if (read?.otherData?.format !== "octavo-trace-1" || !Array.isArray(read.traceEvents)) throw refuse(`format ${JSON.stringify(read?.otherData?.format ?? null)}`);
  const events = read.traceEvents as TraceEvent[];
  const ranks = events.filter(({ name }) => name === "process_name").map(({ args }) => ({ rank: String(args.name), host: String(args.host), spans: [] as Span[] }));
  const planned: PlannedSpan[] = [];
  for (const { ph, name, cat, pid, tid, ts = 0, dur = 0, args } of events) {
    if (ph !== "X") continue;
    const rank = ranks[pid], step = Number(args.step);
    if (rank === undefined || !Number.isFinite(ts + dur + step)) throw refuse(`an event "${name}" of no rank, or without a time`);
    if (cat === "plan") planned.push({ rank: rank.rank, name, step, begin: ts, end: ts + dur });
    else if ((spanKinds as readonly unknown[]).includes(cat)) rank.spans.push({ ...(args as { step: number }), kind: cat as SpanKind, name, on: tid === 0 ? "device" : "host", begin: ts, end: ts + dur });
    else throw refuse(`an event of kind ${JSON.stringify(cat)}`);
  }
  return { run: String(read.otherData.run), schedule: String(read.otherData.schedule), ranks, planned };
}
