import { defineOp } from "../autograd/index.ts";
import { type Launch, type Tensor, allocate, kernel } from "../tensor/index.ts";
import { like, needDtype, needFloat, needSameShape, needShape } from "./check.ts";

// Losses are sums times a weight, shape (1): the caller puts 1 / (number counted in the whole batch) into the weight,
// so that the losses of microbatches add up. Label -100 is not counted. Empty operands give 0.

export interface LossOptions {
  /** Factor on the sum; 1 by default. */
  weight?: number;
}

const crossEntropyForward = kernel("cross_entropy_forward"), crossEntropyBackward = kernel("cross_entropy_backward");
const bceForward = kernel("bce_forward"), bceBackward = kernel("bce_backward");

/** weight * sum over rows of -log softmax(logits)[label]: logits (..., V), labels i32 (...) -> (1). */
export const crossEntropy = defineOp({
  name: "crossEntropy",
  operands: ["logits"],
  forward(logits: Tensor, labels: Tensor, { weight = 1 }: LossOptions = {}) {
    needFloat("crossEntropy", "logits", logits);
    needDtype("crossEntropy", "labels", labels, "i32");
    needShape("crossEntropy", "labels", labels, logits.shape.slice(0, -1), "One label per row of logits.");
    const loss = allocate([1], logits.dtype);
    const lse = allocate([labels.size], logits.dtype);
    crossEntropyForward([logits, labels, loss, lse], [weight]);
    return { output: loss, saves: { logits, labels, lse, weight } };
  },
  gradients: {
    logits(dy, { logits, labels, lse, weight }) {
      const dlogits = like(logits);
      crossEntropyBackward([dy, logits, labels, lse, dlogits], [weight]);
      return dlogits;
    },
  },
});

/** weight * sum of the binary cross-entropy of sigmoid(logits): logits (...), labels i32 (...) of 0, 1 or -100 -> (1). */
export const binaryCrossEntropy = defineOp({
  name: "binaryCrossEntropy",
  operands: ["logits"],
  forward(logits: Tensor, labels: Tensor, { weight = 1 }: LossOptions = {}) {
    needFloat("binaryCrossEntropy", "logits", logits);
    needDtype("binaryCrossEntropy", "labels", labels, "i32");
    needSameShape("binaryCrossEntropy", "labels", labels, logits.shape, "One label per logit.");
    const loss = allocate([1], logits.dtype);
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
      const loss = allocate([1], pred.dtype);
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
