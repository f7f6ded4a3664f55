import assert from "node:assert/strict";
import { gradcheck } from "../../../runtime/autograd/index.ts";
import * as ops from "../../../runtime/ops/index.ts";
import { type Tensor, fromArray } from "../../../runtime/tensor/index.ts";
import { flags, ids, noLeaks, randn, withScope } from "../numbers.ts";

type Case = { name: string; inputs: () => Tensor[]; f: (...inputs: Tensor[]) => Tensor | readonly Tensor[]; tolerance?: number };

let seed = 0;
const r = (...shape: number[]): Tensor => randn(shape, { seed: ++seed });
/** Away from zero, for quotients and kinks. */
const far = (...shape: number[]): Tensor => {
  const values = Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => (i % 2 ? -1 : 1) * (0.5 + ((i * 37) % 19) / 19));
  return fromArray(values, shape);
};
const boxes = (shift: number): Tensor => fromArray(Float64Array.from([0.3, 0.4, 0.2, 0.3, 0.6, 0.5, 0.35, 0.2, 0.52, 0.48, 0.7, 0.66].map((v, i) => v + shift * (1 + i / 7))), [3, 4]);

const cases: Case[] = [
  { name: "add", inputs: () => [r(2, 3), r(2, 3)], f: ops.add },
  { name: "add, broadcasting both ways", inputs: () => [r(2, 1, 3), r(4, 1)], f: ops.add },
  { name: "sub, broadcasting", inputs: () => [r(3), r(2, 3)], f: ops.sub },
  { name: "mul", inputs: () => [r(2, 3), r(2, 3)], f: ops.mul },
  { name: "mul, broadcasting", inputs: () => [r(2, 2, 3), r(3)], f: ops.mul },
  { name: "mul of a tensor with itself", inputs: () => [r(4)], f: (x) => ops.mul(x, x) },
  { name: "div, broadcasting", inputs: () => [r(2, 3), far(3)], f: ops.div },
  { name: "div by the larger", inputs: () => [r(3), far(2, 3)], f: ops.div },
  { name: "scale", inputs: () => [r(5)], f: (x) => ops.scale(x, -2.5) },
  { name: "sumTo", inputs: () => [r(2, 3, 2)], f: (x) => ops.sumTo(x, [3, 1]) },
  { name: "expandTo", inputs: () => [r(3, 1)], f: (x) => ops.expandTo(x, [2, 3, 2]) },
  { name: "gelu", inputs: () => [r(9)], f: ops.gelu },
  { name: "quickGelu", inputs: () => [r(9)], f: ops.quickGelu },
  { name: "silu", inputs: () => [r(9)], f: ops.silu },
  { name: "relu", inputs: () => [far(9)], f: ops.relu },
  { name: "tanh", inputs: () => [r(9)], f: ops.tanh },
  { name: "sigmoid", inputs: () => [r(9)], f: ops.sigmoid },
  { name: "sin", inputs: () => [r(9)], f: ops.sin },
  { name: "cos", inputs: () => [r(9)], f: ops.cos },
  { name: "swiglu", inputs: () => [r(2, 5), r(2, 5)], f: ops.swiglu },
  { name: "linear", inputs: () => [r(2, 3, 4), r(5, 4), r(5)], f: (x, w, b) => ops.linear(x, w, b) },
  { name: "linear without bias", inputs: () => [r(3, 4), r(2, 4)], f: (x, w) => ops.linear(x, w) },
  ...[false, true].flatMap((transA) => [false, true].map((transB) => ({
    name: `matmul${transA ? ", a transposed" : ""}${transB ? ", b transposed" : ""}`,
    inputs: () => [transA ? r(3, 2) : r(2, 3), transB ? r(4, 3) : r(3, 4)],
    f: (a: Tensor, b: Tensor) => ops.matmul(a, b, { transA, transB }),
  }))),
  { name: "layerNorm", inputs: () => [r(3, 5), r(5), r(5)], f: (x, w, b) => ops.layerNorm(x, w, b, { eps: 1e-6 }) },
  { name: "rmsNorm", inputs: () => [r(3, 5), r(5)], f: (x, w) => ops.rmsNorm(x, w, { eps: 1e-5 }) },
  { name: "l2Normalize", inputs: () => [r(3, 5)], f: ops.l2Normalize },
  { name: "softmax", inputs: () => [r(3, 5)], f: ops.softmax },
  { name: "attention", inputs: () => [r(2, 3, 4), r(2, 5, 4), r(2, 5, 4)], f: (q, k, v) => ops.attention({ q, k, v, heads: 2 }) },
  { name: "attention, causal, grouped, more keys than queries", inputs: () => [r(2, 3, 8), r(2, 5, 4), r(2, 5, 4)], f: (q, k, v) => ops.attention({ q, k, v, heads: 4, kvHeads: 2, causal: true }) },
  {
    name: "attention with dropped keys, one row without any",
    inputs: () => [r(2, 3, 4), r(2, 3, 4), r(2, 3, 4), flags([1, 0, 1, 0, 0, 0], [2, 3])],
    f: (q, k, v, keyMask) => ops.attention({ q, k, v, keyMask, heads: 2 }),
  },
  {
    name: "attention with a relative bias table",
    inputs: () => [r(1, 7, 4), r(1, 7, 4), r(1, 7, 4), r(18, 2)],
    f: (q, k, v, biasTable) => ops.attention({ q, k, v, biasTable, grid: [2, 3], heads: 2, scale: 0.3 }),
  },
  { name: "attention, cross", inputs: () => [r(2, 5, 4), r(2, 3, 4), r(2, 3, 4)], f: (q, k, v) => ops.attention({ q, k, v, heads: 2 }) },
  { name: "attention in a window", inputs: () => [r(1, 3, 4), r(1, 6, 4), r(1, 6, 4)], f: (q, k, v) => ops.attention({ q, k, v, heads: 2, causal: true, window: 3 }) },
  { name: "attention in sequences", inputs: () => [r(1, 6, 4), r(1, 6, 2), r(1, 6, 2)], f: (q, k, v) => ops.attention({ q, k, v, heads: 2, kvHeads: 1, causal: true, boundaries: [0, 2, 2, 6] }) },
  ...(["split", "roll"] as const).flatMap((wrap) => [false, true].map((causal) => ({
    name: `attention in groups, ${wrap}${causal ? ", causal" : ""}`, inputs: () => [r(1, 8, 4), r(1, 8, 2), r(1, 8, 2)],
    f: (q: Tensor, k: Tensor, v: Tensor) => ops.attention({ q, k, v, heads: 2, kvHeads: 1, causal, groups: { size: 4, wrap } }),
  }))),
  {
    name: "attention with dropout, padded",
    inputs: () => [r(2, 4, 4), r(2, 4, 4), r(2, 4, 4), flags([1, 1, 1, 0, 1, 1, 1, 1], [2, 4])],
    f: (q, k, v, keyMask) => ops.attention({ q, k, v, keyMask, heads: 2, dropout: { p: 0.4, sampleIds: [7, 9], seed: 1, step: 2, site: 3 } }),
  },
  { name: "rope", inputs: () => [r(2, 3, 8), ids([0, 1, 2, 5, 6, 7], [2, 3]), fromArray(new Float64Array([1, 0.1]), [2])], f: (x, p, w) => ops.rope(x, p, w, { heads: 2 }) },
  { name: "reshape", inputs: () => [r(2, 6)], f: (x) => ops.reshape(x, [3, -1]) },
  { name: "slice", inputs: () => [r(2, 5, 2)], f: (x) => ops.slice(x, 1, 1, 3) },
  { name: "split", inputs: () => [r(2, 6)], f: (x) => ops.split(x, -1, [1, 3, 2]) },
  { name: "concat", inputs: () => [r(2, 1, 2), r(2, 3, 2), r(2, 2, 2)], f: (...parts) => ops.concat(parts, 1) },
  { name: "concat of more than eight", inputs: () => Array.from({ length: 11 }, () => r(1, 2)), f: (...parts) => ops.concat(parts, 0) },
  { name: "permute", inputs: () => [r(2, 3, 4)], f: (x) => ops.permute(x, [2, 0, 1]) },
  { name: "gatherRows with a row twice and one never", inputs: () => [r(4, 3), ids([2, 0, 2, 3, 2, 0], [2, 3])], f: ops.gatherRows },
  { name: "maskRows", inputs: () => [r(2, 3, 4), flags([1, 0, 0, 0, 1, 1], [2, 3]), r(4)], f: ops.maskRows },
  { name: "patchify", inputs: () => [r(2, 3, 4, 6)], f: (x) => ops.patchify(x, 2) },
  { name: "sum", inputs: () => [r(3, 4)], f: (x) => ops.sum(x) },
  { name: "maskedMean with an empty row", inputs: () => [r(2, 3, 4), flags([1, 0, 1, 0, 0, 0], [2, 3])], f: ops.maskedMean },
  { name: "crossEntropy", inputs: () => [r(4, 5), ids([1, -100, 4, 0])], f: (x, labels) => ops.crossEntropy(x, labels, { weight: 0.3 }) },
  { name: "binaryCrossEntropy", inputs: () => [r(2, 3), ids([1, 0, -100, 0, 1, 1], [2, 3])], f: (x, labels) => ops.binaryCrossEntropy(x, labels, { weight: 0.5 }) },
  { name: "cosineLoss", inputs: () => [r(3, 4), r(3, 4)], f: (x, target) => ops.cosineLoss(x, ops.detach(target), { weight: 0.7 }) },
  { name: "boxL1", inputs: () => [boxes(0), boxes(0.02)], f: (x, target) => ops.boxL1(x, ops.detach(target), { weight: 5 }) },
  { name: "boxGiou, overlapping", inputs: () => [boxes(0), boxes(0.02)], f: (x, target) => ops.boxGiou(x, ops.detach(target), { weight: 2 }) },
  { name: "boxGiou, apart", inputs: () => [boxes(0), boxes(0.9)], f: (x, target) => ops.boxGiou(x, ops.detach(target)) },
  { name: "dropout", inputs: () => [r(2, 3, 4)], f: (x) => ops.dropout(x, { p: 0.4, sampleIds: [7, 9], seed: 1, step: 2, site: 3 }) },
];

const wrtFirst = new Set(["cosineLoss", "boxL1", "boxGiou, overlapping", "boxGiou, apart"]);

describe("gradients of the ops in f64", () => {
  noLeaks();

  for (const { name, inputs, f, tolerance = 1e-7 } of cases) {
    it(`${name} has the gradient that central differences predict`, () => withScope(async (scope) => {
      const wrt = wrtFirst.has(name) ? [0] : name.startsWith("rope") ? [0] : undefined;
      const report = await gradcheck(f, scope.enter(inputs), { wrt });
      assert.ok(report.elements > 0);
      assert.ok(report.maxError < tolerance, report.toString());
    }));
  }
});
