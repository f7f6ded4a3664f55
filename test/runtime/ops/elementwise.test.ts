import assert from "node:assert/strict";
import * as ops from "../../../runtime/ops/index.ts";
import { type Tensor, full, zeros } from "../../../runtime/tensor/index.ts";
import { code, f64, flags, gives, hasGradient, ids, noLeaks, randn, shapeError, withScope } from "../numbers.ts";

describe("functions of one element", () => {
  noLeaks();
  /** Between 0.5 and 2.5: positive, and clear of the limits below. */
  const positive = () => [f64([0.5, 0.7, 1.1, 1.6, 2.2, 2.5], [2, 3])];

  for (const [name, f, at2] of [
    ["exp", ops.exp, Math.exp(2)], ["log", ops.log, Math.LN2], ["sqrt", ops.sqrt, Math.SQRT2], ["abs", ops.abs, 2], ["neg", ops.neg, -2],
    ["pow", (x: Tensor) => ops.pow(x, 2.5), 2 ** 2.5], ["clamp", (x: Tensor) => ops.clamp(x, 0.6, 1.5), 1.5],
  ] as const) {
    it(`${name} has its value at 2, and the gradient that central differences predict`, async () => {
      await gives(() => f(f64([2])), [at2], 1e-14);
      await hasGradient(f, positive);
    });
  }

  it("abs has slope -1 below zero, and pow takes negative numbers to whole powers", async () => {
    await hasGradient(ops.abs, () => [f64([-2, -0.5, 3])]);
    await hasGradient((x) => ops.pow(x, 3), () => [f64([-2, -0.5, 3])]);
    await gives(() => ops.pow(f64([-2]), 3), [-8], 0);
  });

  it("clamp may leave a side open, and refuses limits in the wrong order", async () => {
    await gives(() => ops.clamp(f64([-5, 5]), -Infinity, 1), [-5, 1], 0);
    await withScope(async (scope) => assert.throws(() => scope.enter(() => ops.clamp(f64([1]), 2, 1)), code("ERR_INPUT", /clamp: low expected at most high, got 2 and 1/)));
  });

  it("refuse ids", () => withScope(async (scope) =>
    [ops.exp, ops.neg, (x: Tensor) => ops.pow(x, 2), (x: Tensor) => ops.clamp(x, 0, 1)].forEach((f) => assert.throws(() => scope.enter(() => f(ids([1]))), code("ERR_DTYPE")))));
});

describe("comparisons and where", () => {
  noLeaks();

  it("give masks of u8, broadcast, for numbers and ids", () => withScope(async (scope) => {
    const [less, same] = scope.enter(() => [ops.lt(f64([1, 5], [2, 1]), f64([0, 3, 9])), ops.eq(ids([1, 2, 3]), ids([2]))]);
    assert.deepEqual([less.dtype, less.shape], ["u8", [2, 3]]);
    assert.deepEqual([...await less.read()], [0, 1, 1, 0, 0, 1]);
    assert.deepEqual([...await same.read()], [0, 1, 0]);
  }));

  it("answer each question its own way where operands are equal, below and above", () => withScope(async (scope) => {
    const questions = [ops.eq, ops.ne, ops.lt, ops.le, ops.gt, ops.ge];
    const answers = await Promise.all(scope.enter(() => questions.map((ask) => ask(f64([1, 2, 3]), f64([2])))).map(async (y) => [...await y.read()]));
    assert.deepEqual(answers, [[0, 1, 0], [1, 0, 1], [1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1]]);
  }));

  it("where chooses, and hands the gradient to what was chosen", async () => {
    await gives(() => ops.where(flags([1, 0], [2, 1]), f64([1, 2]), f64([-1])), [1, 2, -1, -1], 0);
    await hasGradient((a, b) => ops.where(flags([1, 0, 1, 1, 0, 0], [2, 3]), a, b), () => [randn([2, 3], { seed: 1 }), randn([3], { seed: 2 })]);
    await hasGradient((a, b) => ops.where(flags([1, 0]), a, b), () => [randn([3, 1], { seed: 1 }), randn([2], { seed: 2 })]);
  });

  it("where chooses among ids", () => withScope(async (scope) => {
    const y = scope.enter(() => ops.where(flags([0, 1]), ids([1, 2]), ids([-100])));
    assert.deepEqual([y.dtype, ...await y.read()], ["i32", -100, 2]);
  }));

  it("refuse what does not fit", () => withScope(async (scope) => {
    assert.throws(() => scope.enter(() => ops.gt(zeros([2, 3]), zeros([2]))), shapeError("gt", "b"));
    assert.throws(() => scope.enter(() => ops.where(flags([1, 0]), zeros([3]), zeros([3]))), shapeError("where", "a"));
    assert.throws(() => scope.enter(() => ops.where(flags([1, 0]), zeros([2]), zeros([3]))), shapeError("where", "b"));
    assert.throws(() => scope.enter(() => ops.eq(zeros([1]), ids([1]))), code("ERR_DTYPE", /eq: b expected f32 or bf16, got i32/));
    assert.throws(() => scope.enter(() => ops.eq(flags([1]), flags([1]))), code("ERR_DTYPE", /eq: a expected f32, bf16, f64 or i32, got u8/));
    assert.throws(() => scope.enter(() => ops.where(ids([1]), zeros([1]), zeros([1]))), code("ERR_DTYPE", /where: mask expected u8, got i32/));
  }));
});

describe("dropPath", () => {
  noLeaks();
  const o = { p: 0.5, seed: 1, step: 2, site: 3 };

  it("drops whole samples, doubles the kept ones at p = 0.5, and chooses by sample, not by batch", () => withScope(async (scope) => {
    const samples = Array.from({ length: 64 }, (_, i) => i);
    const [all, some, plain] = scope.enter(() => [ops.dropPath(full([64, 3], 1), { ...o, sampleIds: samples }), ops.dropPath(full([2, 1, 2], 1), { ...o, sampleIds: [9, 40] }),
      ops.dropout(full([64, 1], 1), { ...o, sampleIds: samples })]);
    const values = [...await all.read()] as number[], rows = samples.map((i) => values.slice(3 * i, 3 * i + 3).join());
    assert.deepEqual([...new Set(rows)].sort(), ["0,0,0", "2,2,2"]);
    assert.deepEqual([...await some.read()], [9, 9, 40, 40].map((i) => values[3 * i]));
    assert.deepEqual([...await plain.read()], samples.map((i) => values[3 * i])); // the choice of dropout for element 0
  }));

  it("has the gradient that central differences predict, and is x itself at p = 0", async () => {
    await hasGradient((x) => ops.dropPath(x, { ...o, sampleIds: [0, 1, 2, 3] }), () => [randn([4, 2], { seed: 1 })]);
    await withScope(async (scope) => scope.enter(() => {
      const x = zeros([2, 3]);
      assert.equal(ops.dropPath(x, { ...o, p: 0, sampleIds: [0, 1] }), x);
    }));
  });

  it("refuses a scalar, p = 1, and too few sample numbers", () => withScope(async (scope) => {
    assert.throws(() => scope.enter(() => ops.dropPath(zeros([2]), { ...o, p: 1, sampleIds: [0, 1] })), code("ERR_INPUT", /dropPath: p expected in \[0, 1\), got 1/));
    assert.throws(() => scope.enter(() => ops.dropPath(zeros([2]), { ...o, sampleIds: [0] })), shapeError("dropPath", "sampleIds"));
    assert.throws(() => scope.enter(() => ops.dropPath(zeros([]), { ...o, sampleIds: [] })), shapeError("dropPath", "x"));
  }));
});
