/**
 * Members of a group in one process, one after the other: first each member's calls are noted with what it gave, then each is played again
 * with what the others gave. Right for work whose contributions do not depend on results.
 */
import assert from "node:assert/strict";
import { type Tensor, accumulate, assign, clone } from "../../../runtime/tensor/index.ts";

export interface PlayedGroup { rank: number; size: number; allReduce(tensor: Tensor): void; reduce(tensor: Tensor, root: number): void; broadcast(tensor: Tensor, root: number): void }
interface Call { what: string; root: number; gave: Tensor }

/** `work` twice per member, with a group of its own; the second results in the order of ranks. `free`: of what the first made. */
export function played<T>(size: number, work: (group: PlayedGroup) => T, free: (result: T) => void): { results: T[]; calls: string[] } {
  const noted = Array.from({ length: size }, (): Call[] => []);
  const member = (rank: number, done: (call: Call, at: number) => void): PlayedGroup => {
    let at = 0;
    const call = (what: string, tensor: Tensor, root: number): void => done({ what, root, gave: tensor }, at++);
    return { rank, size, allReduce: (t) => call("allReduce", t, -1), reduce: (t, root) => call("reduce", t, root), broadcast: (t, root) => call("broadcast", t, root) };
  };
  for (let rank = 0; rank < size; rank++) free(work(member(rank, ({ gave, ...call }) => void noted[rank].push({ ...call, gave: clone(gave) }))));
  for (const calls of noted) assert.deepEqual(calls.map(({ what, root, gave }) => [what, root, gave.size]), noted[0].map(({ what, root, gave }) => [what, root, gave.size]), "members make the same calls");
  const results = noted.map((_, rank) => work(member(rank, ({ what, root, gave }, at) => {
    const all = noted.map((calls) => calls[at].gave);
    if (what === "broadcast") return rank === root ? undefined : assign(all[root], gave);
    if (what === "reduce" && rank !== root) return;
    assign(tree(all), gave);
  })));
  const calls = noted[0].map(({ what, root, gave }) => `${what}${root < 0 ? "" : ` ${root}`} ${gave.size}`);
  for (const { gave } of noted.flat()) gave.dispose();
  for (const tensor of sums.splice(0)) tensor.dispose();
  return { results, calls };
}

const sums: Tensor[] = [];

/** As the group adds: halves, then each other. */
function tree(all: readonly Tensor[]): Tensor {
  if (all.length === 1) return all[0];
  const middle = Math.ceil(all.length / 2), sum = clone(tree(all.slice(0, middle)));
  sums.push(sum);
  accumulate(tree(all.slice(middle)), sum);
  return sum;
}
