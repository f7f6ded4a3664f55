/**
 * Position tables for another grid of patches, as plain numbers in f64: what a checkpoint holds goes in, what `materialise` may load
 * comes out. Every way of resampling is one matrix per axis, applied to rows, then to columns.
 */
import { ShapeError } from "../errors.ts";
import { bicubicWeights, bilinearWeights, resampleAxes, splineWeights } from "./resample.ts";

export type Grid = readonly [rows: number, columns: number];

export interface RelativeBiasResize {
  /** Patches per axis the table was trained for, and those it shall serve. */
  from: Grid;
  to: Grid;
  heads: number;
  /**
   * `bilinear`, half-pixel centres: what Hugging Face does. `geometric`: BEiT's own fine-tuning script, which takes near offsets to be
   * sampled densely and far ones sparsely. The two differ at every new resolution: say which one was used.
   */
  mode?: "bilinear" | "geometric";
}

/**
 * A relative position bias table ((2h-1)(2w-1)+3, heads) for another grid. The last three rows (from, to, and of the class token) stay.
 * The same grid gives the same numbers. Throws ShapeError when the table does not fit `from`, or for a grid the mode cannot serve.
 * Sources: Bao et al. 2021 (table and geometric resizing).
 */
export function resizeRelativeBias(table: ArrayLike<number>, { from, to, heads, mode = "bilinear" }: RelativeBiasResize): Float64Array {
  const [rows, columns] = from.map((patches) => 2 * patches - 1), [newRows, newColumns] = to.map((patches) => 2 * patches - 1);
  needSize("resizeRelativeBias", table, (rows * columns + 3) * heads, `((2 ${from[0]} - 1)(2 ${from[1]} - 1) + 3, ${heads})`);
  const weights = mode === "bilinear" ? bilinearWeights : geometricWeights;
  const offsets = resampleAxes(Array.prototype.slice.call(table, 0, rows * columns * heads), heads, weights(rows, newRows), weights(columns, newColumns));
  return Float64Array.from([...offsets, ...Array.prototype.slice.call(table, rows * columns * heads)]);
}

/**
 * Absolute positions (1 + h w, D), class token first, for another grid: bicubic (a = -0.75) with half-pixel centres; the class
 * token's row stays. The size decides, not a scale factor. Throws ShapeError when the table does not fit `from`.
 */
export function resizePositions(table: ArrayLike<number>, { from, to, width }: { from: Grid; to: Grid; width: number }): Float64Array {
  needSize("resizePositions", table, (1 + from[0] * from[1]) * width, `(1 + ${from[0]} ${from[1]}, ${width})`);
  const patches = Array.prototype.slice.call(table, width) as number[];
  const resized = resampleAxes(patches, width, bicubicWeights(from[0], to[0]), bicubicWeights(from[1], to[1]));
  return Float64Array.from([...Array.prototype.slice.call(table, 0, width), ...resized]);
}

/**
 * Offsets -(g-1) .. g-1 taken to lie at ±(1, 1+q, 1+q+q², ...), q such that the last lies at the last new offset; a cubic spline through
 * them, read at the new whole offsets. q is searched in [1.01, 1.5] to 1e-6; beyond what that reaches the outermost value repeats.
 */
function geometricWeights(size: number, newSize: number): Float64Array[] {
  if (size === newSize) return identity(size);
  const reach = (size - 1) / 2, newReach = (newSize - 1) / 2;
  if (reach < 2) {
    throw new ShapeError({ op: "resizeRelativeBias", operand: "table", expected: "at least 3 patches per axis for geometric resizing", got: [(size + 1) / 2],
      fix: 'Use mode "bilinear".' });
  }
  let [low, high, ratio] = [1.01, 1.5, 1.5];
  while (high - low > 1e-6) {
    ratio = (low + high) / 2;
    if ((1 - ratio ** reach) / (1 - ratio) > newReach) high = ratio;
    else low = ratio;
  }
  const offsets: number[] = [];
  for (let i = 0, at = 1; i < reach; i++, at += ratio ** i) offsets.push(at);
  const places = [...offsets.map((at) => -at).reverse(), 0, ...offsets];
  return splineWeights(places, Array.from({ length: newSize }, (_, i) => i - newReach));
}

const identity = (size: number): Float64Array[] => Array.from({ length: size }, (_, i) => Float64Array.from({ length: size }, (_, j) => Number(i === j)));

function needSize(op: string, table: ArrayLike<number>, size: number, shape: string): void {
  if (table.length === size) return;
  throw new ShapeError({ op, operand: "table", expected: `${size} numbers, ${shape}`, got: [table.length], fix: "`from` is the grid the table was trained for." });
}
