import type { Box } from "../../runtime/index.ts";

/** Intersection over union of corner boxes, continuous areas; 0 where the union is empty. */
export function iou(a: Box, b: Box): number {
  const wide = Math.min(a[2], b[2]) - Math.max(a[0], b[0]), high = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  const intersection = wide > 0 && high > 0 ? wide * high : 0;
  const area = (box: Box) => (box[2] - box[0]) * (box[3] - box[1]);
  const union = area(a) + area(b) - intersection;
  return union > 0 ? intersection / union : 0;
}

/** Mean over the true boxes of the overlap with the predicted box each is paired with, best pairs first, one to one. */
export function matchedIou(predicted: readonly Box[], truth: readonly Box[]): number {
  const pairs = truth.flatMap((t, i) => predicted.map((p, j) => ({ i, j, overlap: iou(t, p) }))).sort((a, b) => b.overlap - a.overlap);
  const usedTruth = new Set<number>(), usedPredicted = new Set<number>();
  let sum = 0;
  for (const { i, j, overlap } of pairs) {
    if (usedTruth.has(i) || usedPredicted.has(j)) continue;
    usedTruth.add(i), usedPredicted.add(j);
    sum += overlap;
  }
  return truth.length === 0 ? 0 : sum / truth.length;
}
