import { ShapeError } from "../errors.ts";
import { defineOp } from "../autograd/index.ts";
import { type Tensor, kernel } from "../tensor/index.ts";
import { lastDimension, like, needFloat } from "./check.ts";

const softmaxForward = kernel("softmax_forward");
const softmaxBackward = kernel("softmax_backward");
const logSoftmaxForward = kernel("log_softmax_forward");
const logSoftmaxBackward = kernel("log_softmax_backward");

/**
 * Softmax over the last axis: x (..., N) -> y (..., N), y = exp(x - max x) / sum exp(x - max x).
 * Gradient: dx = y * (dy - sum(dy * y)).  Source: Bridle 1990.  Throws ShapeError when N is 0.
 */
export const softmax = defineOp({
  name: "softmax",
  operands: ["x"],
  forward(x: Tensor) {
    needFloat("softmax", "x", x);
    needSome("softmax", x);
    const y = like(x);
    softmaxForward([x, y]);
    return { output: y, saves: y };
  },
  gradients: {
    x(dy, y) {
      const dx = like(y);
      softmaxBackward([dy, y, dx]);
      return dx;
    },
  },
});

/**
 * Logarithm of softmax over the last axis, without the detour that loses small shares: x (..., N) -> y (..., N),
 * y = x - log sum exp x.  Gradient: dx = dy - exp(y) * sum(dy).  Throws ShapeError when N is 0.
 */
export const logSoftmax = defineOp({
  name: "logSoftmax",
  operands: ["x"],
  forward(x: Tensor) {
    needFloat("logSoftmax", "x", x);
    needSome("logSoftmax", x);
    const y = like(x);
    logSoftmaxForward([x, y]);
    return { output: y, saves: y };
  },
  gradients: {
    x(dy, y) {
      const dx = like(y);
      logSoftmaxBackward([dy, y, dx]);
      return dx;
    },
  },
});

function needSome(op: string, x: Tensor): void {
  if (lastDimension(x) > 0) return;
  throw new ShapeError({ op, operand: "x", expected: "(..., N) with N > 0", got: x.shape, fix: "A softmax over nothing has no value." });
}
