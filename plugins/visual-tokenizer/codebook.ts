/**
 * The visual vocabulary: unit vectors, the nearest of which a patch is called by. No gradient moves them; they follow the average of
 * what is called by their name. Sources: van den Oord et al. 2017 (codes, straight-through, moving averages), Yu et al. 2022 (unit
 * length), Peng et al. 2022 (VQ-KD: cosine k-means start).
 *
 * CB-1: a batch is read with the codebook as it was before the batch; `afterStep` moves it by counts over the whole batch.
 * CB-2: rows have unit length after every move; a row that nothing was called by stays where it is.
 * CB-3: a codebook that was not loaded starts as ten rounds of k-means over the vectors of the first microbatch it is trained on.
 * CB-4: codes do not change when a vector is scaled by a positive number.
 */
import {
  add, assign, concat, detach, eq, fnv1a32, fromArray, full, gatherRows, ge, gt, l2Normalize, nearestCode, nn, Philox, reshape, scale, scatterAdd,
  split, sub, topK, where, withoutRecording, zeros, type ForwardContext, type Tensor,
} from "../../runtime/index.ts";

export interface CodebookOptions {
  codes: number;
  dim: number;
  /** How much of the old stays in one step. */
  decay: number;
  /** Rounds of k-means of a fresh codebook; 0 keeps its random start. */
  kmeansRounds: number;
  /** A code unused for so many steps is moved beside a busy one; 0: never. */
  restartDeadAfter: number;
}

export interface Quantised {
  /** (..., D), unit length. */
  z: Tensor;
  /** i32 (...) */
  codes: Tensor;
  /** (..., D): the codebook's rows, a constant. */
  nearest: Tensor;
  /** `nearest` in value; its gradient goes to `z` unchanged. */
  straightThrough: Tensor;
}

export interface Codebook extends nn.Module {
  /** Vectors (..., D) of any length -> their codes; while training also counts them. */
  quantise(vectors: Tensor, context: ForwardContext): Quantised;
  afterStep(sums: Record<string, Tensor>): void;
}

/** Names: embedding.weight (K, D), cluster_size (K): the moving average of use; idle (K) with `restartDeadAfter`: steps without use. */
export function codebook({ codes: count, dim, decay, kmeansRounds, restartDeadAfter }: CodebookOptions, embedding: nn.Parameter): Codebook {
  const counter = () => new nn.Parameter([count], { kind: "zeros" }, { trainable: false });
  const usage = counter(), idle = restartDeadAfter > 0 ? counter() : undefined;
  let started = kmeansRounds === 0;

  const start = (z: Tensor, seed: number): void => {
    if (!embedding.loaded) assign(kMeans(reshape(z, [-1, dim]), count, kmeansRounds, seed), embedding.value);
    started = true;
  };

  return {
    parameters: () => nn.collect({ "embedding.weight": embedding, cluster_size: usage, idle }),
    quantise(vectors, { training, seed, addUp }) {
      const z = l2Normalize(vectors);
      const [codes, nearest, jump] = withoutRecording(() => {
        if (training && !started) start(z, seed);
        const codes = nearestCode(z, embedding.value), nearest = gatherRows(embedding.value, codes);
        if (addUp) addUp("codes", totals(z, codes, count));
        return [codes, nearest, sub(nearest, z)];
      });
      return { z, codes, nearest, straightThrough: add(z, detach(jump)) };
    },
    afterStep({ codes: sums }) {
      const rows = embedding.value, [vectors, uses] = split(sums, 1, [dim, 1]);
      const used = gt(uses, zeros([1], rows.dtype));
      const means = where(used, l2Normalize(vectors), rows);
      const moved = l2Normalize(add(scale(rows, decay), scale(means, 1 - decay)));
      const n = reshape(uses, [count]);
      assign(add(scale(usage.value, decay), scale(n, 1 - decay)), usage.value);
      assign(idle ? restart(moved, { means, n, idle: idle.value, after: restartDeadAfter }) : moved, rows);
    },
  };
}

/** Per code: the sum of the vectors called by it, and how many: (K, D + 1). */
function totals(z: Tensor, codes: Tensor, count: number): Tensor {
  return scatterAdd(concat([z, full([...codes.shape, 1], 1, z.dtype)], -1), codes, count);
}

/**
 * Cosine k-means: vectors (N, D) of unit length -> centres (K, D) of unit length. Starts at vectors drawn without replacement, or with
 * it when there are fewer vectors than centres; a centre that nothing is nearest to stays.
 */
export function kMeans(vectors: Tensor, count: number, rounds: number, seed: number): Tensor {
  const size = vectors.shape[0], draw = new Philox(seed, fnv1a32("tokenizer.quantize.start"));
  const first = size >= count ? draw.sample([...Array(size).keys()], count) : Array.from({ length: count }, () => draw.randint(0, size - 1));
  let centres = gatherRows(vectors, fromArray(Int32Array.from(first), [count]));
  for (let round = 0; round < rounds; round++) {
    const [sums, n] = split(totals(vectors, nearestCode(vectors, centres), count), 1, [vectors.shape[1], 1]);
    centres = where(gt(n, zeros([1], n.dtype)), l2Normalize(sums), centres);
  }
  return centres;
}

/**
 * Codes unused for `after` steps move next to busy ones: the most idle beside the most used and so on, nine tenths of the way, so that
 * the two share what the busy one had. Counts and rows in, rows out; nothing random. Source: Linde, Buzo and Gray 1980 (splitting).
 */
function restart(rows: Tensor, { means, n, idle, after }: { means: Tensor; n: Tensor; idle: Tensor; after: number }): Tensor {
  const count = n.shape[0], none = zeros([1], rows.dtype);
  const waited = where(eq(n, none), add(idle, full([1], 1, rows.dtype)), none);
  const dead = ge(waited, full([1], after, rows.dtype));
  assign(where(dead, none, waited), idle);
  const idlest = topK(scale(n, -1), count).indices, busiest = topK(n, count).indices;
  const partners = scatterAdd(gatherRows(means, busiest), idlest, count);
  const beside = l2Normalize(add(scale(partners, 0.9), scale(rows, 0.1)));
  return where(reshape(dead, [count, 1]), beside, rows);
}
