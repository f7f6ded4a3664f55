import { dropPath } from "../ops/index.ts";
import { type Tensor, fnv1a32 } from "../tensor/index.ts";

/** What a random choice is keyed by; a part of what every forward is told. */
export interface Randomness {
  training: boolean;
  seed: number;
  step: number;
  /** One per row of the batch. */
  sampleIds: readonly number[];
  /** The two as tensors, where they are: a step that draws from them can be compiled. */
  keys?: { step: Tensor; sampleIds: Tensor };
}

/** What an op that draws is keyed by: tensors where there are any. Numbers are asked for only without them, for a step that reads them is not compiled. */
export function drawnBy(context: Randomness): { seed: number; step: number | Tensor; sampleIds: readonly number[] | Tensor } {
  const { seed } = context, { step, sampleIds } = context.keys ?? context;
  return { seed, step, sampleIds };
}

/** A residual branch before it is added; `part` tells the branches of one block apart. */
export type DropBranch = (branch: Tensor, part: "attn" | "mlp" | "mlp_imag" | "mlp_text" | "mlp_vl") => Tensor;

/** Rates of `count` blocks: rising evenly from 0 for the first to `rate` for the last. One block alone drops nothing. Source: Huang et al. 2016. */
export const dropPathRates = (rate: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => (count === 1 ? 0 : (rate * i) / (count - 1)));

/** Drops whole samples of the branches of the block called `name`, while training. The name is the place in the model: no two blocks share one. */
export function dropBranches(name: string, rate: number, context: Randomness): DropBranch | undefined {
  if (!context.training || rate === 0) return undefined;
  const keys = drawnBy(context);
  return (branch, part) => dropPath(branch, { p: rate, ...keys, site: fnv1a32(`${name}.${part}`) });
}
