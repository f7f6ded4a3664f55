/**
 * A schedule of ranks: which rank holds which stages, and in which order it computes what. Compute only; sends and receives follow from it.
 *
 * RS-1: an entry is one integer, (stage * microbatches + microbatch) * 4 + kind: a schedule of 4,096 ranks and 8,192 microbatches is
 *       270 MB and is walked without touching an object.
 * RS-2: stages are in the order of the plan, so every edge leads from a lower to a higher number. A stage lives on one rank, or with
 *       data copies (`rank-copies.ts`) on as many that follow each other, each with its share of the microbatches.
 * RS-3: stages without a backward (loaders, frozen teachers) have ranks of their own and run ahead; schedules count the others from 0.
 */
import { RuntimeError } from "../errors.ts";
import type { Action, Schedule, ScheduleEdge, ScheduleStage } from "./schedule.ts";

/** Forward; whole backward; backward to the inputs (I) and to the weights (W), which together are B. */
export const computeKinds = ["F", "B", "I", "W"] as const;
export const [kindF, kindB, kindI, kindW] = [0, 1, 2, 3] as const;

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
export interface RankEdge { from: number; to: number; gradient: boolean }

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
  const learning = plan.stages.filter((stage) => stage.backward);
  const count = Math.min(numRanks ?? learning.length, learning.length);
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
  return { ranks, stages: placed, edges: edges.map(({ from, to, gradient }) => ({ from: number.get(from)!, to: number.get(to)!, gradient })) };
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

/** `2B7`: stage 2, whole backward, microbatch 7. */
export function formatEntry({ stages, microbatches }: RankSchedule, entry: number, numbers = stageNumbers(stages)): string {
  const cell = entry >>> 2;
  return `${numbers[Math.floor(cell / microbatches)]}${computeKinds[entry & 3]}${cell % microbatches}`;
}

/**
 * What the running stages execute. Throws ERR_SCHEDULE, naming what they cannot do yet: several stages on a rank, a split backward.
 */
export function toRunnable(schedule: RankSchedule): Schedule {
  const { name, microbatches, stages } = schedule;
  const refuse = (found: string): never => {
    throw new RuntimeError("ERR_SCHEDULE", `schedule ${name}: running stages know F and B of one stage per process, found ${found}. octavo plan shows it; train with 1f1b or fill-drain.`, { name, found });
  };
  stagesOfRanks(schedule).forEach((held, rank) => { if (held.length > 1) refuse(`${held.length} stages on ${schedule.ranks[rank]} (interleaved)`); });
  return { name, microbatches, stages: stages.map(({ name: stage, rank, steps }) => {
    const actions = Array.from(schedule.entries[rank], (entry): Action => {
      if ((entry & 3) > kindB) refuse(`${formatEntry(schedule, entry)} on ${schedule.ranks[rank]} (a backward split into I and W)`);
      return { kind: computeKinds[entry & 3], microbatch: (entry >>> 2) % microbatches };
    });
    return { stage, actions: steps ? [...actions, { kind: "STEP", microbatch: -1 }] : actions };
  }) };
}
