/**
 * Positions of real keys, worked out on the device where the masks are. Counts are whole numbers below 2^24: exact in f32.
 */
import { add, cast, concat, full, relu, slice, sub, sumTo, zeros, type Tensor } from "../../runtime/index.ts";

/** mask u8 (B, N), [real keys before it f32 (B, 1)] -> positions i32 (B, N): max(0, before + cumsum(mask) - 1). */
export function positionsOf(mask: Tensor, before?: Tensor): Tensor {
  const counts = cumulativeSum(cast(mask, "f32"));
  return cast(relu(sub(before ? add(counts, before) : counts, full([1], 1))), "i32");
}

/** mask u8 (B, N) -> number of real keys f32 (B, 1). */
export function countReal(mask: Tensor): Tensor {
  return sumTo(cast(mask, "f32"), [mask.shape[0], 1]);
}

/** x (B, N) -> running sums along N, in log2(N) additions of the sums so far shifted right. Source: Hillis and Steele 1986. */
function cumulativeSum(x: Tensor): Tensor {
  const [batch, length] = x.shape;
  let sums = x;
  for (let shift = 1; shift < length; shift *= 2) {
    sums = add(sums, concat([zeros([batch, shift]), slice(sums, 1, 0, length - shift)], 1));
  }
  return sums;
}
