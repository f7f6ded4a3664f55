/**
 * Collective calls that gradients go through. What is "alike" has the same bits on all members of the group, and so has its gradient.
 *
 * | op | forward | its gradient |
 * |---|---|---|
 * | `enter` | x, alike | the sum over members: each used x for something of its own |
 * | `leave` | the sum over members, alike; takes x over and writes it | dy |
 * | `gather` | (.., n, ..) -> (.., N n, ..), alike | own part of dy |
 * | `part` | x, alike -> own part | the parts of all put together |
 * | `allGather` | (.., n, ..) -> (.., N n, ..), which each uses for something of its own | the sum over members, of it the own part |
 * | `reduceScatter` | the sum over members, of it the own part | the parts of all put together |
 */
import { defineOp, withoutRecording } from "../../autograd/index.ts";
import { slice } from "../../ops/index.ts";
import { type Tensor, clone, viewOf } from "../../tensor/index.ts";
import type { Group } from "./collectives.ts";

function summed(x: Tensor, group: Group): Tensor {
  if (x.size > 0) group.allReduce(x);
  return x;
}

function ownPart(x: Tensor, group: Group, axis: number): Tensor {
  const length = x.shape[axis] / group.size;
  return withoutRecording(() => slice(x, axis, group.rank * length, length));
}

export const enter = defineOp({
  name: "enter",
  operands: ["x"],
  forward: (x: Tensor, group: Group) => ({ output: viewOf(x, x.shape, "enter"), saves: group }),
  gradients: { x: (dy, group) => summed(clone(dy), group) },
});

export const leave = defineOp({
  name: "leave",
  operands: ["x"],
  forward: (x: Tensor, group: Group) => ({ output: summed(viewOf(x, x.shape, "leave"), group), saves: undefined }),
  gradients: { x: (dy) => dy },
});

export const gather = defineOp({
  name: "gather",
  operands: ["x"],
  forward: (x: Tensor, group: Group, axis: number) => ({ output: group.allGather(x, axis), saves: { group, axis } }),
  gradients: { x: (dy, { group, axis }) => ownPart(dy, group, axis) },
});

export const part = defineOp({
  name: "part",
  operands: ["x"],
  forward: (x: Tensor, group: Group, axis: number) => ({ output: ownPart(x, group, axis), saves: { group, axis } }),
  gradients: { x: (dy, { group, axis }) => group.allGather(dy, axis) },
});

export const allGather = defineOp({
  name: "all_gather",
  operands: ["x"],
  forward: (x: Tensor, group: Group, axis: number) => ({ output: group.allGather(x, axis), saves: { group, axis } }),
  gradients: { x: (dy, { group, axis }) => group.reduceScatter(dy, axis) },
});

export const reduceScatter = defineOp({
  name: "reduce_scatter",
  operands: ["x"],
  forward: (x: Tensor, group: Group, axis: number) => ({ output: group.reduceScatter(x, axis), saves: { group, axis } }),
  gradients: { x: (dy, { group, axis }) => group.allGather(dy, axis) },
});
