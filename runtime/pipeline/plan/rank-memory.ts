/**
 * Bytes that a rank needs: what its stages hold, less what its layout shares out.
 *
 * RB-1: parameters, gradients and optimizer states of trained tensors are f32; activations come from the simulation of the schedule.
 * RB-2: gradients are summed as a tree; as many partial sums are alive as the order of the rank's own backwards makes (`GradientTree`).
 * RB-3: ZeRO 1 divides optimizer states by owner (`shareOut`); 2 lets a gradient go to its owner when its sum is complete, so that one
 *       component's is whole at a time beside the partial sums of earlier microbatches; 3 keeps the owner's parameters, and one
 *       component's while it runs. The fullest copy counts.
 */
import { GradientTree } from "../../autograd/index.ts";
import { shareOut } from "../../parallel/sharing/sharded-state.ts";
import type { OptimizerComponent } from "../../plugin/kinds.ts";
import type { CheckResult } from "./check.ts";
import type { GraphNode } from "../graph/graph.ts";
import type { Layout } from "./layout.ts";

export interface KeptBytes { parameters: number; gradients: number; optimizer: number }

export interface MemorySettings {
  /** How many tensors the optimizer keeps per parameter. */
  stateTensors: number;
  zero: number;
}

/** `partialSums`: alive at once, RB-2. */
export function keptBytes(nodes: readonly GraphNode[], { data }: Layout, partialSums: number, { stateTensors, zero }: MemorySettings): KeptBytes {
  const trained = nodes.map((node) => (node.frozen ? [] : Object.entries(node.parameters).filter(([, { trainable }]) => trainable)));
  const bytes = (of: readonly (readonly [string, { size: number }])[]): number => of.reduce((sum, [, { size }]) => sum + 4 * size, 0);
  const all = trained.flat(), whole = bytes(all), largest = Math.max(0, ...trained.map(bytes));
  const everything = nodes.reduce((sum, node) => sum + bytes(Object.entries(node.parameters)), 0);
  const owned = data > 1 && zero > 0 ? fullest(all.map(([name, { size }]) => [name, size]), data) : whole;
  return {
    parameters: data > 1 && zero >= 3 ? everything - whole + Math.min(whole, owned + largest) : everything,
    gradients: data > 1 && zero >= 2 ? Math.min(whole * partialSums, whole * (partialSums - 1) + largest + (partialSums === 1 ? owned : 0)) : whole * partialSums,
    optimizer: owned * stateTensors,
  };
}

function fullest(sizes: readonly (readonly [string, number])[], copies: number): number {
  const of = new Map(sizes), held = new Array<number>(copies).fill(0);
  for (const [name, copy] of shareOut(sizes, copies)) held[copy] += 4 * of.get(name)!;
  return Math.max(...held);
}

/** Most partial sums alive when the microbatches 0..n-1 of a tree come in this order. */
export function partialSumsOf(order: readonly number[]): number {
  const tree = new GradientTree(order.length);
  let most = 0;
  for (const microbatch of order) {
    most = Math.max(most, tree.partialSums + 1);
    tree.push(microbatch, new Map());
  }
  return most;
}

/** How many tensors the recipe's optimizer keeps per parameter. */
export function stateTensorsOf({ optimizer, host }: CheckResult): number {
  const rule = (optimizer.plugin.create(optimizer.options, host) as OptimizerComponent).create();
  const count = rule.stateNames?.length ?? 2; // as Adam, where a rule does not say
  rule.dispose();
  return count;
}
