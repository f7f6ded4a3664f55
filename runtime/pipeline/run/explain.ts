/**
 * Where the time of traced steps went, rank by rank and by cause.
 *
 * EX-1: every moment of a rank is one of: what its device did (the kind of its span); else what its host waited for; else `launching`
 *       between its first and its last entry of the schedule, `between steps` before and after (others are not there yet, the norm is being
 *       added up). The shares of a rank add up to 1.
 * EX-2: a moment in which a rank waits for another's tensor or credit has a first cause: whoever is at work at the end of the chain of
 *       those who wait for each other. A chain that closes, or ends at a rank that neither works nor waits, ends there.
 */
import { type Span, type SpanKind, spanKinds } from "../../metrics/index.ts";
import { table } from "../plan/report.ts";
import { type RankSpans, type Trace, stepsOf } from "./trace.ts";

export type Cause = SpanKind | "launching" | "between steps";
const causes: readonly Cause[] = [...spanKinds, "launching", "between steps"];

export interface RankExplanation {
  rank: string;
  /** Share of the steps' time per cause (EX-1). */
  shares: Partial<Record<Cause, number>>;
  /** Of the time spent waiting for others: who was at work meanwhile, as shares of the steps' time, the largest first (EX-2). */
  waitedFor: { rank: string; what: Cause; share: number }[];
}

export interface Explanation {
  run: string;
  schedule: string;
  steps: number[];
  /** Mean of a step, and of the plan's last end. */
  stepMs: number;
  plannedMs?: number;
  ranks: RankExplanation[];
}

/** One rank's spans, walked with time: the innermost of the device's, else the wait that holds things up. */
class Walk {
  readonly #device: readonly Span[];
  readonly #host: readonly Span[];
  #d = 0;
  #h = 0;

  constructor(spans: readonly Span[]) {
    this.#device = spans.filter(({ on }) => on === "device").sort((a, b) => a.begin - b.begin);
    this.#host = spans.filter(({ on }) => on === "host").sort((a, b) => a.begin - b.begin);
  }

  /** The span under way at `time`; times never go back. */
  at(time: number): Span | undefined {
    while (this.#d < this.#device.length && this.#device[this.#d].end <= time) this.#d++;
    let device: Span | undefined; // the innermost
    for (let i = this.#d; i < this.#device.length && this.#device[i].begin <= time; i++) if (this.#device[i].end > time) device = this.#device[i];
    if (device) return device;
    while (this.#h < this.#host.length && this.#host[this.#h].end <= time) this.#h++;
    // of several waits at once the last to end is the one that holds things up
    const waits = this.#host.slice(this.#h).filter(({ begin, end }) => begin <= time && time < end);
    return waits.reduce<Span | undefined>((last, span) => (last && last.end >= span.end ? last : span), undefined);
  }
}

export function explainTrace({ run, schedule, ranks, planned }: Trace): Explanation {
  const steps = stepsOf(ranks);
  const tallies = ranks.map(() => ({ shares: new Map<Cause, number>(), waitedFor: new Map<string, { rank: string; what: Cause; share: number }>() }));
  const total = steps.reduce((sum, { begin, end }) => sum + end - begin, 0);
  for (const window of steps) tally(window, ranks, tallies);
  const share = (us: number): number => (total > 0 ? us / total : 0);
  const ends = steps.map(({ step, begin }) => planned.filter((one) => one.step === step).reduce((latest, { end }) => Math.max(latest, end - begin), 0));
  return {
    run, schedule, steps: steps.map(({ step }) => step), stepMs: total / Math.max(1, steps.length) / 1000,
    plannedMs: planned.length > 0 ? ends.reduce((sum, end) => sum + end, 0) / ends.length / 1000 : undefined,
    ranks: ranks.map(({ rank }, i) => ({
      rank, shares: Object.fromEntries(causes.flatMap((cause) => (tallies[i].shares.has(cause) ? [[cause, share(tallies[i].shares.get(cause)!)]] : []))),
      waitedFor: [...tallies[i].waitedFor.values()].map((one) => ({ ...one, share: share(one.share) })).sort((a, b) => b.share - a.share),
    })),
  };
}

interface Tally { shares: Map<Cause, number>; waitedFor: Map<string, { rank: string; what: Cause; share: number }> }

function tally({ step, begin, end }: { step: number; begin: number; end: number }, ranks: readonly RankSpans[], tallies: readonly Tally[]): void {
  const of = ranks.map(({ spans }) => spans.filter((span) => span.begin < end && span.end > begin));
  const walks = of.map((spans) => new Walk(spans));
  const worked = of.map((spans) => spans.filter((span) => span.step === step && (span.kind === "compute" || span.kind === "transfer")))
    .map((spans) => ({ from: Math.min(...spans.map((span) => span.begin), Infinity), to: Math.max(...spans.map((span) => span.end), -Infinity) }));
  const number = new Map(ranks.map(({ rank }, i) => [rank, i]));
  const times = [...new Set([begin, ...of.flat().flatMap((span) => [span.begin, span.end]), end])].filter((t) => t >= begin && t <= end).sort((a, b) => a - b);
  for (let i = 0; i + 1 < times.length; i++) {
    const middle = (times[i] + times[i + 1]) / 2, lasted = times[i + 1] - times[i];
    const now = walks.map((walk) => walk.at(middle));
    const causeOf = (rank: number): Cause => now[rank]?.kind ?? (middle > worked[rank].from && middle < worked[rank].to ? "launching" : "between steps");
    tallies.forEach(({ shares, waitedFor }, rank) => {
      const cause = causeOf(rank);
      shares.set(cause, (shares.get(cause) ?? 0) + lasted);
      const first = waitsForPeer(now[rank]) ? firstCause(rank, now, number) : undefined;
      if (first === undefined) return;
      const what = causeOf(first), key = `${first} ${what}`, known = waitedFor.get(key);
      if (known) known.share += lasted;
      else waitedFor.set(key, { rank: ranks[first].rank, what, share: lasted });
    });
  }
}

const waitsForPeer = (span: Span | undefined): boolean => span?.on === "host" && span.peer !== undefined && (span.kind === "wait-for-input" || span.kind === "wait-for-credit");

/** The rank at the end of the chain of those who wait (EX-2). */
function firstCause(from: number, now: readonly (Span | undefined)[], number: ReadonlyMap<string, number>): number {
  const seen = new Set([from]);
  for (let rank = from; ;) {
    const next = waitsForPeer(now[rank]) ? number.get(now[rank]!.peer!) : undefined;
    if (next === undefined || seen.has(next)) return rank;
    seen.add(rank = next);
  }
}

// ------------------------------------------------------------------------------------------------------------- in words

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

export function formatExplanation({ run, schedule, steps, stepMs, plannedMs, ranks }: Explanation): string {
  const shown = causes.filter((cause) => ranks.some(({ shares }) => (shares[cause] ?? 0) > 0));
  const works = (one: RankExplanation): number => one.shares.compute ?? 0;
  const busiest = ranks.reduce((most, one) => (works(one) > works(most) ? one : most), ranks[0]);
  return [
    `${run}: ${steps.length === 1 ? `step ${steps[0] + 1}` : `steps ${steps[0] + 1} to ${steps[steps.length - 1] + 1}`}, ${stepMs.toFixed(1)} ms each; schedule ${schedule}${plannedMs === undefined ? "" : `, by the plan with these costs ${plannedMs.toFixed(1)} ms`}`,
    "", ...table(["rank", ...shown], ranks.map(({ rank, shares }) => [rank, ...shown.map((cause) => (shares[cause] ? percent(shares[cause]) : "-"))]), shown.map((_, i) => i + 1)),
    "", ...(ranks.length > 1 && busiest ? [`${busiest.rank} computes most: ${percent(works(busiest))} of a step.`] : []),
    ...ranks.flatMap(({ rank, waitedFor }) => {
      const told = waitedFor.filter(({ share }) => share >= 0.01).slice(0, 4);
      return told.length === 0 ? [] : [`${rank} waited ${told.map(({ rank: other, what, share }) => `${percent(share)} while ${other === rank ? "nobody it waits for was at work" : `${other}: ${what}`}`).join(", ")}.`];
    }),
  ].join("\n");
}
