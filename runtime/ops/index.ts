export { gelu, quickGelu, silu, relu, tanh, sigmoid, sin, cos, exp, log, sqrt, abs, swiglu } from "./activation.ts";
export { type CastTarget, add, sub, mul, div, scale, cast, toPrecision, widen, sumTo, expandTo } from "./arithmetic.ts";
export { type AttentionInput, attention, rope } from "./attention.ts";
export type { AttentionDropout, AttentionGroups, AttentionRules } from "./attention-rules.ts";
export { clamp, neg, pow } from "./clamp.ts";
export { eq, ne, lt, le, gt, ge, where } from "./compare.ts";
export { type DropoutOptions, dropPath, dropout } from "./dropout.ts";
export { gatherRows, indexSelect, maskRows, patchify, scatterAdd } from "./gather.ts";
export { type MatmulOptions, linear, matmul } from "./linear.ts";
export { type LinearCrossEntropyOptions, linearCrossEntropy } from "./linear-cross-entropy.ts";
export {
  type CrossEntropyOptions, type InfoNceOptions, type LocationOptions, type LossOptions, crossEntropy, locationCrossEntropy, binaryCrossEntropy,
  infoNce, cosineLoss, squaredError, absoluteError, klDivergence, boxL1, boxGiou,
} from "./loss.ts";
export { nearestCode } from "./nearest-code.ts";
export { layerNorm, rmsNorm, l2Normalize } from "./norm.ts";
export { sum, mean, max, argmax, logSumExp, l2Norm, maskedMean, zeroGradient, detach } from "./reduce.ts";
export { type ResizeOptions, resize } from "./resize.ts";
export { runningSum } from "./running-sum.ts";
export { reshape, slice, split, concat, pad, permute } from "./shape.ts";
export { softmax, logSoftmax } from "./softmax.ts";
export { topK } from "./top-k.ts";
