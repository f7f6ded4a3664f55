/** Every op with operands small enough for central differences: what the tests of gradients in f64 and of bf16 run through. */
import * as ops from "../../../runtime/ops/index.ts";
import { type Tensor, fnv1a32, fromArray } from "../../../runtime/tensor/index.ts";
import { flags, ids, randn } from "../numbers.ts";

export interface OpCase {
  name: string;
  /** In f64, those that are no ids or masks. */
  inputs: () => Tensor[];
  f: (...inputs: Tensor[]) => Tensor | readonly Tensor[];
  /** Positions of the inputs that have a gradient; default: all in f64. */
  wrt?: readonly number[];
  /** Positions of the inputs that stay f32 beside bf16 activations: parameters and their like. */
  f32?: readonly number[];
  /** Largest error in bf16, as a share of the largest element. Default 2^-8: an element is rounded once. */
  bf16?: number;
}

/** The derivative is written in the output, which was rounded; or in an inner result, as the gradient of logits is. */
const inOutput = 2 ** -7;
/** Gradients of a softmax are differences of what was rounded. */
const throughSoftmax = 2 ** -6;

let seed = 0;
const r = (...shape: number[]): Tensor => randn(shape, { seed: ++seed });
/** Away from zero, for quotients and kinks. */
const far = (...shape: number[]): Tensor => {
  const values = Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => (i % 2 ? -1 : 1) * (0.5 + ((i * 37) % 19) / 19));
  return fromArray(values, shape);
};
/** Between 0.5 and 2.5, clear of 0.6 and 1.5. */
const positive = (): Tensor => fromArray(Float64Array.of(0.5, 0.7, 1.1, 1.6, 2.2, 2.5), [2, 3]);
const boxes = (shift: number): Tensor => fromArray(Float64Array.from([0.3, 0.4, 0.2, 0.3, 0.6, 0.5, 0.35, 0.2, 0.52, 0.48, 0.7, 0.66].map((v, i) => v + shift * (1 + i / 7))), [3, 4]);

const table: OpCase[] = [
  { name: "add", inputs: () => [r(2, 3), r(2, 3)], f: ops.add },
  { name: "add, broadcasting both ways", f32: [1], inputs: () => [r(2, 1, 3), r(4, 1)], f: ops.add },
  { name: "sub, broadcasting", f32: [1], inputs: () => [r(3), r(2, 3)], f: ops.sub },
  { name: "mul", inputs: () => [r(2, 3), r(2, 3)], f: ops.mul },
  { name: "mul, broadcasting", f32: [1], inputs: () => [r(2, 2, 3), r(3)], f: ops.mul },
  { name: "mul of a tensor with itself", inputs: () => [r(4)], f: (x) => ops.mul(x, x) },
  { name: "div, broadcasting", f32: [1], inputs: () => [r(2, 3), far(3)], f: ops.div },
  { name: "div by the larger", f32: [1], inputs: () => [r(3), far(2, 3)], f: ops.div },
  { name: "scale", inputs: () => [r(5)], f: (x) => ops.scale(x, -2.5) },
  { name: "sumTo", inputs: () => [r(2, 3, 2)], f: (x) => ops.sumTo(x, [3, 1]) },
  { name: "expandTo", inputs: () => [r(3, 1)], f: (x) => ops.expandTo(x, [2, 3, 2]) },
  { name: "gelu", inputs: () => [r(9)], f: ops.gelu },
  { name: "quickGelu", inputs: () => [r(9)], f: ops.quickGelu },
  { name: "silu", inputs: () => [r(9)], f: ops.silu },
  { name: "relu", inputs: () => [far(9)], f: ops.relu },
  { name: "tanh", bf16: inOutput, inputs: () => [r(9)], f: ops.tanh },
  { name: "sigmoid", bf16: inOutput, inputs: () => [r(9)], f: ops.sigmoid },
  { name: "sin", inputs: () => [r(9)], f: ops.sin },
  { name: "cos", inputs: () => [r(9)], f: ops.cos },
  { name: "swiglu", inputs: () => [r(2, 5), r(2, 5)], f: ops.swiglu },
  { name: "linear", f32: [1, 2], inputs: () => [r(2, 3, 4), r(5, 4), r(5)], f: (x, w, b) => ops.linear(x, w, b) },
  { name: "linear without bias", f32: [1], inputs: () => [r(3, 4), r(2, 4)], f: (x, w) => ops.linear(x, w) },
  ...[false, true].flatMap((transA) => [false, true].map((transB) => ({
    name: `matmul${transA ? ", a transposed" : ""}${transB ? ", b transposed" : ""}`, f32: [1],
    inputs: () => [transA ? r(3, 2) : r(2, 3), transB ? r(4, 3) : r(3, 4)],
    f: (a: Tensor, b: Tensor) => ops.matmul(a, b, { transA, transB }),
  }))),
  { name: "layerNorm", f32: [1, 2], inputs: () => [r(3, 5), r(5), r(5)], f: (x, w, b) => ops.layerNorm(x, w, b, { eps: 1e-6 }) },
  { name: "rmsNorm", f32: [1], inputs: () => [r(3, 5), r(5)], f: (x, w) => ops.rmsNorm(x, w, { eps: 1e-5 }) },
  { name: "l2Normalize", bf16: inOutput, inputs: () => [r(3, 5)], f: ops.l2Normalize },
  { name: "softmax", bf16: throughSoftmax, inputs: () => [r(3, 5)], f: ops.softmax },
  { name: "attention", bf16: throughSoftmax, inputs: () => [r(2, 3, 4), r(2, 5, 4), r(2, 5, 4)], f: (q, k, v) => ops.attention({ q, k, v, heads: 2 }) },
  { name: "attention, causal, grouped, more keys than queries", bf16: throughSoftmax, inputs: () => [r(2, 3, 8), r(2, 5, 4), r(2, 5, 4)], f: (q, k, v) => ops.attention({ q, k, v, heads: 4, kvHeads: 2, causal: true }) },
  {
    name: "attention with dropped keys, one row without any", bf16: 2 ** -4,
    inputs: () => [r(2, 3, 4), r(2, 3, 4), r(2, 3, 4), flags([1, 0, 1, 0, 0, 0], [2, 3])],
    f: (q, k, v, keyMask) => ops.attention({ q, k, v, keyMask, heads: 2 }),
  },
  {
    name: "attention with a relative bias table", bf16: throughSoftmax, f32: [3],
    inputs: () => [r(1, 7, 4), r(1, 7, 4), r(1, 7, 4), r(18, 2)],
    f: (q, k, v, biasTable) => ops.attention({ q, k, v, biasTable, grid: [2, 3], heads: 2, scale: 0.3 }),
  },
  { name: "attention, cross", bf16: throughSoftmax, inputs: () => [r(2, 5, 4), r(2, 3, 4), r(2, 3, 4)], f: (q, k, v) => ops.attention({ q, k, v, heads: 2 }) },
  { name: "attention in a window", bf16: throughSoftmax, inputs: () => [r(1, 3, 4), r(1, 6, 4), r(1, 6, 4)], f: (q, k, v) => ops.attention({ q, k, v, heads: 2, causal: true, window: 3 }) },
  { name: "attention in sequences", bf16: throughSoftmax, inputs: () => [r(1, 6, 4), r(1, 6, 2), r(1, 6, 2)], f: (q, k, v) => ops.attention({ q, k, v, heads: 2, kvHeads: 1, causal: true, boundaries: [0, 2, 2, 6] }) },
  ...(["split", "roll"] as const).flatMap((wrap) => [false, true].map((causal) => ({
    name: `attention in groups, ${wrap}${causal ? ", causal" : ""}`, bf16: throughSoftmax, inputs: () => [r(1, 8, 4), r(1, 8, 2), r(1, 8, 2)],
    f: (q: Tensor, k: Tensor, v: Tensor) => ops.attention({ q, k, v, heads: 2, kvHeads: 1, causal, groups: { size: 4, wrap } }),
  }))),
  {
    name: "attention with dropout, padded", bf16: throughSoftmax,
    inputs: () => [r(2, 4, 4), r(2, 4, 4), r(2, 4, 4), flags([1, 1, 1, 0, 1, 1, 1, 1], [2, 4])],
    f: (q, k, v, keyMask) => ops.attention({ q, k, v, keyMask, heads: 2, dropout: { p: 0.4, sampleIds: [7, 9], seed: 1, step: 2, site: 3 } }),
  },
  { name: "rope", wrt: [0], f32: [2], inputs: () => [r(2, 3, 8), ids([0, 1, 2, 5, 6, 7], [2, 3]), fromArray(new Float64Array([1, 0.1]), [2])], f: (x, p, w) => ops.rope(x, p, w, { heads: 2 }) },
  { name: "reshape", inputs: () => [r(2, 6)], f: (x) => ops.reshape(x, [3, -1]) },
  { name: "slice", inputs: () => [r(2, 5, 2)], f: (x) => ops.slice(x, 1, 1, 3) },
  { name: "split", inputs: () => [r(2, 6)], f: (x) => ops.split(x, -1, [1, 3, 2]) },
  { name: "concat", inputs: () => [r(2, 1, 2), r(2, 3, 2), r(2, 2, 2)], f: (...parts) => ops.concat(parts, 1) },
  { name: "concat of more than eight", inputs: () => Array.from({ length: 11 }, () => r(1, 2)), f: (...parts) => ops.concat(parts, 0) },
  { name: "permute", inputs: () => [r(2, 3, 4)], f: (x) => ops.permute(x, [2, 0, 1]) },
  { name: "gatherRows with a row twice and one never", inputs: () => [r(4, 3), ids([2, 0, 2, 3, 2, 0], [2, 3])], f: ops.gatherRows },
  { name: "maskRows", f32: [2], inputs: () => [r(2, 3, 4), flags([1, 0, 0, 0, 1, 1], [2, 3]), r(4)], f: ops.maskRows },
  { name: "patchify", inputs: () => [r(2, 3, 4, 6)], f: (x) => ops.patchify(x, 2) },
  { name: "sum", inputs: () => [r(3, 4)], f: (x) => ops.sum(x) },
  { name: "maskedMean with an empty row", inputs: () => [r(2, 3, 4), flags([1, 0, 1, 0, 0, 0], [2, 3])], f: ops.maskedMean },
  { name: "crossEntropy", inputs: () => [r(4, 5), ids([1, -100, 4, 0])], f: (x, labels) => ops.crossEntropy(x, labels, { weight: 0.3 }) },
  { name: "binaryCrossEntropy", inputs: () => [r(2, 3), ids([1, 0, -100, 0, 1, 1], [2, 3])], f: (x, labels) => ops.binaryCrossEntropy(x, labels, { weight: 0.5 }) },
  { name: "cosineLoss", wrt: [0], f32: [1], inputs: () => [r(3, 4), r(3, 4)], f: (x, target) => ops.cosineLoss(x, ops.detach(target), { weight: 0.7 }) },
  { name: "boxL1", wrt: [0], f32: [1], inputs: () => [boxes(0), boxes(0.02)], f: (x, target) => ops.boxL1(x, ops.detach(target), { weight: 5 }) },
  { name: "boxGiou, overlapping", wrt: [0], f32: [1], inputs: () => [boxes(0), boxes(0.02)], f: (x, target) => ops.boxGiou(x, ops.detach(target), { weight: 2 }) },
  { name: "boxGiou, apart", wrt: [0], f32: [1], inputs: () => [boxes(0), boxes(0.9)], f: (x, target) => ops.boxGiou(x, ops.detach(target)) },
  { name: "exp", bf16: inOutput, inputs: () => [r(9)], f: ops.exp },
  { name: "log", inputs: () => [positive()], f: ops.log },
  { name: "sqrt", bf16: inOutput, inputs: () => [positive()], f: ops.sqrt },
  { name: "abs", inputs: () => [far(9)], f: ops.abs },
  { name: "neg", inputs: () => [r(9)], f: ops.neg },
  { name: "pow", inputs: () => [positive()], f: (x) => ops.pow(x, 2.5) },
  { name: "clamp", inputs: () => [positive()], f: (x) => ops.clamp(x, 0.6, 1.5) },
  { name: "where of scalars", inputs: () => [r(), r(), flags([1], [])], f: (a, b, mask) => ops.where(mask, a, b) },
  { name: "where", f32: [1], inputs: () => [r(2, 3), r(3), flags([1, 0, 1, 1, 0, 0], [2, 3])], f: (a, b, mask) => ops.where(mask, a, b) },
  { name: "sum along an axis", inputs: () => [r(2, 3, 4)], f: (x) => ops.sum(x, 1) },
  { name: "mean along an axis", inputs: () => [r(2, 3, 4)], f: (x) => ops.mean(x, 0) },
  { name: "max", inputs: () => [r(2, 3, 4)], f: (x) => ops.max(x, 1) },
  { name: "logSumExp", bf16: inOutput, inputs: () => [r(2, 3, 4)], f: (x) => ops.logSumExp(x, 1) },
  { name: "l2Norm", bf16: inOutput, inputs: () => [r(2, 3, 4)], f: (x) => ops.l2Norm(x, -1) },
  { name: "logSoftmax", bf16: inOutput, inputs: () => [r(3, 5)], f: ops.logSoftmax },
  { name: "topK", inputs: () => [r(3, 5)], f: (x) => ops.topK(x, 2).values },
  { name: "pad", inputs: () => [r(2, 3, 2)], f: (x) => ops.pad(x, 1, 2, 1) },
  { name: "indexSelect", inputs: () => [r(2, 3, 2), ids([1, 0, 1])], f: (x, index) => ops.indexSelect(x, 1, index) },
  { name: "scatterAdd", inputs: () => [r(2, 2, 3), ids([2, 0, 2, 1], [2, 2])], f: (x, index) => ops.scatterAdd(x, index, 4) },
  ...(["bilinear", "bicubic"] as const).map((mode) => ({ name: `resize, ${mode}`, inputs: () => [r(2, 3, 4)], f: (x: Tensor) => ops.resize(x, { height: 5, width: 3, mode }) })),
  { name: "crossEntropy, smoothed", inputs: () => [r(4, 5), ids([1, -100, 4, 0])], f: (x, labels) => ops.crossEntropy(x, labels, { weight: 0.3, smoothing: 0.2 }) },
  { name: "locationCrossEntropy", inputs: () => [r(4, 5), ids([1, -100, 3, 2])], f: (x, labels) => ops.locationCrossEntropy(x, labels, { first: 1, bins: 4, sigma: 0.8 }) },
  { name: "squaredError", wrt: [0], f32: [1], inputs: () => [r(2, 3), r(2, 3)], f: (x, target) => ops.squaredError(x, ops.detach(target), { weight: 0.7 }) },
  { name: "absoluteError", wrt: [0], f32: [1], inputs: () => [r(2, 3), r(2, 3)], f: (x, target) => ops.absoluteError(x, ops.detach(target), { weight: 0.7 }) },
  { name: "klDivergence", wrt: [0], f32: [1], inputs: () => [r(3, 4), r(3, 4)], f: (x, target) => ops.klDivergence(x, ops.detach(target), { weight: 0.7 }) },
  { name: "infoNce", bf16: throughSoftmax, f32: [1], inputs: () => [r(3, 5), r(3, 5)], f: (a, b) => ops.infoNce(a, b, { temperature: 0.5, weight: 1 / 3 }) },
  { name: "infoNce, symmetric", bf16: throughSoftmax, inputs: () => [r(3, 5), r(3, 5)], f: (a, b) => ops.infoNce(a, b, { temperature: 0.5, symmetric: true }) },
  ...[3, 256].map((chunkRows) => ({
    name: `linearCrossEntropy by ${chunkRows} rows`, bf16: inOutput, f32: [1, 2], inputs: () => [r(2, 5, 3), r(7, 3), r(7), ids([0, 6, -100, 3, 2, 2, 5, -100, 1, 4], [2, 5])],
    f: (x: Tensor, w: Tensor, b: Tensor, labels: Tensor) => ops.linearCrossEntropy(x, w, b, labels, { weight: 0.3, smoothing: 0.1, chunkRows }),
  })),
  { name: "dropPath", inputs: () => [r(4, 2)], f: (x) => ops.dropPath(x, { p: 0.4, sampleIds: [0, 1, 2, 3], seed: 1, step: 2, site: 3 }) },
  { name: "dropout", inputs: () => [r(2, 3, 4)], f: (x) => ops.dropout(x, { p: 0.4, sampleIds: [7, 9], seed: 1, step: 2, site: 3 }) },
];

/** The operands of a case depend on its name alone. */
export const cases: readonly OpCase[] = table.map((each) => ({
  ...each,
  inputs() {
    seed = fnv1a32(each.name);
    return each.inputs();
  },
}));
