/**
 * Which token comes next: the most likely one, or one drawn. Pure functions over one row of logits and the ids that the grammar allows.
 *
 * TC-1: a draw depends on (seed, sample, number of the token) and the row of logits alone, not on what is generated beside it.
 * TC-2: with equal logits the lower id counts as the more likely, in every mode.
 * Sources: Fan et al. 2018 (top-k), Holtzman et al. 2020 (top-p).
 */
import { philoxBlock, split64 } from "../tensor/philox.ts";
import { type IdRanges } from "./answer-grammar.ts";

export interface Sampling {
  /** Logits are divided by it first. */
  temperature: number;
  /** Only so many of the most likely tokens; Infinity: all. */
  topK: number;
  /** Then only the most likely ones, as few as reach this share of the rest; 1: all. */
  topP: number;
}

/** Natural logarithm of the sum of exp over all logits, or over those of `ranges`. */
export function logSumExp(logits: ArrayLike<number>, ranges: IdRanges = [[0, logits.length]]): number {
  let peak = -Infinity, total = 0;
  for (const [from, to] of ranges) for (let id = from; id < to; id++) if (logits[id] > peak) peak = logits[id];
  if (peak === -Infinity) return -Infinity;
  for (const [from, to] of ranges) for (let id = from; id < to; id++) total += Math.exp(logits[id] - peak);
  return peak + Math.log(total);
}

/** The `count` most likely allowed ids, the most likely first; fewer where fewer are allowed. */
export function mostLikely(logits: ArrayLike<number>, ranges: IdRanges, count: number): number[] {
  const better = (a: number, b: number): boolean => logits[a] > logits[b] || (logits[a] === logits[b] && a < b);
  if (count > fewAtOnce) {
    return idsOf(ranges).sort((a, b) => (better(a, b) ? -1 : 1)).slice(0, count);
  }
  const best: number[] = [];
  for (const [from, to] of ranges) {
    for (let id = from; id < to; id++) {
      if (best.length === count && !better(id, best[count - 1])) continue;
      if (best.length === count) best.pop();
      let at = best.length;
      while (at > 0 && better(id, best[at - 1])) at--;
      best.splice(at, 0, id);
    }
  }
  return best;
}

const idsOf = (ranges: IdRanges): number[] => ranges.flatMap(([from, to]) => Array.from({ length: to - from }, (_, i) => from + i));

/** Beyond so many, sorting all is faster than inserting one by one. */
const fewAtOnce = 64;

/** The allowed id that stands at share `u` of [0, 1) of what temperature, top-k and top-p leave. -1 when nothing is allowed. */
export function drawToken(logits: ArrayLike<number>, ranges: IdRanges, { temperature, topK, topP }: Sampling, u: number): number {
  const everything = topK === Infinity && topP >= 1;
  let ids = everything ? idsOf(ranges) : mostLikely(logits, ranges, topK);
  if (ids.length === 0) return -1;
  const peak = ids.reduce((most, id) => Math.max(most, logits[id]), -Infinity);
  let weights = ids.map((id) => (peak === -Infinity ? 1 : Math.exp((logits[id] - peak) / temperature)));
  let total = weights.reduce((sum, weight) => sum + weight, 0);
  if (topP < 1) {
    let kept = 0, share = 0;
    do share += weights[kept++]; while (kept < ids.length && share < topP * total);
    [ids, weights, total] = [ids.slice(0, kept), weights.slice(0, kept), share];
  }
  let passed = 0;
  for (const [i, weight] of weights.entries()) if ((passed += weight) > u * total) return ids[i];
  return ids[weights.findLastIndex((weight) => weight > 0)]; // rounding: u is almost 1
}

/** In [0, 1), in steps of 2^-53: what decides token `token` of a sample. */
export function drawFor(seed: number, sample: number, token: number): number {
  const words = new Uint32Array(4);
  philoxBlock(split64(seed), token, 0, sample, generationStream, words);
  return ((words[0] >>> 5) * 2 ** 26 + (words[1] >>> 6)) / 2 ** 53;
}

/** Keeps the draws of generation apart from all other streams of a seed. */
const generationStream = 0x67656e;
