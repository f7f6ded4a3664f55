/**
 * A schedule is data: which rank (process) holds which stages, and in which order it computes what. Authors, CSV, rules, simulation and the
 * running ranks have this one form. Compute only: messages follow from it (`messages.ts`), and the optimizer steps after the last entry.
 *
 * RS-1: an entry is one integer, (stage * microbatches + microbatch) * 4 + kind: a schedule of 4,096 ranks and 8,192 microbatches is
 *       270 MB and is walked without touching an object.
 * RS-2: stages are in the order of the plan, so every edge leads from a lower to a higher number. A stage lives on one rank, or with
 *       data copies (`plan/copies.ts`) on as many that follow each other, each with its share of the microbatches.
 * RS-3: stages without a backward (loaders, frozen teachers) have ranks of their own and run ahead; schedules count the others from 0.
 */
import { RuntimeError } from "../../errors.ts";

/** Forward; whole backward; backward to the inputs (I) and to the weights (W), which together are B. */
export const computeKinds = ["F", "B", "I", "W"] as const;
export type ComputeKind = (typeof computeKinds)[number];
export const [kindF, kindB, kindI, kindW] = [0, 1, 2, 3] as const;

/** What a schedule needs to know of a stage; a `StagePlan` says it. */
export interface ScheduleStage { name: string; depth: number; backward: boolean; steps: boolean }
/** And of an edge between stages; a `StageEdge` says it. */
export interface ScheduleEdge { from: string; to: string; gradient: boolean; credits: number }

export interface RankStage {
  name: string;
  /** With copies: of the first. */
  rank: number;
  depth: number;
  backward: boolean;
  steps: boolean;
  /** Data copies; absent: one. */
  copies?: number;
}
/** Edge i of the plan. At most `credits` of its messages are under way in each direction between two ranks. */
export interface RankEdge { from: number; to: number; gradient: boolean; credits: number }

/** Which stages exist, who needs whom, and where they are. */
export interface Placement {
  /** A rank of one stage is called like it. */
  ranks: readonly string[];
  stages: readonly RankStage[];
  edges: readonly RankEdge[];
}

export interface RankSchedule extends Placement {
  name: string;
  microbatches: number;
  /** Per rank, in order (RS-1). */
  entries: readonly Int32Array[];
}

type Parts = { stages: readonly ScheduleStage[]; edges: readonly ScheduleEdge[] };

/** Stages with a backward dealt round to `numRanks` ranks (default: one each), in the order of the plan. */
export function placeStages(plan: Parts, numRanks?: number): Placement {
  const learning = plan.stages.filter((stage) => stage.backward).length, count = numRanks ?? learning;
  if (count > learning) {
    throw new RuntimeError("ERR_SCHEDULE", `schedule: expected at most ${learning} ranks, one for every stage with a backward, found ${count}. Take fewer ranks or more stages.`, { ranks: count, stages: learning });
  }
  return placeAt(plan, (index) => index % count);
}

/** `rankOf`: the rank of the index-th stage that has a backward, from 0, without gaps. */
export function placeAt({ stages, edges }: Parts, rankOf: (index: number) => number): Placement {
  const ahead = stages.filter((stage) => !stage.backward).length;
  let [forwardOnly, index] = [0, 0];
  const placed = stages.map(({ name, depth, backward, steps }): RankStage =>
    ({ name, depth, backward, steps, rank: backward ? ahead + rankOf(index++) : forwardOnly++ }));
  const ranks: string[] = [];
  for (const { rank, name } of placed) ranks[rank] = ranks[rank] === undefined ? name : `rank${rank - ahead}`;
  const number = new Map(placed.map(({ name }, i) => [name, i]));
  return { ranks, stages: placed, edges: edges.map(({ from, to, gradient, credits }) => ({ from: number.get(from)!, to: number.get(to)!, gradient, credits })) };
}

/** The numbers of the stages of every rank, ascending. */
export function stagesOfRanks({ ranks, stages }: Placement): number[][] {
  const held: number[][] = ranks.map(() => []);
  stages.forEach(({ rank, copies = 1 }, index) => { for (let copy = 0; copy < copies; copy++) held[rank + copy].push(index); });
  return held;
}

/** The rank that computes a microbatch of a stage: copies have contiguous shares. */
export const rankAt = ({ rank, copies = 1 }: RankStage, microbatch: number, microbatches: number): number => (copies === 1 ? rank : rank + Math.floor((microbatch * copies) / microbatches));


/** Throws ERR_SCHEDULE when the numbers of a schedule do not fit into 32 bits. */
export function fitsEntries(stages: number, microbatches: number): void {
  if (stages * microbatches * 4 <= 2 ** 31) return;
  throw new RuntimeError("ERR_SCHEDULE", `schedule: expected at most ${2 ** 29} forwards (stages times microbatches), found ${stages} x ${microbatches}. Study a smaller layout.`, { stages, microbatches });
}

/** The number that CSV and people know a stage by: its place among those with a backward; a forward-only stage goes by its name. */
export function stageNumbers(stages: readonly RankStage[]): string[] {
  let number = 0;
  return stages.map((stage) => (stage.backward ? String(number++) : `${stage.name}.`));
}

/** What an entry stands for (RS-1). */
export function entryOf(entry: number, { microbatches }: Pick<RankSchedule, "microbatches">): { stage: number; kind: ComputeKind; microbatch: number } {
  const cell = entry >>> 2, stage = Math.floor(cell / microbatches);
  return { stage, kind: computeKinds[entry & 3], microbatch: cell - stage * microbatches };
}

/** `2B7`: stage 2, whole backward, microbatch 7. */
export function formatEntry({ stages, microbatches }: RankSchedule, entry: number, numbers = stageNumbers(stages)): string {
  const cell = entry >>> 2;
  return `${numbers[Math.floor(cell / microbatches)]}${computeKinds[entry & 3]}${cell % microbatches}`;
}

/** One line per rank; a rank of one stage says only kind and microbatch. The entry at `mark` between > and <, and only what is near it. */
export function formatRows(schedule: RankSchedule, mark?: { rank: number; entry: number }): string {
  const reach = 8, width = Math.max(...schedule.ranks.map((name) => name.length), 0), from = mark ? Math.max(0, mark.entry - reach) : 0;
  const numbers = stageNumbers(schedule.stages), held = stagesOfRanks(schedule);
  const rows = schedule.entries.map((list, rank) => {
    const to = mark ? Math.min(list.length, mark.entry + reach + 1) : list.length;
    const cells = Array.from(list.subarray(from, to), (entry, i) => {
      const { kind, microbatch } = entryOf(entry, schedule), cell = held[rank].length === 1 ? `${kind}${microbatch}` : formatEntry(schedule, entry, numbers);
      return mark?.rank === rank && mark.entry === from + i ? `>${cell}<` : cell;
    });
    if (mark?.rank === rank && mark.entry >= list.length) cells.push(">missing<");
    return [...(from > 0 ? ["..."] : []), ...cells, ...(to < list.length ? ["..."] : [])];
  });
  const columns = Math.max(...rows.map((cells) => cells.length), 0), widths = Array.from({ length: columns }, (_, c) => Math.max(...rows.map((cells) => cells[c]?.length ?? 0)));
  return rows.map((cells, rank) => `  ${schedule.ranks[rank].padEnd(width)}  ${cells.map((cell, c) => cell.padEnd(widths[c])).join("  ")}`.trimEnd()).join("\n");
}
