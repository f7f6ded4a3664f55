/**
 * The common frame: every page is stretched to a square of 1024 x 1024, origin top left, boxes `[x0, y0, x1, y1]` in [0, 1024].
 *
 * F-1: a box keeps inside the page: swapped corners are put in order, coordinates outside are clamped (and the caller is told).
 * F-2: a box without area stays a box; one with a coordinate that is no finite number is an error of its record.
 */
import type { Box } from "../../runtime/index.ts";

export const pageSide = 1024;

/** Corners in units of a page of `width` x `height` -> a box in the frame. */
export function toFrame(corners: readonly number[], width: number, height: number): { box: Box; clamped: boolean } {
  const [left, top, right, bottom] = corners;
  const raw = [
    (Math.min(left, right) / width) * pageSide, (Math.min(top, bottom) / height) * pageSide,
    (Math.max(left, right) / width) * pageSide, (Math.max(top, bottom) / height) * pageSide,
  ] as const;
  const box = raw.map((value) => Math.min(pageSide, Math.max(0, value))) as unknown as Box;
  // A thousandth of a unit is rounding, not a box outside the page.
  return { box, clamped: raw.some((value, i) => Math.abs(value - box[i]) > 1e-3) };
}

/** The frame's box as the model takes it: corners in [0, 1]. */
export function toUnit(box: Box): [x0: number, y0: number, x1: number, y1: number] {
  return [box[0] / pageSide, box[1] / pageSide, box[2] / pageSide, box[3] / pageSide];
}

/** The smallest box that holds all of them; undefined for none. */
export function union(boxes: readonly Box[]): Box | undefined {
  if (boxes.length === 0) return undefined;
  return [
    Math.min(...boxes.map((b) => b[0])), Math.min(...boxes.map((b) => b[1])),
    Math.max(...boxes.map((b) => b[2])), Math.max(...boxes.map((b) => b[3])),
  ];
}

export function hasArea(box: Box): boolean {
  return box[2] > box[0] && box[3] > box[1];
}

/** Two decimals are a hundredth of a unit, far below a pixel: enough, and a quarter of the bytes. */
export function rounded(box: Box): Box {
  return box.map((value) => Math.round(value * 100) / 100) as unknown as Box;
}

/**
 * The words of a line: each run of characters that are not space gets its share of the line's width,
 * `x0 + (x1 - x0) * a / n` to `x0 + (x1 - x0) * b / n` for characters [a, b) of n, and the whole height.
 */
export function splitWords(text: string, box: Box): { text: string; box: Box }[] {
  const [x0, y0, x1, y1] = box;
  const at = (character: number) => x0 + ((x1 - x0) * character) / text.length;
  return [...text.matchAll(/\S+/gu)].map((run) => ({
    text: run[0],
    box: [at(run.index), y0, at(run.index + run[0].length), y1] as Box,
  }));
}
