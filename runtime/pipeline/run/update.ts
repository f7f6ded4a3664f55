import { sumSquares, updateNumbers } from "../../optimizer/index.ts";
import type { Parameters } from "../../nn/index.ts";
import type { OptimizerLike, TensorComponent } from "../../plugin/index.ts";
import { Scope, type Tensor, allocate } from "../../tensor/index.ts";
import type { GraphNode } from "../graph/graph.ts";
import { outputKey } from "./microbatch.ts";

/** Sum of squares of every gradient, in order -> f64 (n), owned by the entered scope. */
export function sumsOfSquares(gradients: ReadonlyMap<string, Tensor>): Tensor {
  const into = allocate([gradients.size], "f64");
  sumSquares([...gradients.values()], into);
  return into;
}

/** Sum of squares of every gradient, by parameter name: the share of one process in the global norm. Waits for the device. */
export async function gradientSquares(gradients: ReadonlyMap<string, Tensor>): Promise<[name: string, sum: number][]> {
  if (gradients.size === 0) return [];
  const scope = new Scope("gradient squares");
  try {
    const values = await scope.enter(() => sumsOfSquares(gradients)).read();
    return [...gradients.keys()].map((name, i) => [name, Number(values[i])]);
  } finally {
    scope.close();
  }
}

export interface UpdateSettings {
  /** Finished steps before this one. */
  step: number;
  learningRate: number;
  gradScale: number;
}

/** Moves every parameter that has a gradient, and frees the gradients. A parameter without one stays where it is. */
export function applyGradients(parameters: Parameters, gradients: ReadonlyMap<string, Tensor>, optimizer: OptimizerLike, o: UpdateSettings): void {
  const settings = { step: o.step + 1, learningRate: o.learningRate, gradScale: o.gradScale };
  if (optimizer.stepMany) {
    const numbers = updateNumbers(settings);
    moveParameters(parameters, gradients, optimizer, numbers);
    numbers.dispose();
    return;
  }
  for (const [name, gradient] of gradients) optimizer.step(parameters[name], gradient, settings), gradient.dispose();
}

/** The same with the settings as a tensor (`updateNumbers`), by an optimizer that has `stepMany`. */
export function moveParameters(parameters: Parameters, gradients: ReadonlyMap<string, Tensor>, optimizer: OptimizerLike, numbers: Tensor): void {
  optimizer.stepMany!([...gradients].map(([name, gradient]) => [parameters[name], gradient] as const), numbers);
  for (const gradient of gradients.values()) gradient.dispose();
}

/** Tells every component that a step is over, with the sums it asked for, and frees them. */
export function applySums(nodes: readonly GraphNode[], sums: ReadonlyMap<string, Tensor>): void {
  const scope = new Scope("after step");
  try {
    for (const node of nodes) {
      const prefix = outputKey(node.name, "");
      const own = [...sums].filter(([key]) => key.startsWith(prefix)).map(([key, tensor]): [string, Tensor] => [key.slice(prefix.length), tensor]);
      scope.enter(() => (node.component as Partial<TensorComponent>).afterStep?.(Object.fromEntries(own)));
    }
  } finally {
    scope.close();
    for (const tensor of sums.values()) tensor.dispose();
  }
}

/**
 * The scalars of a step from those of its microbatches: each a pairwise tree over the microbatch index, halves as in the
 * gradient tree, added in f64. `loss` is the sum of the objectives in the order given.
 */
export function combineScalars(perMicrobatch: readonly (readonly (readonly [name: string, value: number])[])[]): { loss: number; losses: Record<string, number> } {
  const losses: Record<string, number> = {};
  for (const [name] of perMicrobatch[0] ?? []) {
    losses[name] = pairwiseSum(perMicrobatch.map((scalars) => scalars.find(([other]) => other === name)?.[1] ?? 0));
  }
  const loss = Object.entries(losses).filter(([name]) => !name.includes(".")).reduce((sum, [, value]) => sum + value, 0);
  return { loss, losses };
}

export function pairwiseSum(values: readonly number[]): number {
  if (values.length <= 1) return values[0] ?? 0;
  const middle = Math.ceil(values.length / 2);
  return pairwiseSum(values.slice(0, middle)) + pairwiseSum(values.slice(middle));
}
