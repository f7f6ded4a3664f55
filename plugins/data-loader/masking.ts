/**
 * What joint pre-training hides, and what it asks: spans of text, blocks of the image, and which words lost their patch.
 * All of it drawn from one Philox stream per page, step and purpose, in the order written here.
 *
 * M-1: a block mask has exactly the wanted number of cells (Bao et al. 2021, BEiT, algorithm 1).
 * M-2: a span mask never touches what is not eligible and has exactly the wanted number of positions, unless tries run out.
 */
import type { Philox } from "../../runtime/index.ts";

export interface BlockMaskOptions { rows: number; columns: number; count: number; smallestBlock: number; largestBlock?: number }

/** (rows * columns) bytes, 1 where a patch is hidden. */
export function blockMask(random: Philox, { rows, columns, count, smallestBlock, largestBlock }: BlockMaskOptions): Uint8Array {
  const mask = new Uint8Array(rows * columns);
  let masked = 0;
  while (masked < count) {
    const cap = Math.min(count - masked, largestBlock ?? count);
    let added = 0;
    for (let attempt = 0; attempt < 10 && added === 0; attempt++) {
      // With cap below the smallest block the range is reversed, and stays valid: it draws between the two.
      const area = random.uniform(smallestBlock, cap);
      const aspect = Math.exp(random.uniform(Math.log(0.3), Math.log(1 / 0.3)));
      const height = Math.floor(Math.sqrt(area * aspect) + 0.5);
      const width = Math.floor(Math.sqrt(area / aspect) + 0.5);
      if (width >= columns || height >= rows) continue;
      const top = random.randint(0, rows - height);
      const left = random.randint(0, columns - width);
      const inside: number[] = [];
      for (let r = top; r < top + height; r++) for (let c = left; c < left + width; c++) inside.push(r * columns + c);
      const fresh = inside.filter((cell) => mask[cell] === 0);
      if (fresh.length === 0 || fresh.length > cap) continue;
      for (const cell of fresh) mask[cell] = 1;
      added = fresh.length;
    }
    if (added === 0) break;
    masked += added;
  }
  const cells = (value: number) => Array.from(mask.keys()).filter((cell) => mask[cell] === value);
  if (masked > count) for (const cell of random.sample(cells(1), masked - count)) mask[cell] = 0;
  if (masked < count) for (const cell of random.sample(cells(0), count - masked)) mask[cell] = 1;
  return mask;
}

export interface SpanMaskOptions { share: number; lambda?: number; longest?: number; /** Which word each position is of: words are hidden whole, and the budget may be passed by the rest of one. */ words?: ArrayLike<number> }

/** One byte per position, 1 where a token is hidden: Poisson-long spans until `share` of the eligible positions is reached. */
export function spanMask(random: Philox, eligible: ArrayLike<number | boolean>, { share, lambda = 3, longest = 10, words }: SpanMaskOptions): Uint8Array {
  const sameWord = (i: number, j: number): boolean => words !== undefined && i >= 0 && j < eligible.length && words[i] === words[j];
  const length = eligible.length;
  const mask = new Uint8Array(length);
  const positions = Array.from({ length }, (_, i) => i).filter((i) => eligible[i]);
  let budget = Math.floor(share * positions.length + 0.5);
  for (let tries = 0; budget > 0 && tries < 10 * length + 100; tries++) {
    const span = Math.min(random.poisson(lambda), longest, budget);
    if (span === 0) continue;
    let start = positions[random.randint(0, positions.length - 1)], count = 0;
    while (sameWord(start - 1, start)) start--;
    for (let i = start; (count < span || sameWord(i - 1, i)) && i < length && eligible[i] && !mask[i]; i++) mask[i] = 1, count++;
    budget -= count;
  }
  return mask;
}

export interface CorruptOptions { maskId: number; /** Half-open ranges of ordinary tokens. */ textIds: readonly (readonly [number, number])[]; /** Share of `<mask>`; half of the rest is random. */ kept?: number }

/** Hidden positions become `<mask>` (80 %, or the share given), a random ordinary token (half of the others) or stay. Returns new ids. */
export function corrupt(random: Philox, ids: readonly number[], mask: Uint8Array, { maskId, textIds, kept = 0.8 }: CorruptOptions): number[] {
  const all = textIds.reduce((sum, [from, to]) => sum + to - from, 0);
  return ids.map((id, i) => {
    if (!mask[i]) return id;
    const u = random.uniform();
    if (u < kept) return maskId;
    return u < (1 + kept) / 2 ? nthOf(textIds, random.randint(0, all - 1)) : id;
  });
}

function nthOf(ranges: readonly (readonly [number, number])[], n: number): number {
  for (const [from, to] of ranges) {
    if (n < to - from) return from + n;
    n -= to - from;
  }
  return -1; // not reached: n is below the number of ids
}

/** The share of a box (corners in [0, 1]) that lies under hidden patches of a `grid` x `grid` page. */
export function hiddenShare(box: readonly number[], patchMask: Uint8Array, grid: number): number {
  const area = (box[2] - box[0]) * (box[3] - box[1]);
  if (!(area > 0)) return 0;
  const overlap = (low: number, high: number, cell: number) => Math.max(0, Math.min(high, (cell + 1) / grid) - Math.max(low, cell / grid));
  let hidden = 0;
  for (let row = 0; row < grid; row++) {
    const down = overlap(box[1], box[3], row);
    if (down === 0) continue;
    for (let column = 0; column < grid; column++) {
      if (patchMask[row * grid + column]) hidden += down * overlap(box[0], box[2], column);
    }
  }
  return hidden / area;
}

/**
 * Word-patch alignment: 0 where more than 98 % of a visible word's box is hidden, 1 otherwise; -100 for hidden words,
 * specials and boxes without area, with `strict` also where a part is hidden. Source: Huang et al. 2022, LayoutLMv3, section 3.3.
 */
export function alignmentLabels(o: { boxes: readonly (readonly number[] | undefined)[]; textMask: Uint8Array; patchMask: Uint8Array; grid: number; strict?: boolean }): Int32Array {
  return Int32Array.from(o.boxes, (box, i) => {
    if (!box || o.textMask[i] || !((box[2] - box[0]) * (box[3] - box[1]) > 0)) return -100;
    const share = hiddenShare(box, o.patchMask, o.grid);
    return share > 0.98 ? 0 : o.strict && share > 0 ? -100 : 1;
  });
}
