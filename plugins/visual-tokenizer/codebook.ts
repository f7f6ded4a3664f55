/**
 * The visual vocabulary: unit vectors, the nearest of which a patch is called by. No gradient moves them; they follow the average of
 * what is called by their name. Sources: van den Oord et al. 2017 (codes, straight-through, moving averages), Yu et al. 2022 (unit
 * length), Peng et al. 2022 (VQ-KD: cosine k-means start).
 *
 * CB-1: a batch is read with the codebook as it was before the batch; `afterStep` moves it by counts over the whole batch.
 * CB-2: rows have unit length after every move; a row that nothing was called by stays where it is.
 * CB-3: a codebook that was not loaded starts as `kmeansRounds` rounds of k-means over the vectors of the first microbatch it is trained on.
 * CB-4: codes do not change when a vector is scaled by a positive number.
 */
import {
  add, assign, cast, concat, detach, eq, fnv1a32, fromArray, full, gatherRows, ge, gt, l2Normalize, linear, mul, nearestCode, nn, Philox, reshape, scale, scatterAdd,
  split, sub, topK, where, withoutRecording, zeros, type ForwardContext, type Tensor,
} from "../../runtime/index.ts";

export interface CodebookOptions {
  codes: number;
  dim: number;
  /** How much of the old stays in one step. */
  decay: number;
  /** Rounds of k-means of a fresh codebook; 0 keeps its random start. */
  kmeansRounds: number;
  /** A code unused for so many steps takes over half of what a busy one is used for; 0: never. */
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
  quantise(vectors: Tensor, context: Pick<ForwardContext, "training" | "seed" | "step" | "addUp">): Quantised;
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
    quantise(vectors, context) {
      const { training, seed, addUp } = context;
      const z = l2Normalize(vectors);
      const [codes, nearest, jump] = withoutRecording(() => {
        if (training && !started) start(z, seed);
        const codes = nearestCode(z, embedding.value), nearest = gatherRows(embedding.value, codes), jump = sub(nearest, z);
        if (addUp) addUp("codes", totals(z, codes, count));
        if (addUp && idle) addUp("halves", totals(z, codes, count, halfSpace(jump, seed, context.step)));
        return [codes, nearest, jump];
      });
      return { z, codes, nearest, straightThrough: add(z, detach(jump)) };
    },
    afterStep({ codes: sums, halves }) {
      const rows = embedding.value, [vectors, uses] = split(sums, 1, [dim, 1]);
      const means = directions(vectors, uses, rows);
      const moved = l2Normalize(add(scale(rows, decay), scale(means, 1 - decay)));
      const n = reshape(uses, [count]);
      assign(add(scale(usage.value, decay), scale(n, 1 - decay)), usage.value);
      if (!idle) return assign(moved, rows);
      const [halfVectors, halfUses] = split(halves, 1, [dim, 1]);
      assign(restart(moved, { halves: directions(halfVectors, halfUses, means), n, idle: idle.value, after: restartDeadAfter }), rows);
    },
  };
}

/** Per code: the sum of the vectors called by it, and how many: (K, D + 1). `weight` (..., 1) says which vectors count. */
function totals(z: Tensor, codes: Tensor, count: number, weight?: Tensor): Tensor {
  const counted = concat([z, full([...codes.shape, 1], 1, z.dtype)], -1);
  return scatterAdd(weight ? mul(counted, weight) : counted, codes, count);
}

/** The mean directions (K, D) of what was summed, and `otherwise` where nothing was. uses (K, 1). */
const directions = (sums: Tensor, uses: Tensor, otherwise: Tensor): Tensor =>
  where(gt(uses, zeros([1], uses.dtype)), l2Normalize(sums), otherwise);

/** 1 for every vector that lies on one side of its code, as a random direction of this step has it: jump (..., D) -> (..., 1). */
function halfSpace(jump: Tensor, seed: number, step: number): Tensor {
  const draw = new Philox(seed + step, fnv1a32("tokenizer.quantize.split")), dim = jump.shape[jump.rank - 1];
  const direction = fromArray(Float64Array.from({ length: dim }, () => draw.normal()), [1, dim], jump.dtype as "f32" | "f64");
  const side = gt(linear(jump, direction), zeros([1], jump.dtype));
  return cast(side, jump.dtype as "f32" | "f64");
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
    centres = directions(sums, n, centres);
  }
  return centres;
}

/**
 * Codes unused for `after` steps go where busy ones are: the most idle to the middle of one half of what the most used was used for, and so
 * on, so that the two share it from the next step on. Source: Linde, Buzo and Gray 1980 (splitting).
 */
function restart(rows: Tensor, { halves, n, idle, after }: { halves: Tensor; n: Tensor; idle: Tensor; after: number }): Tensor {
  const count = n.shape[0], none = zeros([1], rows.dtype);
  const waited = where(eq(n, none), add(idle, full([1], 1, rows.dtype)), none);
  const dead = ge(waited, full([1], after, rows.dtype));
  assign(where(dead, none, waited), idle);
  const idlest = topK(scale(n, -1), count).indices, busiest = topK(n, count).indices;
  const partners = scatterAdd(gatherRows(halves, busiest), idlest, count);
  return where(reshape(dead, [count, 1]), partners, rows);
}
