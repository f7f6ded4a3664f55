/**
 * Tensor parallelism: a component's layers live in several processes, which share out the numbers of its large weights.
 *
 * TP-1: a declaration (`TensorPlan`) puts a split on parameters before they have values; each member then starts from its share of what one
 *       process would start from, or of what a checkpoint holds.
 * TP-2: activations between layers, and the gradients of parameters that are not shared out, are the same bits on all members: sums come from
 *       one pairwise tree (CG-1) and everything after it is the same arithmetic.
 * TP-3: `joined` gives back the whole, from all members, for a checkpoint that any layout loads.
 * Source: Shoeybi et al. 2019 (Megatron-LM).
 */
import { RuntimeError } from "../../errors.ts";
import { type Members, type Parameter, type Parameters, type TensorPlan, joinShares, namesUnder } from "../../nn/index.ts";
import { type HostArray, type Shape, type Tensor, toHostArray } from "../../tensor/index.ts";
import { allGather, enter, gather, leave, part, reduceScatter } from "../groups/collective-ops.ts";
import type { Group } from "../groups/collectives.ts";

/** A process's place among those that share components out. The group need not be there before the first forward. */
export interface TensorPlace { rank: number; size: number; sharesTokens?: boolean; group(): Group }

/** What a tensor group does for layers. */
export const membersOf = ({ rank, size, sharesTokens = false, group }: TensorPlace): Members => ({
  index: rank,
  count: size,
  enter: (x) => enter(x, group()),
  leave: (x) => leave(x, group()),
  gather: (x, axis) => gather(x, group(), axis),
  part: (x, axis) => part(x, group(), axis),
  sharesTokens,
  gatherParts: (x, axis) => allGather(x, group(), axis),
  scatter: (x, axis) => reduceScatter(x, group(), axis),
});

/** Puts splits on a component's parameters, as its plugin declares. Before they have values. Throws ERR_PLUGIN for a path that names nothing. */
export function shareOut(parameters: Parameters, plan: TensorPlan, members: Members): void {
  const names = Object.keys(parameters);
  const each = (paths: readonly string[] = [], ends: RegExp, axis: number, parts = (_path: string): number => 1): void => {
    for (const path of paths) {
      const found = namesUnder(path, names, ends);
      if (found.length === 0 && ends !== adapterA && ends !== adapterB && ends !== tableA) {
        throw new RuntimeError("ERR_PLUGIN", `tensor plan: "${path}" names none of the parameters ${names.slice(0, 3).join(", ")}, ... Name a layer without its .weight.`, { path });
      }
      for (const name of found) split(parameters[name], axis, parts(path), members);
    }
  };
  const packed = (path: string): number => plan.packed?.[path] ?? 1;
  each(plan.column, /^(\.weight|\.bias)$/, 0, packed);
  each(plan.column, adapterB, 0, packed);
  each(plan.row, /^\.weight$/, 1);
  each(plan.row, adapterA, 1);
  each(plan.vocabulary, /^(\.weight)?$/, 0);
  each(plan.vocabulary, tableA, 1);
  for (const [path, axis] of Object.entries(plan.along ?? {})) each([path], /^$/, axis);
}

const adapterA = /^\.lora_A(\.[^.]+)?\.weight$/, adapterB = /^\.lora_B(\.[^.]+)?\.weight$/, tableA = /^\.lora_embedding_A(\.[^.]+)?$/;

function split(parameter: Parameter, axis: number, count: number, members: Members): void {
  const size = parameter.wholeShape[axis];
  parameter.shareOut({ axis, parts: Array.from({ length: count }, () => size / count), members });
}

/**
 * A parameter's value, or what an optimizer keeps for it, with its shape: whole, from all members (TP-3). Every member of the group calls it for
 * the same tensors in the same order.
 */
export async function joined(parameter: Parameter, tensor: Tensor, group: Group): Promise<{ values: HostArray; shape: Shape }> {
  if (!parameter.split) return { values: await tensor.read(), shape: tensor.shape };
  const shares = group.allGather(tensor, 0);
  try {
    const values = await shares.readNumbers();
    const whole = joinShares(parameter, Array.from({ length: group.size }, (_, i) => values.subarray(i * tensor.size, (i + 1) * tensor.size)));
    return { values: toHostArray(whole, tensor.dtype), shape: parameter.wholeShape };
  } finally {
    shares.dispose();
  }
}
