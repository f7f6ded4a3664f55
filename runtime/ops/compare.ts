import { RuntimeError } from "../errors.ts";
import { defineOp } from "../autograd/index.ts";
import { type DType, type Launch, type Tensor, allocate, kernel, liveHandle, zeros } from "../tensor/index.ts";
import { backTo, broadcastShape, form } from "./arithmetic.ts";
import { meet, needDtype } from "./check.ts";

// Questions about elements, answered as masks: u8, 1 = yes. Operands broadcast as in arithmetic; a question has no gradient.

type Comparison = (a: Tensor, b: Tensor) => Tensor;

/** a = b as u8: f32 or bf16, both f64, or both i32. NaN equals nothing. Throws ShapeError when the shapes do not broadcast. */
export const eq = comparison("eq");
/** a ≠ b as u8; 1 beside NaN. */
export const ne = comparison("ne");
/** a < b as u8; 0 beside NaN. */
export const lt = comparison("lt");
/** a ≤ b as u8; 0 beside NaN. */
export const le = comparison("le");
/** a > b as u8; 0 beside NaN. */
export const gt = comparison("gt");
/** a ≥ b as u8; 0 beside NaN. */
export const ge = comparison("ge");

function comparison(op: string): Comparison {
  const launch = kernel(op);
  return (a, b) => {
    needComparable(op, "a", a);
    needComparable(op, "b", b, a.dtype);
    const y = allocate(broadcastShape(op, a.shape, b.shape), "u8");
    launch([a, b, y]);
    return y;
  };
}

function needComparable(op: string, operand: string, x: Tensor, beside: DType = x.dtype): void {
  liveHandle(x, op, operand);
  if ((x.dtype === "i32" && beside === "i32") || meet(x.dtype, beside)) return;
  const expected = x.dtype === beside ? "f32, bf16, f64 or i32" : beside === "f32" || beside === "bf16" ? "f32 or bf16" : beside;
  const fix = "Cast it with cast(x, dtype).";
  throw new RuntimeError("ERR_DTYPE", `${op}: ${operand} expected ${expected}, got ${x.dtype}. ${fix}`, { op, operand, expected, got: x.dtype, fix });
}

const whereKernel: Launch = kernel("where");

/**
 * y = mask ? a : b, element by element: mask u8, a and b numbers or both i32, broadcast over each other; y has the dtype of a.
 * A NaN that is not chosen does no harm. Gradient: dy to where it came from, zero elsewhere.
 * Throws ShapeError when the shapes do not broadcast.
 */
export const where: (mask: Tensor, a: Tensor, b: Tensor) => Tensor = defineOp({
  name: "where",
  operands: ["mask", "a", "b"],
  forward(mask: Tensor, a: Tensor, b: Tensor) {
    needDtype("where", "mask", mask, "u8");
    needComparable("where", "a", a);
    needComparable("where", "b", b, a.dtype);
    const shape = broadcastShape("where", broadcastShape("where", mask.shape, a.shape, "a"), b.shape);
    const y = allocate(shape, a.dtype);
    whereKernel([mask, a, b, y]);
    return { output: y, saves: { mask, a: form(a), b: form(b) } };
  },
  gradients: {
    a: (dy, { mask, a }) => backTo(choose(mask, dy, undefined), a),
    b: (dy, { mask, b }) => backTo(choose(mask, undefined, dy), b),
  },
});

/** `where` with zeros for the side that is missing. */
function choose(mask: Tensor, a: Tensor | undefined, b: Tensor | undefined): Tensor {
  const dy = (a ?? b)!, y = allocate(dy.shape, dy.dtype), nothing = zeros([], dy.dtype);
  whereKernel([mask, a ?? nothing, b ?? nothing, y]);
  nothing.dispose();
  return y;
}
