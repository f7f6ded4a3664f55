/** One vector per text: states (B, T, D), mask u8 (B, T) of the positions to read -> (B, D); zeros where there are none. Source: BehnamGhader et al. 2024. */
import { add, cast, div, eq, full, maskedMean, mul, reshape, runningSum, slice, sumTo, widened, type Tensor } from "../../runtime/index.ts";

/** `weighted_mean`: position n of the real ones has weight n. `last` and `eos` (a text ends with its end token) read the last real one. */
export const poolings = ["mean", "weighted_mean", "last", "eos"] as const;
export type Pooling = (typeof poolings)[number];

export function pooled(states: Tensor, mask: Tensor, how: Pooling): Tensor {
  if (how === "mean") return maskedMean(states, mask);
  const [batch, length, width] = states.shape, wide = widened(states.dtype) as "f32" | "f64";
  const real = cast(mask, wide), counts = runningSum(real);
  const total = slice(counts, 1, length - 1, 1);
  const weights = how === "weighted_mean" ? mul(counts, real) : mul(cast(eq(counts, total), wide), real);
  // n (n + 1) / 2 for weights 1 .. n, at least 1: nothing to read gives zeros
  const sum = sumTo(weights, [batch, 1]), share = div(weights, add(sum, cast(eq(sum, full([1], 0, wide)), wide)));
  const weighted = mul(states, reshape(share, [batch, length, 1]));
  return reshape(sumTo(weighted, [batch, 1, width]), [batch, width]);
}
