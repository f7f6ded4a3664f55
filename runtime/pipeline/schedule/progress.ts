/**
 * How far a schedule of ranks has come: what is done, when it was done, and what an entry still waits for. Typed arrays throughout.
 *
 * RP-1: F waits for the F of every stage before it, B and I for B or I of every stage that gives a gradient back; W and the own F wait
 *       for nobody else, the order of the rank sees to them.
 * RP-2: what crosses ranks arrives later by the transfer cost of its edge; within a rank it costs nothing.
 * RP-3: with credits it does not leave before it has one (`credits.ts`), and its rank waits for that.
 */
import { Flow } from "./credits.ts";
import type { RankSchedule, RankStage } from "./schedule.ts";
import { kindF, kindW, rankAt } from "./schedule.ts";

/** Seconds, or any unit, as long as all are the same. */
export interface RankCosts {
  /** Per stage and kind: `compute[stage * 4 + kind]`. */
  compute: Float64Array;
  /** Per edge: `transfer[edge * 2]` forward, `[edge * 2 + 1]` back. Default 0. */
  transfer?: Float64Array;
}

/** `neighbours[from[s] .. from[s + 1]]` are those of stage s, with their edges. */
interface Neighbours { from: Int32Array; stage: Int32Array; edge: Int32Array }

/** `Progress.missing` where a message of the rank has no credit. */
export const noCredit = -2;
const nobody: readonly number[] = [];

export class Progress {
  /** Per stage and microbatch, when F and when B or I ended; -1 while it has not. */
  readonly forward: Float64Array;
  readonly backward: Float64Array;
  /** After `ready` gave -1: what is missing, cell * 2 + (1 when it is a gradient); or `noCredit`. */
  missing = -1;
  readonly before: Neighbours;
  readonly after: Neighbours;
  readonly flow: Flow | undefined;
  readonly #microbatches: number;
  readonly #transfer: Float64Array;
  readonly #stages: readonly RankStage[];

  constructor(schedule: RankSchedule, costs: RankCosts, credits = false) {
    const { stages, edges, microbatches } = schedule;
    this.flow = credits ? new Flow(schedule) : undefined;
    this.#stages = stages;
    this.#microbatches = microbatches;
    this.forward = new Float64Array(stages.length * microbatches).fill(-1);
    this.backward = new Float64Array(stages.length * microbatches).fill(-1);
    this.#transfer = new Float64Array(edges.length * 2);
    edges.forEach(({ from, to }, e) => {
      if (!costs.transfer || stages[from].rank === stages[to].rank) return;
      this.#transfer[2 * e] = costs.transfer[2 * e];
      this.#transfer[2 * e + 1] = costs.transfer[2 * e + 1];
    });
    this.before = neighbours(stages.length, edges.map(({ from, to }, edge) => [to, from, edge]));
    this.after = neighbours(stages.length, edges.flatMap(({ from, to, gradient }, edge) => (gradient ? [[from, to, edge]] : [])));
  }

  /** When everything that others must give is there, and the rank's own messages are out; -1 when something is `missing`. */
  ready(entry: number): number {
    const kind = entry & 3, cell = entry >>> 2, stage = (cell / this.#microbatches) | 0, microbatch = cell - stage * this.#microbatches;
    const free = this.flow ? this.flow.free(rankAt(this.#stages[stage], microbatch, this.#microbatches)) : 0;
    if (free < 0) return this.missing = noCredit, -1;
    if (kind === kindW) return free;
    const back = kind === kindF ? 0 : 1;
    const { from, stage: other, edge } = back ? this.after : this.before;
    const times = back ? this.backward : this.forward;
    let latest = free;
    for (let i = from[stage]; i < from[stage + 1]; i++) {
      const needed = other[i] * this.#microbatches + microbatch;
      const end = this.flow && !this.#together(stage, other[i], microbatch) ? this.flow.out(edge[i], back, microbatch) : times[needed];
      if (end < 0) return this.missing = needed * 2 + back, -1;
      const there = end + this.#transfer[2 * edge[i] + back];
      if (there > latest) latest = there;
    }
    return latest;
  }

  /** Are two stages of a microbatch on one rank? */
  #together(stage: number, other: number, microbatch: number): boolean {
    return rankAt(this.#stages[stage], microbatch, this.#microbatches) === rankAt(this.#stages[other], microbatch, this.#microbatches);
  }

  /** The entry starts. -> the ranks that waited for a credit and can go on now. */
  begin(entry: number, start: number): readonly number[] {
    return this.flow ? this.flow.begin(entry, start) : nobody;
  }

  done(entry: number, end: number): void {
    this.flow?.end(entry, end);
    const kind = entry & 3;
    if (kind === kindF) this.forward[entry >>> 2] = end;
    else if (kind !== kindW) this.backward[entry >>> 2] = end;
  }
}

function neighbours(numStages: number, arcs: readonly (readonly number[])[]): Neighbours {
  const from = new Int32Array(numStages + 1);
  for (const [of] of arcs) from[of + 1]++;
  for (let s = 0; s < numStages; s++) from[s + 1] += from[s];
  const next = from.slice(), stage = new Int32Array(arcs.length), edge = new Int32Array(arcs.length);
  for (const [of, other, e] of arcs) {
    stage[next[of]] = other;
    edge[next[of]++] = e;
  }
  return { from, stage, edge };
}
