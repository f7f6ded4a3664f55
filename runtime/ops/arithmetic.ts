import { ShapeError } from "../errors.ts";
import { defineOp } from "../autograd/index.ts";
import { type Launch, type Shape, type Tensor, allocate, kernel, sameShape, zeros } from "../tensor/index.ts";
import { like, needFloat } from "./check.ts";

// Element-wise arithmetic with the usual broadcasting: shapes are aligned at the right, a dimension of 1 or a missing one repeats.

const addKernel = kernel("add"), subKernel = kernel("sub"), mulKernel = kernel("mul"), divKernel = kernel("div");
const sumToKernel = kernel("sum_to"), scaleKernel = kernel("scale"), castKernel = kernel("cast");

type Binary = (a: Tensor, b: Tensor) => Tensor;

/** y = a + b. */
export const add: Binary = defineOp({
  name: "add",
  operands: ["a", "b"],
  forward: (a: Tensor, b: Tensor) => ({ output: broadcast("add", addKernel, a, b), saves: { a: a.shape, b: b.shape } }),
  gradients: { a: (dy, { a }) => sumTo(dy, a), b: (dy, { b }) => sumTo(dy, b) },
});

/** y = a - b. */
export const sub: Binary = defineOp({
  name: "sub",
  operands: ["a", "b"],
  forward: (a: Tensor, b: Tensor) => ({ output: broadcast("sub", subKernel, a, b), saves: { a: a.shape, b: b.shape } }),
  gradients: { a: (dy, { a }) => sumTo(dy, a), b: (dy, { b }) => scale(sumTo(dy, b), -1) },
});

/** y = a * b, element by element. */
export const mul: Binary = defineOp({
  name: "mul",
  operands: ["a", "b"],
  forward: (a: Tensor, b: Tensor) => ({ output: broadcast("mul", mulKernel, a, b), saves: { a, b } }),
  gradients: { a: (dy, { a, b }) => sumTo(mul(dy, b), a.shape), b: (dy, { a, b }) => sumTo(mul(dy, a), b.shape) },
});

/** y = a / b. Gradients: da = dy / b, db = -dy * y / b. */
export const div: Binary = defineOp({
  name: "div",
  operands: ["a", "b"],
  forward(a: Tensor, b: Tensor) {
    const y = broadcast("div", divKernel, a, b);
    return { output: y, saves: { a: a.shape, b, y } };
  },
  gradients: { a: (dy, { a, b }) => sumTo(div(dy, b), a), b: (dy, { b, y }) => scale(sumTo(div(mul(dy, y), b), b.shape), -1) },
});

/** y = factor * x. */
export const scale: (x: Tensor, factor: number) => Tensor = defineOp({
  name: "scale",
  operands: ["x"],
  forward(x: Tensor, factor: number) {
    needFloat("scale", "x", x);
    const y = like(x);
    scaleKernel([x, y], [factor]);
    return { output: y, saves: factor };
  },
  gradients: { x: (dy, factor) => scale(dy, factor) },
});

export type CastTarget = "f32" | "f64" | "i32" | "u8";

/** The same numbers in another dtype (f32, f64, i32, u8); a gradient goes back in the dtype of x. */
export const cast: (x: Tensor, dtype: CastTarget) => Tensor = defineOp({
  name: "cast",
  operands: ["x"],
  forward(x: Tensor, dtype: CastTarget) {
    const y = allocate(x.shape, dtype);
    castKernel([x, y]);
    return { output: y, saves: x.dtype };
  },
  gradients: { x: (dy, dtype) => cast(dy, dtype as CastTarget) },
});

/**
 * Sum over the dimensions in which `shape`, aligned at the right, is 1 or missing: the inverse of broadcasting.
 * x itself when nothing is to be summed.
 */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  return sameShape(x.shape, shape) ? x : sumToOp(x, shape);
}

const sumToOp = defineOp({
  name: "sumTo",
  operands: ["x"],
  forward(x: Tensor, shape: Shape) {
    needFloat("sumTo", "x", x);
    const fits = shape.length <= x.rank && shape.every((size, i) => size === 1 || size === x.shape[i + x.rank - shape.length]);
    if (!fits) {
      throw new ShapeError({ op: "sumTo", operand: "shape", expected: `a shape that broadcasts to (${x.shape.join(", ")})`, got: shape,
        fix: "Each of its dimensions must be 1 or that of x." });
    }
    const y = allocate(shape, x.dtype);
    sumToKernel([x, y]);
    return { output: y, saves: x.shape };
  },
  gradients: { x: (dy, shape) => expandTo(dy, shape) },
});

/** x repeated to a larger shape. */
export function expandTo(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x;
  const target = broadcastShape("expandTo", x.shape, shape);
  if (!sameShape(target, shape)) {
    throw new ShapeError({ op: "expandTo", operand: "x", expected: `something that repeats to (${shape.join(", ")})`, got: x.shape,
      fix: "Each dimension of x must be 1 or that of the target." });
  }
  return expandToOp(x, shape);
}

const expandToOp = defineOp({
  name: "expandTo",
  operands: ["x"],
  forward(x: Tensor, shape: Shape) {
    const nothing = zeros(shape, x.dtype);
    const y = allocate(shape, x.dtype);
    addKernel([x, nothing, y]);
    nothing.dispose();
    return { output: y, saves: x.shape };
  },
  gradients: { x: (dy, shape) => sumTo(dy, shape) },
});

function broadcast(op: string, launch: Launch, a: Tensor, b: Tensor): Tensor {
  needFloat(op, "a", a);
  needFloat(op, "b", b, a.dtype);
  const y = allocate(sameShape(a.shape, b.shape) ? a.shape : broadcastShape(op, a.shape, b.shape), a.dtype);
  launch([a, b, y]);
  return y;
}

/** The shape of which both are a part, or ShapeError about `operand`, the second of them. */
export function broadcastShape(op: string, a: Shape, b: Shape, operand = "b"): number[] {
  const rank = Math.max(a.length, b.length);
  const shape = new Array<number>(rank);
  for (let i = 1; i <= rank; i++) {
    const left = a[a.length - i] ?? 1;
    const right = b[b.length - i] ?? 1;
    if (left !== right && left !== 1 && right !== 1) {
      throw new ShapeError({ op, operand, expected: `a shape that broadcasts with (${a.join(", ")})`, got: b,
        fix: `Dimension ${-i} is ${left} against ${right}; they must be equal or one of them 1.` });
    }
    shape[rank - i] = left === 1 ? right : left;
  }
  return shape;
}
