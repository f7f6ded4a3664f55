import { RuntimeError, ShapeError } from "../errors.ts";
import { defineOp } from "../autograd/index.ts";
import { type Launch, type Tensor, fromArray, kernel } from "../tensor/index.ts";
import { add, scale } from "./arithmetic.ts";
import { lastDimension, like, needDtype, needFloat, needSameShape, needShape, wide } from "./check.ts";
import { matmul } from "./linear.ts";
import { l2Normalize } from "./norm.ts";

// Losses are sums times a weight, shape (1), f32 also for bf16 operands: the caller puts 1 / (number counted in the whole batch) into the weight,
// so that the losses of microbatches add up. Label -100 is not counted. Empty operands give 0.

export interface LossOptions {
  /** Factor on the sum; 1 by default. */
  weight?: number;
}

const crossEntropyForward = kernel("cross_entropy_forward"), crossEntropyBackward = kernel("cross_entropy_backward");
const bceForward = kernel("bce_forward"), bceBackward = kernel("bce_backward");

export interface CrossEntropyOptions extends LossOptions {
  /** This share of what a label asks for is spread evenly over all classes; 0 by default. Source: Szegedy et al. 2016. */
  smoothing?: number;
}

/**
 * weight * sum over rows of -sum_j q_j log softmax(logits)_j, q the label, smoothed if asked for: logits (..., V), labels i32 (...) -> (1).
 * Gradient: dy * weight * (softmax(logits) - q). A label outside of 0..V-1 is a device fault at the next read.
 * Throws ShapeError when there is not one label per row, ERR_INPUT for a smoothing outside of [0, 1].
 */
export function crossEntropy(logits: Tensor, labels: Tensor, { weight = 1, smoothing = 0 }: CrossEntropyOptions = {}): Tensor {
  return crossEntropyOp(logits, labels, crossEntropyScalars("crossEntropy", weight, smoothing), "crossEntropy");
}

/** The scalars of the cross-entropy kernels for labels that are not spread over neighbours. */
export function crossEntropyScalars(op: string, weight: number, smoothing: number): readonly number[] {
  if (!(smoothing >= 0 && smoothing <= 1)) {
    throw new RuntimeError("ERR_INPUT", `${op}: smoothing expected in [0, 1], got ${smoothing}. 0 switches it off.`, { smoothing });
  }
  return [weight, smoothing, 0, 0, 0];
}

export interface LocationOptions extends LossOptions {
  /** Classes [first, first + bins) are the bins of a coordinate, in order. */
  first: number;
  bins: number;
  /** Width of the bell over neighbouring bins, in bins; 1 by default. */
  sigma?: number;
}

/**
 * Cross-entropy for quantised locations: q is a bell over the bins around the label, exp(-(j - label)² / (2 sigma²)) within 6 sigma,
 * normalised, so that a near miss costs less than a far one: logits (..., V), labels i32 (...), bins or -100 -> (1).
 * Gradient: dy * weight * (softmax(logits) - q). A label that is no bin is a device fault at the next read.
 * Throws ShapeError when the bins are no classes, ERR_INPUT unless sigma is positive.
 */
export function locationCrossEntropy(logits: Tensor, labels: Tensor, { first, bins, sigma = 1, weight = 1 }: LocationOptions): Tensor {
  if (!(sigma > 0 && Number.isFinite(sigma))) {
    throw new RuntimeError("ERR_INPUT", `locationCrossEntropy: sigma expected a positive number of bins, got ${sigma}. Without a bell use crossEntropy.`, { sigma });
  }
  if (![first, bins].every((n) => Number.isInteger(n) && n >= 0) || first + bins > lastDimension(logits)) {
    throw new ShapeError({ op: "locationCrossEntropy", operand: "logits", expected: `(..., V) with classes ${first} to ${first + bins - 1}`, got: logits.shape,
      fix: "first and bins name a range of the classes." });
  }
  return crossEntropyOp(logits, labels, [weight, 0, sigma, first, bins], "locationCrossEntropy");
}

const crossEntropyOp = defineOp({
  name: "crossEntropy",
  operands: ["logits"],
  forward(logits: Tensor, labels: Tensor, scalars: readonly number[], op: string) {
    needFloat(op, "logits", logits);
    needDtype(op, "labels", labels, "i32");
    needShape(op, "logits", logits, ["...", "V"], "One row of classes per label.");
    needShape(op, "labels", labels, logits.shape.slice(0, -1), "One label per row of logits.");
    const loss = wide([1], logits);
    const lse = wide([labels.size], logits);
    crossEntropyForward([logits, labels, loss, lse], scalars);
    return { output: loss, saves: { logits, labels, lse, scalars } };
  },
  gradients: {
    logits(dy, { logits, labels, lse, scalars }) {
      const dlogits = like(logits);
      crossEntropyBackward([dy, logits, labels, lse, dlogits], scalars);
      return dlogits;
    },
  },
});

export interface InfoNceOptions extends LossOptions {
  /** Divides the cosines; 0.05 by default. */
  temperature?: number;
  /** Row of `keys` that belongs to query 0; the others follow in order. 0 by default. */
  offset?: number;
  /** Adds the loss of the keys looking for their queries and halves the sum. Needs as many keys as queries. */
  symmetric?: boolean;
}

/**
 * weight * sum over queries of the cross-entropy of finding one's own key among all: queries (N, C), keys (M, C), M >= N -> (1);
 * logits_ij = cos(query i, key j) / temperature, label i + offset. Gradients flow to both.
 * Sources: van den Oord et al. 2018; Gao et al. 2021. Throws ShapeError when keys are missing, ERR_INPUT unless temperature > 0.
 */
export function infoNce(queries: Tensor, keys: Tensor, { temperature = 0.05, offset = 0, symmetric = false, weight = 1 }: InfoNceOptions = {}): Tensor {
  needFloat("infoNce", "queries", queries);
  needFloat("infoNce", "keys", keys, queries.dtype);
  needShape("infoNce", "queries", queries, ["N", "C"], "One vector per row.");
  needShape("infoNce", "keys", keys, ["M", queries.shape[1]], "One vector per row, as wide as a query.");
  const count = queries.shape[0];
  if (symmetric ? keys.shape[0] !== count || offset !== 0 : !(Number.isInteger(offset) && offset >= 0 && offset + count <= keys.shape[0])) {
    throw new ShapeError({ op: "infoNce", operand: "keys", expected: symmetric ? `${count} rows, one per query, and no offset` : `at least ${offset} + ${count} rows`,
      got: keys.shape, fix: "The key of query i is row offset + i." });
  }
  if (!(temperature > 0)) throw new RuntimeError("ERR_INPUT", `infoNce: temperature expected above 0, got ${temperature}. 0.05 is usual.`, { temperature });
  const labels = fromArray(Int32Array.from({ length: count }, (_, i) => offset + i), [count]);
  const q = l2Normalize(queries), k = l2Normalize(keys);
  const loss = (a: Tensor, b: Tensor, w: number) => crossEntropy(scale(matmul(a, b, { transB: true }), 1 / temperature), labels, { weight: w });
  return symmetric ? add(loss(q, k, weight / 2), loss(k, q, weight / 2)) : loss(q, k, weight);
}

/** weight * sum of the binary cross-entropy of sigmoid(logits): logits (...), labels i32 (...) of 0, 1 or -100 -> (1). */
export const binaryCrossEntropy = defineOp({
  name: "binaryCrossEntropy",
  operands: ["logits"],
  forward(logits: Tensor, labels: Tensor, { weight = 1 }: LossOptions = {}) {
    needFloat("binaryCrossEntropy", "logits", logits);
    needDtype("binaryCrossEntropy", "labels", labels, "i32");
    needSameShape("binaryCrossEntropy", "labels", labels, logits.shape, "One label per logit.");
    const loss = wide([1], logits);
    bceForward([logits, labels, loss], [weight]);
    return { output: loss, saves: { logits, labels, weight } };
  },
  gradients: {
    logits(dy, { logits, labels, weight }) {
      const dlogits = like(logits);
      bceBackward([dy, logits, labels, dlogits], [weight]);
      return dlogits;
    },
  },
});

/** weight * sum over rows of 1 - cos(pred, target): (..., C) each -> (1). No gradient to the target. */
export const cosineLoss = pairLoss("cosineLoss", "cosine_loss");
/** weight * sum (pred - target)²: any shape, both alike -> (1). Gradient: dy * weight * 2 (pred - target), none to the target. */
export const squaredError = pairLoss("squaredError", "squared_error");
/** weight * sum |pred - target|: any shape, both alike -> (1). Gradient: the sign of pred - target, none to the target. */
export const absoluteError = pairLoss("absoluteError", "absolute_error");
/**
 * weight * sum over rows of sum_j p_j (log p_j - log q_j), p = softmax(target), q = softmax(pred): logits (..., V) each -> (1).
 * Gradient: dy * weight * (q - p), none to the target. Source: Hinton et al. 2015.
 */
export const klDivergence = pairLoss("klDivergence", "kl_divergence");
/** weight * sum |pred - target|: boxes (K, 4) as centre x, centre y, width, height -> (1). */
export const boxL1 = pairLoss("boxL1", "box_l1", 4);
/** weight * sum over boxes of 1 - GIoU: (K, 4) as centre x, centre y, width, height -> (1). Source: Rezatofighi et al. 2019. */
export const boxGiou = pairLoss("boxGiou", "box_giou", 4);

function pairLoss(name: string, kernelName: string, columns?: number): (pred: Tensor, target: Tensor, o?: LossOptions) => Tensor {
  const forwardKernel: Launch = kernel(`${kernelName}_forward`);
  const backwardKernel: Launch = kernel(`${kernelName}_backward`);
  return defineOp({
    name,
    operands: ["pred"],
    forward(pred: Tensor, target: Tensor, { weight = 1 }: LossOptions = {}) {
      needFloat(name, "pred", pred);
      needFloat(name, "target", target, pred.dtype);
      if (columns !== undefined) needShape(name, "pred", pred, ["K", columns], "One box of four numbers per row.");
      needSameShape(name, "target", target, pred.shape, "One target per prediction.");
      const loss = wide([1], pred);
      forwardKernel([pred, target, loss], [weight]);
      return { output: loss, saves: { pred, target, weight } };
    },
    gradients: {
      pred(dy, { pred, target, weight }) {
        const dpred = like(pred);
        backwardKernel([dy, pred, target, dpred], [weight]);
        return dpred;
      },
    },
  });
}
