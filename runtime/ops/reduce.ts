import { defineOp } from "../autograd/index.ts";
import { type Tensor, allocate, kernel, viewOf, zeros } from "../tensor/index.ts";
import { needDtype, needFloat, needShape } from "./check.ts";

const sumAll = kernel("sum_all"), sumAllBackward = kernel("sum_all_backward");
const maskedMeanForward = kernel("masked_mean_forward"), maskedMeanBackward = kernel("masked_mean_backward");

/** Sum of all elements -> (1). */
export const sum = defineOp({
  name: "sum",
  operands: ["x"],
  forward(x: Tensor) {
    needFloat("sum", "x", x);
    const y = allocate([1], x.dtype);
    sumAll([x, y]);
    return { output: y, saves: x.shape };
  },
  gradients: {
    x(dy, shape) {
      const dx = allocate(shape, dy.dtype);
      sumAllBackward([dy, dx]);
      return dx;
    },
  },
});

/** Mean over the real tokens: x (B, N, C), mask u8 (B, N) -> (B, C). A row without any gives zeros. */
export const maskedMean = defineOp({
  name: "maskedMean",
  operands: ["x"],
  forward(x: Tensor, mask: Tensor) {
    needFloat("maskedMean", "x", x);
    needShape("maskedMean", "x", x, ["B", "N", "C"], "Batch, tokens, width.");
    needDtype("maskedMean", "mask", mask, "u8");
    needShape("maskedMean", "mask", mask, x.shape.slice(0, 2), "One flag per token.");
    const y = allocate([x.shape[0], x.shape[2]], x.dtype);
    maskedMeanForward([x, mask, y]);
    return { output: y, saves: { mask, shape: x.shape } };
  },
  gradients: {
    x(dy, { mask, shape }) {
      const dx = allocate(shape, dy.dtype);
      maskedMeanBackward([dy, mask, dx]);
      return dx;
    },
  },
});

/**
 * x unchanged, with a gradient of exactly zero: for a value of which the result does not depend by mathematics, so that
 * rounding noise does not move it. A bias on attention keys shifts all scores of a query alike, which softmax ignores.
 */
export const zeroGradient = defineOp({
  name: "zeroGradient",
  operands: ["x"],
  forward: (x: Tensor) => ({ output: viewOf(x, x.shape), saves: undefined }),
  gradients: { x: (dy) => zeros(dy.shape, dy.dtype) },
});

/** x unchanged, and no gradient goes back. */
export const detach = (x: Tensor): Tensor => viewOf(x, x.shape);
