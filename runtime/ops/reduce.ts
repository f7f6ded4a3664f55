import { ShapeError } from "../errors.ts";
import { defineOp } from "../autograd/index.ts";
import { type Launch, type Tensor, allocate, kernel, viewOf, zeros } from "../tensor/index.ts";
import { scale, sumTo } from "./arithmetic.ts";
import { like, needAxis, needDtype, needFloat, needShape } from "./check.ts";
import { permute, reshape } from "./shape.ts";
import { topK } from "./top-k.ts";

const sumAll = kernel("sum_all"), sumAllBackward = kernel("sum_all_backward");
const maskedMeanForward = kernel("masked_mean_forward"), maskedMeanBackward = kernel("masked_mean_backward");

/** Sum of all elements -> (1), or along one axis, which goes away: (.., n, ..) -> (.., ..). Nothing sums to 0. */
export function sum(x: Tensor, axis?: number): Tensor {
  needFloat("sum", "x", x);
  if (axis === undefined) return sumOfAll(x);
  const along = needAxis("sum", axis, x.rank, x.shape);
  return reshape(sumTo(x, x.shape.map((size, i) => (i === along ? 1 : size))), without(x, along));
}

/** Mean of all elements -> (1), or along one axis, which goes away. Throws ShapeError for the mean of nothing. */
export function mean(x: Tensor, axis?: number): Tensor {
  needFloat("mean", "x", x);
  const count = axis === undefined ? x.size : x.shape[needAxis("mean", axis, x.rank, x.shape)];
  needSome("mean", x, count);
  return scale(sum(x, axis), 1 / count);
}

/**
 * Largest element along one axis, which goes away: x (.., N, ..) -> (.., ..). The gradient goes to the first of equal ones.
 * NaN is larger than any number. Throws ShapeError when N is 0.
 */
export const max = (x: Tensor, axis: number): Tensor => largest("max", x, axis).values;

/** Where the largest element stands, the first of equal ones: x (.., N, ..) -> i32 (.., ..). Not recorded. Throws ShapeError when N is 0. */
export const argmax = (x: Tensor, axis: number): Tensor => largest("argmax", x, axis).indices;

/** log sum exp x along one axis, which goes away; -Infinity for nothing. Gradient: dx = dy * exp(x - y). */
export const logSumExp = perRow("logSumExp", "logsumexp");

/** sqrt(sum x²) along one axis, which goes away. Gradient: dx = dy * x / y, 0 where y is 0. */
export const l2Norm = perRow("l2Norm", "row_norm");

/** A kernel that gives a number per row, for any axis. */
function perRow(name: string, kernelName: string): (x: Tensor, axis: number) => Tensor {
  const forwardKernel: Launch = kernel(`${kernelName}_forward`);
  const backwardKernel: Launch = kernel(`${kernelName}_backward`);
  const op = defineOp({
    name,
    operands: ["x"],
    forward(x: Tensor) {
      const y = allocate(x.shape.slice(0, -1), x.dtype);
      forwardKernel([x, y]);
      return { output: y, saves: { x, y } };
    },
    gradients: {
      x(dy, { x, y }) {
        const dx = like(x);
        backwardKernel([dy, x, y, dx]);
        return dx;
      },
    },
  });
  return (x, axis) => {
    needFloat(name, "x", x);
    return op(axisLast(x, needAxis(name, axis, x.rank, x.shape)));
  };
}

function largest(op: string, x: Tensor, axis: number): { values: Tensor; indices: Tensor } {
  needFloat(op, "x", x);
  const along = needAxis(op, axis, x.rank, x.shape), shape = without(x, along);
  needSome(op, x, x.shape[along]);
  const { values, indices } = topK(axisLast(x, along), 1);
  return { values: reshape(values, shape), indices: viewOf(indices, shape) };
}

const without = (x: Tensor, axis: number): number[] => x.shape.filter((_, i) => i !== axis);

/** The axis moved behind all others. */
const axisLast = (x: Tensor, axis: number): Tensor =>
  (axis === x.rank - 1 ? x : permute(x, [...x.shape.keys()].filter((i) => i !== axis).concat(axis)));

function needSome(op: string, x: Tensor, count: number): void {
  if (count > 0) return;
  throw new ShapeError({ op, operand: "x", expected: "at least one element to choose from", got: x.shape, fix: "Nothing has no mean and no largest element." });
}

const sumOfAll = defineOp({
  name: "sum",
  operands: ["x"],
  forward(x: Tensor) {
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
  forward: (x: Tensor) => ({ output: viewOf(x, x.shape, "zeroGradient"), saves: undefined }),
  gradients: { x: (dy) => zeros(dy.shape, dy.dtype) },
});

/** x unchanged, and no gradient goes back. */
export const detach = (x: Tensor): Tensor => viewOf(x, x.shape, "detach");
