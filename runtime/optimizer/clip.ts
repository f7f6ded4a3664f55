import { type Tensor, allocate, kernel, operandsPerCall } from "../tensor/index.ts";

const sumSquaresKernel = kernel("sum_squares"), updateNumbersKernel = kernel("update_numbers");

/** Sum of squares of each gradient -> f64 (n), accumulated in f64 in an order fixed by shape: one kernel call for many of them. */
export function sumSquares(gradients: readonly Tensor[], into: Tensor): void {
  for (let start = 0, end = 0; start < gradients.length; start = end) {
    while (end < gradients.length && end - start < operandsPerCall - 1 && gradients[end].dtype === gradients[start].dtype) end++;
    sumSquaresKernel([...gradients.slice(start, end), into], [start]);
  }
}

/** The norm over all tensors: sums of squares are added in name order, in f64, so that every layout gets the same bits. */
export function globalNorm(squares: Iterable<readonly [name: string, sumOfSquares: number]>): number {
  return Math.sqrt(inNameOrder(squares).reduce((total, [, square]) => total + square, 0));
}

/** Entries sorted by name, by code units: the order in which squares are added. */
export const inNameOrder = <T>(entries: Iterable<readonly [name: string, value: T]>): (readonly [name: string, value: T])[] =>
  [...entries].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));

/** Factor that brings the norm down to `maxNorm`: min(1, maxNorm / (norm + 1e-6)). */
export const clipScale = (norm: number, maxNorm: number): number => Math.min(1, maxNorm / (norm + 1e-6));

/**
 * `globalNorm` and `clipScale` on the device, to the same bits: squares f64 (n) in the order of names, schedule f64 (2) = learning rate and
 * step -> numbers as `updateNumbers` makes them, norm f64 (1). maxNorm 0 scales nothing.
 */
export function clippedUpdate(squares: Tensor, schedule: Tensor, maxNorm: number): { numbers: Tensor; norm: Tensor } {
  const numbers = allocate([3], "f64"), norm = allocate([1], "f64");
  updateNumbersKernel([squares, schedule, numbers, norm], [maxNorm]);
  return { numbers, norm };
}
