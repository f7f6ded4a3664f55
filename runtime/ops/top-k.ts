import { ShapeError } from "../errors.ts";
import { defineOp } from "../autograd/index.ts";
import { type Tensor, allocate, kernel } from "../tensor/index.ts";
import { lastDimension, needFloat, needShape, withLast } from "./check.ts";

const topKForward = kernel("top_k_forward"), topKBackward = kernel("top_k_backward");

/**
 * The k largest of the last axis, largest first, of equals the first one first: x (..., N) -> values (..., k) and
 * indices i32 (..., k). NaN comes before every number. The gradient goes to the chosen elements; indices have none.
 * Throws ShapeError unless 1 <= k <= N.
 */
export function topK(x: Tensor, k: number): { values: Tensor; indices: Tensor } {
  needFloat("topK", "x", x);
  needShape("topK", "x", x, ["...", "N"], "A scalar has no axis to choose from.");
  if (!(Number.isInteger(k) && k >= 1 && k <= lastDimension(x))) {
    throw new ShapeError({ op: "topK", operand: "x", expected: `(..., N) with at least ${k} elements to choose`, got: x.shape,
      fix: `k is ${k}; it must be a whole number from 1 to N.` });
  }
  const indices = allocate(withLast(x.shape, k), "i32");
  return { values: topKOp(x, indices), indices };
}

const topKOp = defineOp({
  name: "topK",
  operands: ["x"],
  forward(x: Tensor, indices: Tensor) {
    const values = allocate(indices.shape, x.dtype), k = lastDimension(indices);
    topKForward([x, values, indices], [k]);
    return { output: values, saves: { indices, shape: x.shape, k } };
  },
  gradients: {
    x(dy, { indices, shape, k }) {
      const dx = allocate(shape, dy.dtype);
      topKBackward([dy, indices, dx], [k]);
      return dx;
    },
  },
});
