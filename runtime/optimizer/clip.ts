import { type Tensor, kernel, operandsPerCall } from "../tensor/index.ts";

const sumSquaresKernel = kernel("sum_squares");

/** Sum of squares of each gradient -> f64 (n), accumulated in f64 in an order fixed by shape: one kernel call for many of them. */
export function sumSquares(gradients: readonly Tensor[], into: Tensor): void {
  for (let start = 0, end = 0; start < gradients.length; start = end) {
    while (end < gradients.length && end - start < operandsPerCall - 1 && gradients[end].dtype === gradients[start].dtype) end++;
    sumSquaresKernel([...gradients.slice(start, end), into], [start]);
  }
}

/** The norm over all tensors: sums of squares are added in name order, in f64, so that every layout gets the same bits. */
export function globalNorm(squares: Iterable<readonly [name: string, sumOfSquares: number]>): number {
  const sorted = [...squares].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return Math.sqrt(sorted.reduce((total, [, square]) => total + square, 0));
}

/** Factor that brings the norm down to `maxNorm`: min(1, maxNorm / (norm + 1e-6)). */
export const clipScale = (norm: number, maxNorm: number): number => Math.min(1, maxNorm / (norm + 1e-6));
