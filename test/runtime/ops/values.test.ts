import assert from "node:assert/strict";
import * as ops from "../../../runtime/ops/index.ts";
import { type Tensor, fromArray, full, zeros } from "../../../runtime/tensor/index.ts";
import { assertClose, flags, ids, noLeaks, randn, withScope } from "../numbers.ts";

const f64 = (values: number[], shape = [values.length]): Tensor => fromArray(Float64Array.from(values), shape);

/** The result of `work` in f64, against literal numbers. */
const gives = (work: () => Tensor, expected: number[], tolerance = 1e-10) => withScope(async (scope) => {
  assertClose(await scope.enter(work).read(), expected, tolerance);
});

describe("values of the ops", () => {
  noLeaks();
  const points = [-3, -1, -0.5, 0.5, 1, 3];

  // Literals below: the defining formulas, evaluated in float64 with the original modules where there are any.
  it("gelu is the exact error-function form", () =>
    gives(() => ops.gelu(f64(points)), [-0.00404969409, -0.15865525393, -0.15426876937, 0.34573123064, 0.84134474607, 2.99595030591], 1e-10));
  it("quickGelu is x sigmoid(1.702 x)", () =>
    gives(() => ops.quickGelu(f64(points)), [-0.01807130971, -0.15420423407, -0.14961156339, 0.35038843661, 0.84579576593, 2.98192869029], 1e-10));
  it("silu is x sigmoid(x)", () =>
    gives(() => ops.silu(f64(points)), [-0.14227761953, -0.26894142137, -0.1887703344, 0.3112296656, 0.73105857863, 2.85772238047], 1e-10));
  it("rmsNorm divides by the root mean square", () =>
    gives(() => ops.rmsNorm(f64([1, -2, 3, 0.5]), f64([1, 0.5, 2, -1]), { eps: 1e-5 }), [0.52981219923, -0.52981219923, 3.17887319538, -0.26490609962], 1e-10));
  it("layerNorm uses the biased variance", () =>
    gives(() => ops.layerNorm(f64([1, -2, 3, 0.5]), f64([1, 0.5, 2, -1]), f64([0.1, 0.2, 0.3, 0.4]), { eps: 1e-6 }), [0.31055868871, -0.53695541049, 2.96707672368, 0.47018622957], 1e-10));
  it("rope pairs element i with i + K/2", () =>
    gives(() => ops.rope(f64([1, 2, 3, 4, 5, 6, 7, 8], [1, 1, 8]), ids([3], [1, 1]), f64([1, 0.1, 0.01, 0.001]), { heads: 1 }),
      [-1.6955925369, 0.13755173828, 2.78868159983, 3.97598203601, -4.80884247494, 6.32305934808, 7.08683673685, 8.01196398203], 1e-10));
  it("crossEntropy is the negative log-likelihood, and ignores label -100", () =>
    gives(() => ops.crossEntropy(f64([2, 0.5, -1, 9, 9, 9], [2, 3]), ids([0, -100])), [0.2413112967], 1e-10));
  it("binaryCrossEntropy is stable far from zero", () => // log(1 + exp(-1)) + 800
    gives(() => ops.binaryCrossEntropy(f64([1, 800, 5]), ids([1, 0, -100])), [800.3132616875], 1e-9));
  it("boxGiou is 1 - GIoU, which may pass 1", () => // GIoU -0.0793650794 and -0.98
    gives(() => ops.boxGiou(f64([0.25, 0.25, 0.5, 0.5, 0.05, 0.05, 0.1, 0.1], [2, 4]), f64([0.5, 0.5, 0.5, 0.5, 0.95, 0.95, 0.1, 0.1], [2, 4])), [1.0793650794 + 1.98], 1e-9));
  it("boxL1 sums absolute differences, times the weight", () =>
    gives(() => ops.boxL1(f64([0.1, 0.2, 0.3, 0.4], [1, 4]), f64([0.2, 0.1, 0.3, 0.8], [1, 4]), { weight: 5 }), [3], 1e-12));
  it("cosineLoss of orthogonal and parallel rows", () =>
    gives(() => ops.cosineLoss(f64([1, 0, 2, 0], [2, 2]), f64([0, 3, 5, 0], [2, 2])), [1], 1e-12));
  it("maskedMean counts only real tokens", () =>
    gives(() => ops.maskedMean(f64([1, 2, 9, 9, 3, 4, 7, 7, 7, 7, 7, 7], [2, 3, 2]), flags([1, 0, 1, 0, 0, 0], [2, 3])), [2, 3, 0, 0], 1e-12));
  it("softmax stays finite for large numbers", () => gives(() => ops.softmax(f64([1000, 1000, 0])), [0.5, 0.5, 0], 1e-12));
  it("l2Normalize leaves a zero row at zero", () => gives(() => ops.l2Normalize(f64([3, 4, 0, 0], [2, 2])), [0.6, 0.8, 0, 0], 1e-12));
  it("patchify orders columns by channel, row, column", () => // element value = position in the image
    gives(() => ops.patchify(f64(Array.from({ length: 16 }, (_, i) => i), [1, 2, 2, 4]), 2), [0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15], 0));
  it("gatherRows keeps the shape of the index", () => withScope(async (scope) => {
    const y = scope.enter(() => ops.gatherRows(f64([1, 2, 3, 4], [2, 2]), ids([1, 0, 1], [1, 3])));
    assert.deepEqual(y.shape, [1, 3, 2]);
    assertClose(await y.read(), [3, 4, 1, 2, 3, 4], 0);
  }));
  it("nearestCode keeps the leading dimensions, and takes the lower of two codes equally near", () => withScope(async (scope) => {
    const codes = scope.enter(() => ops.nearestCode(f64([0.9, 0.2, 0, 0, -3, 1], [1, 3, 2]), f64([0, 1, 1, 0, -1, 0], [3, 2])));
    assert.deepEqual([codes.shape, codes.dtype], [[1, 3], "i32"]);
    assertClose(await codes.read() as Int32Array, [1, 0, 2], 0);
  }));
  it("permute moves dimensions", () => gives(() => ops.permute(f64([0, 1, 2, 3, 4, 5], [2, 3]), [1, 0]), [0, 3, 1, 4, 2, 5], 0));
  it("slice, split and concat undo each other", () => withScope(async (scope) => {
    const [x, y] = scope.enter(() => {
      const x = randn([2, 5, 3], { seed: 1 });
      return [x, ops.concat([...ops.split(x, 1, [2, 2, 1]).slice(0, 2), ops.slice(x, -2, 4, 1)], 1)];
    });
    assert.deepEqual(await y.read(), await x.read());
  }));
  it("mul broadcasts as the shapes say", () => gives(() => ops.mul(f64([1, 2], [2, 1]), f64([10, 20, 30])), [10, 20, 30, 20, 40, 60], 0));
  it("cast rounds to f32 and back", () => withScope(async (scope) => {
    const back = scope.enter(() => ops.cast(ops.cast(f64([0.1]), "f32"), "f64"));
    assert.deepEqual(await back.read(), new Float64Array([Math.fround(0.1)]));
  }));

  it("attention equals the formula, head by head", () => withScope(async (scope) => {
    const [q, k, v, y] = scope.enter(() => {
      const q = randn([1, 2, 4], { seed: 1 }), k = randn([1, 3, 4], { seed: 2 }), v = randn([1, 3, 4], { seed: 3 });
      return [q, k, v, ops.attention({ q, k, v, heads: 2 })];
    });
    const [Q, K, V] = await Promise.all([q, k, v].map((t) => t.read())) as Float64Array[];
    const expected = [0, 1].flatMap((i) => [0, 1].flatMap((h) => {
      const scores = [0, 1, 2].map((j) => Math.exp((Q[i * 4 + 2 * h] * K[j * 4 + 2 * h] + Q[i * 4 + 2 * h + 1] * K[j * 4 + 2 * h + 1]) / Math.SQRT2));
      const total = scores[0] + scores[1] + scores[2];
      return [0, 1].map((c) => scores.reduce((sum, score, j) => sum + (score / total) * V[j * 4 + 2 * h + c], 0));
    }));
    assertClose(await y.read(), expected, 1e-12);
  }));

  it("attention gives zeros to a query without a visible key", () => withScope(async (scope) => {
    const y = scope.enter(() => {
      const x = randn([2, 2, 4], { seed: 1 });
      return ops.attention({ q: x, k: x, v: x, heads: 1, keyMask: flags([1, 1, 0, 0], [2, 2]) });
    });
    assert.deepEqual((await y.read()).slice(8), new Float64Array(8));
  }));

  it("losses and means of empty operands are zero", () => withScope(async (scope) => {
    const empty = scope.enter(() => [
      ops.crossEntropy(zeros([0, 5]), ids([])), ops.boxL1(zeros([0, 4]), zeros([0, 4])), ops.boxGiou(zeros([0, 4]), zeros([0, 4])),
      ops.cosineLoss(zeros([0, 3]), zeros([0, 3])), ops.sum(zeros([0])),
    ]);
    assert.deepEqual(await Promise.all(empty.map((loss) => loss.item())), [0, 0, 0, 0, 0]);
  }));

  it("dropout keeps a choice per sample, whatever else is in the batch, and x itself at p = 0", () => withScope(async (scope) => {
    const o = { p: 0.5, seed: 1, step: 2, site: 3 };
    const [both, second, same] = scope.enter(() => {
      const x = full([2, 64], 1), same = ops.dropout(x, { ...o, p: 0, sampleIds: [0, 0] });
      assert.equal(same, x);
      return [ops.dropout(x, { ...o, sampleIds: [5, 6] }), ops.dropout(full([1, 64], 1), { ...o, sampleIds: [6] }), x];
    });
    const values = await both.read();
    assert.deepEqual(values.slice(64), await second.read());
    assert.notDeepEqual(values.slice(0, 64), values.slice(64));
    assert.deepEqual([...new Set(values as Float32Array)].sort(), [0, 2]);
    assert.ok(same);
  }));
});
