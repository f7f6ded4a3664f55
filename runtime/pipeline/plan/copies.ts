/**
 * Schedules of slots that have data copies: what each copy computes, from what the slot as a whole would.
 *
 * RX-1: where all slots that learn have the same number of copies d, they are d pipelines side by side: authored with a d-th of the
 *       microbatches, each copy with its own share. What only runs forward serves the copies in turn.
 * RX-2: else the schedule is authored with all microbatches, numbered so that neighbours belong to different copies, and every copy takes
 *       the subsequence of its own. A subsequence of an order that can finish can finish: whatever it waits for came before.
 * RX-3: a schedule that somebody wrote (CSV) keeps its numbers: copies take their subsequence.
 */
import { type Layout, copyOf, ranksOf } from "./layout.ts";
import type { RankAuthor } from "../schedule/authors.ts";
import { type Placement, type RankSchedule, type RankStage, fitsEntries } from "../schedule/schedule.ts";

/** `layouts`: of every slot, in the order of the placement's ranks. A row per data copy; the ranks of a copy all do the same. */
export function authorCopies(author: RankAuthor, placement: Placement, microbatches: number, layouts: readonly Layout[]): RankSchedule {
  const copies = [...new Set(layouts.filter((_, slot) => learns(placement, slot)).map(({ data }) => data))];
  if (layouts.every(({ data }) => data === 1)) return calledAsLeaders(author(placement, microbatches), layouts);
  if (copies.length > 1) {
    const turn = inTurn(copies.reduce(leastCommonMultiple, 1), microbatches);
    return takeOwn(author(placement, microbatches), layouts, turn);
  }
  const d = copies[0] ?? 1, share = microbatches / d, own = author(placement, share), turn = inTurn(d, microbatches);
  return expand(own, layouts, microbatches, (slot, copy) => (learns(own, slot)
    ? own.entries[slot].map((entry) => renumber(entry, share, microbatches, (m) => copy * share + m))
    : forwardsInTurn(own, slot, microbatches, turn).filter((entry) => ownedBy(entry, microbatches, layouts[slot].data) === copy)));
}

/** RX-3, and RX-2 with the numbers that `turn` gives. */
export function takeOwn(schedule: RankSchedule, layouts: readonly Layout[], turn: (microbatch: number) => number = (m) => m): RankSchedule {
  if (layouts.every(({ data }) => data === 1)) return calledAsLeaders(schedule, layouts);
  const { microbatches, entries } = schedule;
  return expand(schedule, layouts, microbatches, (slot, copy) => entries[slot].map((entry) => renumber(entry, microbatches, microbatches, turn))
    .filter((entry) => ownedBy(entry, microbatches, layouts[slot].data) === copy));
}

function expand(own: RankSchedule, layouts: readonly Layout[], microbatches: number, row: (slot: number, copy: number) => Int32Array): RankSchedule {
  fitsEntries(own.stages.length, microbatches);
  const first: number[] = [], ranks: string[] = [], entries: Int32Array[] = [];
  own.ranks.forEach((name, slot) => {
    first.push(ranks.length);
    leadersOf(name, layouts[slot]).forEach((leader, copy) => { ranks.push(leader); entries.push(row(slot, copy)); });
  });
  const stages = own.stages.map(({ rank, ...stage }): RankStage => ({ ...stage, rank: first[rank], copies: layouts[rank].data }));
  return { ...own, microbatches, ranks, stages, entries };
}

/** A row is called like the rank that speaks for it. */
const leadersOf = (name: string, layout: Layout): string[] => ranksOf({ name, stages: [], learns: true, layout }).filter(({ tensor, context }) => tensor === 0 && context === 0).map((leader) => leader.name);
const calledAsLeaders = (schedule: RankSchedule, layouts: readonly Layout[]): RankSchedule => ({ ...schedule, ranks: schedule.ranks.flatMap((name, slot) => leadersOf(name, layouts[slot])) });

const learns = ({ stages }: Placement, slot: number): boolean => stages.some((stage) => stage.rank === slot && stage.backward);
const ownedBy = (entry: number, microbatches: number, data: number): number => copyOf((entry >>> 2) % microbatches, microbatches, data);

/** The v-th microbatch when d shares take turns: 0, M/d, 2M/d, ..., 1, M/d + 1, ... */
const inTurn = (d: number, microbatches: number) => (v: number): number => (v % d) * (microbatches / d) + Math.floor(v / d);

function renumber(entry: number, from: number, to: number, microbatch: (m: number) => number): number {
  const cell = entry >>> 2, stage = Math.floor(cell / from);
  return (stage * to + microbatch(cell % from)) * 4 + (entry & 3);
}

function forwardsInTurn({ stages }: Placement, slot: number, microbatches: number, turn: (v: number) => number): Int32Array {
  const held = stages.flatMap((stage, index) => (stage.rank === slot ? [index] : []));
  return Int32Array.from({ length: held.length * microbatches }, (_, i) => (held[i % held.length] * microbatches + turn(Math.floor(i / held.length))) * 4);
}

function leastCommonMultiple(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y > 0) [x, y] = [y, x % y];
  return (a / x) * b;
}
