import { defineOp } from "../autograd/index.ts";
import { type Tensor, kernel } from "../tensor/index.ts";
import { like, needFloat, needSameShape } from "./check.ts";

// Functions of one element at a time. Each saves what its derivative is written in: the input, or the output.

function elementwise(name: string, kernelName: string, derivativeOf: "input" | "output"): (x: Tensor) => Tensor {
  const forwardKernel = kernel(`${kernelName}_forward`);
  const backwardKernel = kernel(`${kernelName}_backward`);
  return defineOp({
    name,
    operands: ["x"],
    forward(x: Tensor) {
      needFloat(name, "x", x);
      const y = like(x);
      forwardKernel([x, y]);
      return { output: y, saves: derivativeOf === "input" ? x : y };
    },
    gradients: {
      x(dy, saved) {
        const dx = like(dy);
        backwardKernel([dy, saved, dx]);
        return dx;
      },
    },
  });
}

/** x * Phi(x), the exact error-function form. Source: Hendrycks and Gimpel 2016. */
export const gelu = elementwise("gelu", "gelu", "input");
/** x * sigmoid(1.702 x), CLIP's approximation. */
export const quickGelu = elementwise("quickGelu", "quick_gelu", "input");
/** x * sigmoid(x). */
export const silu = elementwise("silu", "silu", "input");
/** max(x, 0); the derivative at 0 is 0. */
export const relu = elementwise("relu", "relu", "input");
export const tanh = elementwise("tanh", "tanh", "output");
export const sigmoid = elementwise("sigmoid", "sigmoid", "output");
export const sin = elementwise("sin", "sin", "input");
export const cos = elementwise("cos", "cos", "input");
/** e^x. Gradient: dy * y. */
export const exp = elementwise("exp", "exp", "output");
/** Natural logarithm, -Infinity at 0 and NaN below. Gradient: dy / x. */
export const log = elementwise("log", "log", "input");
/** Square root, NaN below 0. Gradient: dy / (2 y). */
export const sqrt = elementwise("sqrt", "sqrt", "output");
/** |x|; the derivative at 0 is 0. */
export const abs = elementwise("abs", "abs", "input");

const swigluForward = kernel("swiglu_forward");
const swigluBackward = kernel("swiglu_backward");

/** silu(gate) * up. Source: Shazeer 2020. */
export const swiglu = defineOp({
  name: "swiglu",
  operands: ["gate", "up"],
  forward(gate: Tensor, up: Tensor) {
    needFloat("swiglu", "gate", gate);
    needFloat("swiglu", "up", up, gate.dtype);
    needSameShape("swiglu", "up", up, gate.shape, "gate and up are two projections of the same input to the same width.");
    const y = like(gate);
    swigluForward([gate, up, y]);
    return { output: y, saves: { gate, up } };
  },
  gradients: {
    "gate, up": (dy, { gate, up }) => {
      const dgate = like(gate), dup = like(up);
      swigluBackward([dy, gate, up, dgate, dup]);
      return [dgate, dup];
    },
  },
});
