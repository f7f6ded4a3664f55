import { defineOp, withoutRecording } from "../autograd/index.ts";
import * as ops from "../ops/index.ts";
import { type Tensor, allocate, fromArray, full, kernel } from "../tensor/index.ts";
import { type Members, wordsHere } from "./members.ts";

/** Logits over words, and what losses and accuracies make of them. With members each has the logits of an equal share of the words. */
export interface VocabularyHead {
  /** x (K, D), table (V, D), bias (V)?, all alike -> (K, V), or of the words here (K, V / count). */
  logits(x: Tensor, table: Tensor, bias?: Tensor): Tensor;
  /** As `ops.crossEntropy` over all words, alike on all members: labels i32 (K) -> (1). */
  crossEntropy(logits: Tensor, labels: Tensor, o: ops.LossOptions): Tensor;
  /** How many rows rank their label first, times `share` -> (1). -100 is never ranked first. Nothing is recorded. */
  correct(logits: Tensor, labels: Tensor, share: number): Tensor;
}

/**
 * The head of everything that predicts words. Over a vocabulary that is shared out, three numbers per row go from member to member: the largest
 * logit and the sum of exponentials, as one log-sum-exp, and the logit of the label. Source: Shoeybi et al. 2019, section 3.
 */
export const vocabularyHead = (members?: Members): VocabularyHead => (members ? sharedHead(members) : wholeHead);

/** `ops.linearCrossEntropy`, with members over their shares of the words: x (K, D), table (V, D), labels i32 (K) -> (1). */
export function linearCrossEntropy(x: Tensor, table: Tensor, labels: Tensor, { weight, members }: ops.LossOptions & { members?: Members }): Tensor {
  if (!members) return ops.linearCrossEntropy(x, table, undefined, labels, { weight });
  const head = sharedHead(members);
  return head.crossEntropy(head.logits(x, table), labels, { weight });
}

const wholeHead: VocabularyHead = {
  logits: (x, table, bias) => ops.linear(x, table, bias),
  crossEntropy: ops.crossEntropy,
  correct: (logits, labels, share) => withoutRecording(() => ops.scale(ops.sum(ops.cast(ops.eq(ops.argmax(logits, -1), labels), "f32")), share)),
};

const sharedHead = (members: Members): VocabularyHead => ({
  logits: (x, table, bias) => ops.linear(members.enter(x), members.part(table, 0), bias && members.part(bias, 0)),
  crossEntropy: (logits, labels, { weight = 1 }) => sharedCrossEntropy(logits, labels, members, weight),
  correct: (logits, labels, share) => withoutRecording(() => {
    const { values, indices } = ops.topK(logits, 1), rows = labels.size, best = ops.argmax(eachOf(members, ops.reshape(values, [rows])), -1);
    const { index, outside } = wordsHere(labels, logits.shape[1], members);
    const here = ops.eq(best, i32(members.index)), hit = ops.where(outside, fromArray([0], [1], "f32"), ops.cast(ops.eq(ops.reshape(indices, [rows]), index), "f32"));
    return ops.scale(members.leave(ops.sum(ops.mul(hit, ops.cast(here, "f32")))), share);
  }),
});

/** x (K) of each member -> (K, count). */
const eachOf = (members: Members, x: Tensor): Tensor => ops.permute(members.gather(ops.reshape(x, [1, x.size]), 0), [1, 0]);

const logSumExpForward = kernel("logsumexp_forward"), crossEntropyForward = kernel("cross_entropy_forward"), crossEntropyBackward = kernel("cross_entropy_backward");

/**
 * crossEntropy over a vocabulary that is shared out. Forward every member adds, for labels among its words, the difference of the log-sum-exp of
 * all words and of its own to what the kernel says of its own. On the way back one more class stands for the words of others, its logit too small
 * to count: so a label that is elsewhere asks for nothing here.
 */
const sharedCrossEntropy = defineOp({
  name: "crossEntropy over shares",
  operands: ["logits"],
  forward: (logits: Tensor, labels: Tensor, members: Members, weight: number) => withoutRecording(() => {
    const [rows, count] = logits.shape, dtype = logits.dtype === "f64" ? "f64" : "f32", here = labelsHere(labels, count, members, -100);
    const own = allocate([rows], dtype), part = allocate([1], dtype);
    logSumExpForward([logits, own]); // also of rows that ask nothing of the words here
    crossEntropyForward([logits, here, part, allocate([rows], dtype)], [weight, 0, 0, 0, 0]);
    const lse = ops.logSumExp(eachOf(members, own), -1), asked = ops.cast(ops.ne(here, i32(-100)), dtype);
    const difference = ops.reshape(ops.sum(ops.mul(ops.sub(lse, own), asked)), [1]);
    return { output: members.leave(ops.add(part, ops.scale(difference, weight))), saves: { logits, labels, members, lse, weight } };
  }),
  gradients: {
    logits(dy, { logits, labels, members, lse, weight }) {
      const [rows, count] = logits.shape, wider = ops.concat([logits, full([rows, 1], elsewhere, logits.dtype)], 1);
      crossEntropyBackward([dy, wider, labelsHere(labels, count, members, count), lse, wider], [weight, 0, 0, 0, 0]); // in place, as the kernel may
      const d = ops.slice(wider, 1, 0, count);
      wider.dispose();
      return d;
    },
  },
});

const elsewhere = -1e30;
const i32 = (value: number): Tensor => fromArray([value], [1], "i32");

/** Labels among the words here; `other` for words of other members; -100 stays. */
function labelsHere(labels: Tensor, count: number, members: Members, other: number): Tensor {
  const { index, outside } = wordsHere(labels, count, members);
  return ops.where(ops.eq(labels, i32(-100)), i32(-100), ops.where(outside, i32(other), index));
}
