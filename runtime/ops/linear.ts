import { defineOp } from "../autograd/index.ts";
import { type Tensor, allocate, kernel } from "../tensor/index.ts";
import { lastDimension, like, needFloat, needShape, withLast } from "./check.ts";

const linearForward = kernel("linear_forward");
const linearBackwardInput = kernel("linear_backward_input");
const linearBackwardWeight = kernel("linear_backward_weight");
const linearBackwardBias = kernel("linear_backward_bias");
const matmulKernel = kernel("matmul");

/** y = x Wᵀ + b: x (..., I), weight (O, I), bias (O)? -> y (..., O). */
export const linear = defineOp({
  name: "linear",
  operands: ["x", "weight", "bias"],
  forward(x: Tensor, weight: Tensor, bias?: Tensor) {
    needFloat("linear", "x", x);
    needFloat("linear", "weight", weight, x.dtype);
    needShape("linear", "weight", weight, ["O", lastDimension(x)], "Its second dimension is the last of the input; a weight is stored as (out, in).");
    if (bias) needFloat("linear", "bias", bias, x.dtype);
    if (bias) needShape("linear", "bias", bias, [weight.shape[0]], "One number per row of the weight.");
    const y = allocate(withLast(x.shape, weight.shape[0]), x.dtype);
    linearForward([x, weight, bias, y]);
    return { output: y, saves: { x, weight, bias } };
  },
  gradients: {
    x(dy, { x, weight }) {
      const dx = like(x);
      linearBackwardInput([dy, weight, dx]);
      return dx;
    },
    weight(dy, { x, weight }) {
      const dw = like(weight);
      linearBackwardWeight([dy, x, dw]);
      return dw;
    },
    bias(dy, { bias }) {
      const db = like(bias!);
      linearBackwardBias([dy, db]);
      return db;
    },
  },
});

export interface MatmulOptions {
  transA?: boolean;
  transB?: boolean;
}

/** y = op(a) op(b) for matrices, op = transpose where asked: (M, K) x (K, N) -> (M, N). */
export const matmul: (a: Tensor, b: Tensor, o?: MatmulOptions) => Tensor = defineOp({
  name: "matmul",
  operands: ["a", "b"],
  forward(a: Tensor, b: Tensor, { transA = false, transB = false }: MatmulOptions = {}) {
    needFloat("matmul", "a", a);
    needFloat("matmul", "b", b, a.dtype);
    needShape("matmul", "a", a, ["M", "K"], "matmul takes matrices; linear takes any number of leading dimensions.");
    const inner = a.shape[transA ? 0 : 1];
    if (transB) needShape("matmul", "b", b, ["N", inner], "Its second dimension is summed over; did you mean { transB: false }?");
    else needShape("matmul", "b", b, [inner, "N"], "Its first dimension is summed over; did you mean { transB: true }?");
    const y = allocate([a.shape[transA ? 1 : 0], b.shape[transB ? 0 : 1]], a.dtype);
    matmulKernel([a, b, y], [Number(transA), Number(transB)]);
    return { output: y, saves: { a, b, transA, transB } };
  },
  gradients: {
    a: (dy, { a, b, transA, transB }) => (transA ? product(b, dy, transB, true, a) : product(dy, b, false, !transB, a)),
    b: (dy, { a, b, transA, transB }) => (transB ? product(dy, a, true, transA, b) : product(a, dy, !transA, false, b)),
  },
});

/** The product of two matrices as the gradient of an operand: in its shape and dtype. */
function product(left: Tensor, right: Tensor, transLeft: boolean, transRight: boolean, operand: Tensor): Tensor {
  const dx = like(operand);
  matmulKernel([left, right, dx], [Number(transLeft), Number(transRight)]);
  return dx;
}
