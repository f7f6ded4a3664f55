import { RuntimeError, ShapeError } from "../errors.ts";
import { type DType, type Shape, type Tensor, allocate, isFloat, liveHandle, widened } from "../tensor/index.ts";

/** Uninitialised tensor of the shape and dtype of another. */
export const like = (x: Tensor): Tensor => allocate(x.shape, x.dtype);

/** Uninitialised tensor for what keeps its digits beside `x`: statistics and losses, f32 where x is bf16. */
export const wide = (shape: Shape, x: Tensor): Tensor => allocate(shape, widened(x.dtype));

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

/** The dtypes that ops compute with: f32, bf16, and f64 for reference work. */
const computes = (dtype: DType): boolean => dtype === "f32" || dtype === "bf16" || dtype === "f64";

/** May operands of these dtypes be numbers of one op? bf16 is read as f32 there; f64, the reference, meets only itself. */
export const meet = (a: DType, b: DType): boolean => computes(a) && computes(b) && (a === "f64") === (b === "f64");

/** A live operand of a computing dtype that may meet `beside`, the dtype of the first operand. Throws ERR_DTYPE. */
export function needFloat(op: string, operand: string, x: Tensor, beside: DType = x.dtype): void {
  liveHandle(x, op, operand);
  if (meet(x.dtype, beside)) return;
  const expected = x.dtype === beside ? "f32, bf16 or f64" : beside === "f64" ? "f64" : "f32 or bf16";
  const fix = !isFloat(x.dtype) ? "Ids and masks are not numbers to compute with; cast(x, dtype) makes numbers of them."
    : x.dtype === "f16" ? "f16 is only carried: cast what was computed in another dtype."
    : "f64 is for reference work and mixes with nothing: cast one of the two with cast(x, dtype).";
  throw new RuntimeError("ERR_DTYPE", `${op}: ${operand} expected ${expected}, got ${x.dtype}. ${fix}`, { op, operand, expected, got: x.dtype, fix });
}

/** Ids are i32, masks u8 (1 = real). */
export function needDtype(op: string, operand: string, x: Tensor, dtype: DType, advice?: string): void {
  liveHandle(x, op, operand);
  if (x.dtype === dtype) return;
  const fix = advice ?? `Make it with fromArray(data, shape, "${dtype}").`;
  throw new RuntimeError("ERR_DTYPE", `${op}: ${operand} expected ${dtype}, got ${x.dtype}. ${fix}`, { op, operand, expected: dtype, got: x.dtype, fix });
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
