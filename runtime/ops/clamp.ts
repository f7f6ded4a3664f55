import { RuntimeError } from "../errors.ts";
import { defineOp } from "../autograd/index.ts";
import { type Tensor, kernel } from "../tensor/index.ts";
import { scale } from "./arithmetic.ts";
import { like, needFloat } from "./check.ts";

// Functions of one element and of numbers given with the call.

const clampForward = kernel("clamp_forward"), clampBackward = kernel("clamp_backward");
const powerForward = kernel("power_forward"), powerBackward = kernel("power_backward");

/** y = -x. */
export function neg(x: Tensor): Tensor {
  needFloat("neg", "x", x);
  return scale(x, -1);
}

/**
 * y = min(max(x, low), high); one side may be infinite, NaN stays NaN. Gradient: dy within [low, high], both included, else 0.
 * Throws ERR_INPUT unless low <= high.
 */
export function clamp(x: Tensor, low: number, high: number): Tensor {
  if (!(low <= high)) throw new RuntimeError("ERR_INPUT", `clamp: low expected at most high, got ${low} and ${high}. Swap them.`, { low, high });
  return clampOp(x, low, high);
}

const clampOp = defineOp({
  name: "clamp",
  operands: ["x"],
  forward(x: Tensor, low: number, high: number) {
    needFloat("clamp", "x", x);
    const y = like(x);
    clampForward([x, y], [low, high]);
    return { output: y, saves: { x, low, high } };
  },
  gradients: {
    x(dy, { x, low, high }) {
      const dx = like(dy);
      clampBackward([dy, x, dx], [low, high]);
      return dx;
    },
  },
});

/** y = x^exponent; NaN for a negative x and a broken exponent. Gradient: dy * exponent * x^(exponent - 1). */
export const pow: (x: Tensor, exponent: number) => Tensor = defineOp({
  name: "pow",
  operands: ["x"],
  forward(x: Tensor, exponent: number) {
    needFloat("pow", "x", x);
    const y = like(x);
    powerForward([x, y], [exponent]);
    return { output: y, saves: { x, exponent } };
  },
  gradients: {
    x(dy, { x, exponent }) {
      const dx = like(dy);
      powerBackward([dy, x, dx], [exponent]);
      return dx;
    },
  },
});
