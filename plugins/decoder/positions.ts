/**
 * Positions of real keys, worked out on the device where the masks are. Counts are whole numbers below 2^24: exact in f32.
 */
import { add, cast, full, relu, runningSum, sub, sumTo, type Tensor } from "../../runtime/index.ts";

/** mask u8 (B, N), [real keys before it f32 (B, 1)] -> positions i32 (B, N): max(0, before + cumsum(mask) - 1). */
export function positionsOf(mask: Tensor, before?: Tensor): Tensor {
  const counts = runningSum(cast(mask, "f32"));
  return cast(relu(sub(before ? add(counts, before) : counts, full([1], 1))), "i32");
}

/** mask u8 (B, N) -> number of real keys f32 (B, 1). */
export function countReal(mask: Tensor): Tensor {
  return sumTo(cast(mask, "f32"), [mask.shape[0], 1]);
}
