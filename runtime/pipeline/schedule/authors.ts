/**
 * The schedules Octavo knows, authored as compute actions per rank. Each is a pure function of placement and number of microbatches.
 *
 * fill-drain (GPipe, Huang et al. 2019): all forwards, all backwards.
 * 1f1b (PipeDream-Flush, Narayanan et al. 2021): after a warm-up one forward, one backward.
 * interleaved (Narayanan et al. 2021, "Efficient large-scale language model training"): v stages per rank, dealt round; bubble divided by v.
 * zb-h1 (Qi et al. 2023, "Zero bubble pipeline parallelism"): B split into I and W; a rank holds its W back so long that nobody remembers
 *   more than the first rank of 1f1b does, and the W fill what was the bubble at the end.
 */
import { RuntimeError, nearest } from "../../errors.ts";
import type { Placement, RankSchedule } from "./schedule.ts";
import { fitsEntries, kindB, kindF, kindI, kindW, stagesOfRanks } from "./schedule.ts";

export type RankAuthor = (placement: Placement, microbatches: number) => RankSchedule;

export const rankAuthors: Readonly<Record<string, RankAuthor>> = {
  "1f1b": (placement, microbatches) => author("1f1b", placement, microbatches, (row, [stage]) => {
    const ahead = Math.min(microbatches, row.deepest - placement.stages[stage].depth);
    for (let m = 0; m < ahead; m++) row.put(stage, kindF, m);
    for (let m = 0; m < microbatches; m++) {
      if (m + ahead < microbatches) row.put(stage, kindF, m + ahead);
      row.put(stage, kindB, m);
    }
  }, { oneStage: true }),

  "fill-drain": (placement, microbatches) => author("fill-drain", placement, microbatches, (row, stages) => {
    for (const stage of stages) for (let m = 0; m < microbatches; m++) row.put(stage, kindF, m);
    for (const stage of stages.toReversed()) for (let m = 0; m < microbatches; m++) row.put(stage, kindB, m);
  }),

  interleaved: (placement, microbatches) => {
    const learning = placement.stages.filter((stage) => stage.backward).length;
    const ring = new Set(placement.stages.filter((stage) => stage.backward).map((stage) => stage.rank));
    const [p, v] = [ring.size, learning / ring.size];
    if (!Number.isInteger(v)) refuse("interleaved", `as many stages on every rank, found ${learning} stages on ${p} ranks`, `Take ${p * Math.ceil(v)} stages or a number of ranks that divides ${learning}.`);
    if (v > 1 && microbatches % p !== 0) refuse("interleaved", `microbatches that its ${p} ranks divide`, `Found ${microbatches}; take ${Math.ceil(microbatches / p) * p}.`);
    const first = Math.min(...ring);
    return author("interleaved", placement, microbatches, (row, stages, rank) => {
      const total = microbatches * v, fromEnd = p - 1 - (rank - first);
      const warmUp = Math.min(total, v === 1 ? fromEnd : 2 * fromEnd + (v - 1) * p);
      // p microbatches through the first stage of the rank, the same p through its second, and so on, before the next p
      const microbatch = (i: number): number => Math.floor(i / (p * v)) * p + (i % p);
      const held = (i: number): number => Math.floor((i % (p * v)) / p);
      const forward = (i: number): void => row.put(stages[held(i)], kindF, microbatch(i));
      const backward = (i: number): void => row.put(stages[v - 1 - held(i)], kindB, microbatch(i));
      for (let i = 0; i < warmUp; i++) forward(i);
      for (let i = warmUp; i < total; i++) forward(i), backward(i - warmUp);
      for (let i = total - warmUp; i < total; i++) backward(i);
    });
  },

  "zb-h1": (placement, microbatches) => author("zb-h1", placement, microbatches, (row, [stage]) => {
    const { depth } = placement.stages[stage];
    const ahead = Math.min(microbatches, row.deepest - depth), heldBack = depth - row.shallowest;
    for (let m = 0; m < ahead; m++) row.put(stage, kindF, m);
    for (let m = 0; m < microbatches; m++) {
      if (m + ahead < microbatches) row.put(stage, kindF, m + ahead);
      row.put(stage, kindI, m);
      if (m >= heldBack) row.put(stage, kindW, m - heldBack);
    }
    for (let m = Math.max(0, microbatches - heldBack); m < microbatches; m++) row.put(stage, kindW, m);
  }, { oneStage: true, split: true }),
};

/** The author of a name. Throws ERR_SCHEDULE with the nearest spelling. */
export function rankAuthorOf(name: string): RankAuthor {
  if (Object.hasOwn(rankAuthors, name)) return rankAuthors[name];
  const known = Object.keys(rankAuthors), guess = nearest(name, known);
  throw new RuntimeError("ERR_SCHEDULE", `schedule: expected ${known.join(", ")}, or the path of a .csv, found "${name}".${guess ? ` Did you mean "${guess}"?` : ""}`, { name, known });
}

/** One rank's list, while it is written. */
interface Row { put(stage: number, kind: number, microbatch: number): void; deepest: number; shallowest: number }

function author(name: string, placement: Placement, microbatches: number, write: (row: Row, stages: number[], rank: number) => void, o: { oneStage?: boolean; split?: boolean } = {}): RankSchedule {
  const { stages, ranks } = placement;
  fitsEntries(stages.length, microbatches);
  let [deepest, shallowest] = [0, Infinity];
  for (const { depth, backward } of stages) if (backward) deepest = Math.max(deepest, depth), shallowest = Math.min(shallowest, depth);
  const entries = stagesOfRanks(placement).map((held, rank) => {
    const learns = stages[held[0]].backward;
    if (o.oneStage && held.length > 1) refuse(name, `one stage per rank, found ${held.length} on ${ranks[rank]}`, "Take interleaved, or a rank for every stage.");
    const list = new Int32Array(held.length * microbatches * (learns ? (o.split ? 3 : 2) : 1));
    let next = 0;
    const put = (stage: number, kind: number, microbatch: number): void => { list[next++] = (stage * microbatches + microbatch) * 4 + kind; };
    if (learns) write({ put, deepest, shallowest }, held, rank);
    else for (let m = 0; m < microbatches; m++) put(held[0], kindF, m);
    return list;
  });
  return { ...placement, name, microbatches, entries };
}

function refuse(name: string, expected: string, fix: string): never {
  throw new RuntimeError("ERR_SCHEDULE", `schedule ${name}: expected ${expected}. ${fix}`, { name, expected });
}
