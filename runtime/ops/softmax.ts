import { ShapeError } from "../errors.ts";
import { defineOp } from "../autograd/index.ts";
import { type Tensor, kernel } from "../tensor/index.ts";
import { lastDimension, like, needFloat } from "./check.ts";

const softmaxForward = kernel("softmax_forward");
const softmaxBackward = kernel("softmax_backward");

/**
 * Softmax over the last axis: x (..., N) -> y (..., N), y = exp(x - max x) / sum exp(x - max x).
 * Gradient: dx = y * (dy - sum(dy * y)).  Source: Bridle 1990.  Throws ShapeError when N is 0.
 */
export const softmax = defineOp({
  name: "softmax",
  operands: ["x"],
  forward(x: Tensor) {
    needFloat("softmax", "x", x);
    if (lastDimension(x) === 0) {
      throw new ShapeError({ op: "softmax", operand: "x", expected: "(..., N) with N > 0", got: x.shape,
        fix: "A softmax over nothing has no value." });
    }
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
