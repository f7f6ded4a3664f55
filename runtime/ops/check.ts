import { RuntimeError, ShapeError } from "../errors.ts";
import { type DType, type Shape, type Tensor, allocate, isFloat, liveHandle } from "../tensor/index.ts";

/** Uninitialised tensor of the shape and dtype of another. */
export const like = (x: Tensor): Tensor => allocate(x.shape, x.dtype);

/** Last dimension, 1 for a scalar. */
export const lastDimension = (x: Tensor): number => x.shape[x.rank - 1] ?? 1;

/** The shape with another last dimension. */
export const withLast = (shape: Shape, last: number): number[] => [...shape.slice(0, -1), last];

/**
 * Throws ShapeError unless `x` has these dimensions. A number must match, a string stands for any size,
 * a leading "..." for any number of dimensions: ["...", 96].
 */
export function needShape(op: string, operand: string, x: Tensor, dims: readonly (number | string)[], fix: string): void {
  const open = dims[0] === "...";
  const fixed = open ? dims.length - 1 : dims.length;
  let fits = open ? x.rank >= fixed : x.rank === fixed;
  for (let i = 1; fits && i <= fixed; i++) {
    const expected = dims[dims.length - i];
    fits = typeof expected === "string" || expected === x.shape[x.rank - i];
  }
  if (!fits) throw new ShapeError({ op, operand, expected: `(${dims.join(", ")})`, got: x.shape, fix });
}

export function needSameShape(op: string, operand: string, x: Tensor, shape: Shape, fix: string): void {
  needShape(op, operand, x, shape, fix);
}

/** A live operand of the computing dtypes: f32, and f64 for reference work. All float operands of one op agree. */
export function needFloat(op: string, operand: string, x: Tensor, dtype: DType = x.dtype): void {
  liveHandle(x, op, operand);
  if (x.dtype === dtype && (dtype === "f32" || dtype === "f64")) return;
  const fix = isFloat(x.dtype) || x.dtype === dtype ? "Cast it with cast(x, dtype)." : "Ids and masks are not numbers to compute with.";
  throw new RuntimeError("ERR_DTYPE", `${op}: ${operand} expected ${x.dtype === dtype ? "f32 or f64" : dtype}, got ${x.dtype}. ${fix}`,
    { op, operand, expected: dtype, got: x.dtype });
}

/** Ids are i32, masks u8 (1 = real). */
export function needDtype(op: string, operand: string, x: Tensor, dtype: DType): void {
  liveHandle(x, op, operand);
  if (x.dtype === dtype) return;
  throw new RuntimeError("ERR_DTYPE", `${op}: ${operand} expected ${dtype}, got ${x.dtype}. Make it with fromArray(data, shape, "${dtype}").`,
    { op, operand, expected: dtype, got: x.dtype });
}

/** A usable dimension number from one that may count from the end. */
export function needAxis(op: string, axis: number, rank: number, shape: Shape): number {
  const resolved = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(axis) || resolved < 0 || resolved >= rank) {
    throw new ShapeError({ op, operand: "axis", expected: `a dimension from ${-rank} to ${rank - 1}`, got: shape,
      fix: `The axis given is ${axis}.` });
  }
  return resolved;
}
