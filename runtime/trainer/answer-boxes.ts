/**
 * Where an answer stands, said twice: by location tokens, which are bins, and by a regression head that reads the state of `<box>`.
 *
 * AB-1: the tokens decide. The head's box is taken where no coordinate is further than two bins from the tokens', else the tokens' own.
 */
import { withoutRecording } from "../autograd/index.ts";
import type { Box } from "../plugin/kinds.ts";
import { Scope, type Tensor } from "../tensor/index.ts";
import type { AnswerItem } from "./answer-grammar.ts";

/** hidden (K, D) -> boxes (K, 4): (cx, cy, w, h) in [0, 1]. */
export type BoxHead = (hidden: Tensor) => Tensor;

/** Bins between the two within which the head is believed. */
const believed = 2;
const frame = 1024;

/** What the head says of each row of hidden (B, D): corners in [0, 1024], inside the page. */
export async function readBoxes(head: BoxHead, hidden: Tensor): Promise<Box[]> {
  const scope = new Scope("box head");
  try {
    const values = await scope.enter(() => withoutRecording(() => head(hidden))).readNumbers();
    return Array.from({ length: hidden.shape[0] }, (_, row) => corners(values.subarray(4 * row, 4 * row + 4)));
  } finally {
    scope.close();
  }
}

function corners([cx, cy, w, h]: Iterable<number>): Box {
  return [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2].map((v) => frame * Math.min(1, Math.max(0, v))) as unknown as Box;
}

/** AB-1. Boxes in [0, 1024]. */
export function decideBox(tokens: Box, head: Box, bins: number): Box {
  return tokens.every((v, i) => Math.abs(v - head[i]) <= (believed * frame) / bins) ? head : tokens;
}

/** Items with what the head said of their boxes, in the order in which they were written. */
export function withHeadBoxes(items: readonly AnswerItem[], heads: readonly Box[], bins: number): AnswerItem[] {
  let next = 0;
  return items.map((item) => {
    const headBox = item.box && heads[next++];
    return item.box && headBox ? { ...item, box: decideBox(item.box, headBox, bins), tokenBox: item.box, headBox } : item;
  });
}
