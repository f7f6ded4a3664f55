import { type Tensor, zeros } from "../tensor/index.ts";
import { add } from "./arithmetic.ts";
import { needFloat, needShape } from "./check.ts";
import { concat, slice } from "./shape.ts";

/** x (B, N) -> running sums along N, in log2(N) additions of the sums so far shifted right. Throws ShapeError. Source: Hillis and Steele 1986. */
export function runningSum(x: Tensor): Tensor {
  needFloat("runningSum", "x", x);
  needShape("runningSum", "x", x, ["B", "N"], "One row per sum.");
  const [batch, length] = x.shape;
  let sums = x;
  for (let shift = 1; shift < length; shift *= 2) sums = add(sums, concat([zeros([batch, shift], x.dtype), slice(sums, 1, 0, length - shift)], 1));
  return sums;
}
