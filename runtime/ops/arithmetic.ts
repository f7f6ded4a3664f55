import { RuntimeError, ShapeError } from "../errors.ts";
import { defineOp } from "../autograd/index.ts";
import { type DType, type Launch, type Precision, type Shape, type Tensor, allocate, kernel, liveHandle, sameShape, widened, zeros } from "../tensor/index.ts";
import { like, needFloat } from "./check.ts";

// Element-wise arithmetic with the usual broadcasting: shapes are aligned at the right, a dimension of 1 or a missing one repeats.
// y has the dtype of a; every operand gets its gradient in its own dtype.

const addKernel = kernel("add"), subKernel = kernel("sub"), mulKernel = kernel("mul"), divKernel = kernel("div");
const sumToKernel = kernel("sum_to"), scaleKernel = kernel("scale"), castKernel = kernel("cast");

type Binary = (a: Tensor, b: Tensor) => Tensor;

/** What a gradient must look like: the operand's shape and dtype. */
export interface Form { shape: Shape; dtype: DType }
export const form = ({ shape, dtype }: Tensor): Form => ({ shape, dtype });

/** y = a + b. */
export const add: Binary = defineOp({
  name: "add",
  operands: ["a", "b"],
  forward: (a: Tensor, b: Tensor) => ({ output: broadcast("add", addKernel, a, b), saves: { a: form(a), b: form(b) } }),
  gradients: { a: (dy, { a }) => backTo(dy, a), b: (dy, { b }) => backTo(dy, b) },
});

/** y = a - b. */
export const sub: Binary = defineOp({
  name: "sub",
  operands: ["a", "b"],
  forward: (a: Tensor, b: Tensor) => ({ output: broadcast("sub", subKernel, a, b), saves: { a: form(a), b: form(b) } }),
  gradients: { a: (dy, { a }) => backTo(dy, a), b: (dy, { b }) => scale(backTo(dy, b), -1) },
});

/** y = a * b, element by element. */
export const mul: Binary = defineOp({
  name: "mul",
  operands: ["a", "b"],
  forward: (a: Tensor, b: Tensor) => ({ output: broadcast("mul", mulKernel, a, b), saves: { a, b } }),
  gradients: { a: (dy, { a, b }) => backThrough(mulKernel, dy, b, a), b: (dy, { a, b }) => backThrough(mulKernel, dy, a, b) },
});

/** y = a / b. Gradients: da = dy / b, db = -dy * y / b. */
export const div: Binary = defineOp({
  name: "div",
  operands: ["a", "b"],
  forward(a: Tensor, b: Tensor) {
    const y = broadcast("div", divKernel, a, b);
    return { output: y, saves: { a: form(a), b, y } };
  },
  gradients: {
    a: (dy, { a, b }) => backThrough(divKernel, dy, b, a),
    b(dy, { b, y }) {
      const moved = allocate(dy.shape, widened(b.dtype));
      mulKernel([dy, y, moved]);
      const db = backThrough(divKernel, moved, b, b);
      moved.dispose();
      return scale(db, -1);
    },
  },
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

const castable = ["f32", "f64", "bf16", "i32", "u8"] as const;
export type CastTarget = (typeof castable)[number];

/**
 * The same numbers in another dtype (f32, f64, bf16, i32, u8): x itself when that is its own; bf16 is rounded to nearest even.
 * A gradient goes back in the dtype of x.
 */
export function cast(x: Tensor, dtype: CastTarget): Tensor {
  liveHandle(x, "cast", "x");
  return x.dtype === dtype ? x : castOp(x, dtype);
}

/** x as activations are stored: as bf16 where the precision is bf16, otherwise as it is. f64, the reference, stays f64. */
export function toPrecision(x: Tensor, precision: Precision): Tensor {
  liveHandle(x, "toPrecision", "x");
  return precision === "bf16" && x.dtype === "f32" ? castOp(x, "bf16") : x;
}

/** x in the dtype that losses and statistics have: as f32 where it is bf16, otherwise as it is. */
export function widen(x: Tensor): Tensor {
  liveHandle(x, "widen", "x");
  return x.dtype === "bf16" ? castOp(x, "f32") : x;
}


const castOp: (x: Tensor, dtype: CastTarget) => Tensor = defineOp({
  name: "cast",
  operands: ["x"],
  forward(x: Tensor, dtype: CastTarget) {
    if (!(castable as readonly DType[]).includes(x.dtype)) {
      const details = { op: "cast", operand: "x", expected: castable.join(", "), got: x.dtype, fix: "Other dtypes are carried, not computed with." };
      throw new RuntimeError("ERR_DTYPE", `cast: x expected one of ${details.expected}, got ${x.dtype}. ${details.fix}`, details);
    }
    const y = allocate(x.shape, dtype);
    castKernel([x, y]);
    return { output: y, saves: x.dtype };
  },
  gradients: { x: (dy, dtype) => castOp(dy, dtype as CastTarget) },
});

/**
 * Sum over the dimensions in which `shape`, aligned at the right, is 1 or missing: the inverse of broadcasting.
 * x itself when nothing is to be summed.
 */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  needFloat("sumTo", "x", x);
  return sameShape(x.shape, shape) ? x : sumToOp(x, shape);
}

const sumToOp = defineOp({
  name: "sumTo",
  operands: ["x"],
  forward(x: Tensor, shape: Shape) {
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
  needFloat("expandTo", "x", x);
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

/** The gradient of an operand from that of the output: summed over what was repeated, in the operand's dtype. Not recorded. */
export function backTo(dy: Tensor, { shape, dtype }: Form): Tensor {
  if (sameShape(dy.shape, shape)) return cast(dy, dtype as CastTarget);
  const dx = allocate(shape, dtype);
  sumToKernel([dy, dx]);
  return dx;
}

/** The gradient of an operand of which dy `launch` other is the part of each element; what is still to be summed keeps f32. */
function backThrough(launch: Launch, dy: Tensor, other: Tensor, operand: Form): Tensor {
  const summed = !sameShape(dy.shape, operand.shape);
  const parts = allocate(dy.shape, summed ? widened(operand.dtype) : operand.dtype);
  launch([dy, other, parts]);
  if (!summed) return parts;
  const dx = backTo(parts, operand);
  parts.dispose();
  return dx;
}

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
