import assert from "node:assert/strict";
import * as ops from "../../../runtime/ops/index.ts";
import { type Tensor, zeros } from "../../../runtime/tensor/index.ts";
import { code, f64, gives, hasGradient, ids, noLeaks, randn, shapeError, withScope } from "../numbers.ts";

describe("reductions along an axis", () => {
  noLeaks();
  // 2 rows of 3
  const x = () => f64([1, 5, 3, 4, 2, 9], [2, 3]);
  const lse = (...values: number[]) => Math.log(values.reduce((sum, v) => sum + Math.exp(v), 0));

  const known: [name: string, f: (x: Tensor, axis: number) => Tensor, columns: number[], rows: number[]][] = [
    ["sum", ops.sum, [5, 7, 12], [9, 15]],
    ["mean", ops.mean, [2.5, 3.5, 6], [3, 5]],
    ["max", ops.max, [4, 5, 9], [5, 9]],
    ["argmax", ops.argmax, [1, 0, 1], [1, 2]],
    ["logSumExp", ops.logSumExp, [lse(1, 4), lse(5, 2), lse(3, 9)], [lse(1, 5, 3), lse(4, 2, 9)]],
    ["l2Norm", ops.l2Norm, [Math.sqrt(17), Math.sqrt(29), Math.sqrt(90)], [Math.sqrt(35), Math.sqrt(101)]],
  ];
  for (const [name, f, columns, rows] of known) {
    it(`${name} goes down the columns, along the rows, and counts axes from the end`, async () => {
      await gives(() => f(x(), 0), columns, 1e-12);
      await gives(() => f(x(), 1), rows, 1e-12);
      await gives(() => f(x(), -1), rows, 1e-12);
    });
    if (name !== "argmax") {
      it(`${name} has the gradient that central differences predict, for every axis`, async () => {
        for (const axis of [0, 1, 2]) await hasGradient((x) => f(x, axis), () => [randn([2, 3, 4], { seed: 5 })]);
      });
    }
    it(`${name} refuses an axis that is not there`, () => withScope(async (scope) =>
      assert.throws(() => scope.enter(() => f(zeros([2, 3]), 2)), shapeError(name, "axis"))));
  }

  it("sum and mean take all elements when no axis is named", async () => {
    await gives(() => ops.sum(x()), [24], 1e-12);
    await gives(() => ops.mean(x()), [4], 1e-12);
  });

  it("of nothing: a sum is 0, a norm 0, logSumExp -Infinity; mean, max and argmax are refused", async () => {
    await gives(() => ops.sum(zeros([2, 0]), 1), [0, 0], 0);
    await gives(() => ops.l2Norm(zeros([2, 0]), 1), [0, 0], 0);
    await withScope(async (scope) => {
      assert.deepEqual([...await scope.enter(() => ops.logSumExp(zeros([2, 0]), 1)).read()], [-Infinity, -Infinity]);
      for (const [name, f] of [["mean", ops.mean], ["max", ops.max], ["argmax", ops.argmax]] as const)
        assert.throws(() => scope.enter(() => f(zeros([2, 0]), 1)), shapeError(name, "x"));
    });
  });

  it("the gradient of max goes to the first of equal elements, that of a zero norm nowhere", async () => {
    await hasGradient((x) => ops.l2Norm(x, 1), () => [f64([1, 2, 3, 4], [2, 2])]);
    await gives(() => ops.argmax(f64([3, 7, 7]), 0), [1], 0);
  });

  it("logSoftmax is the logarithm of softmax, and finite where that is 0", async () => {
    await gives(() => ops.logSoftmax(f64([1, 2, 3])), [1, 2, 3].map((v) => v - lse(1, 2, 3)), 1e-12);
    await gives(() => ops.logSoftmax(f64([0, 2000])), [-2000, 0], 0);
    await hasGradient(ops.logSoftmax, () => [randn([3, 5], { seed: 6 })]);
    await withScope(async (scope) => assert.throws(() => scope.enter(() => ops.logSoftmax(zeros([2, 0]))), shapeError("logSoftmax", "x")));
  });

  it("topK gives values and places, largest first, equals in order", () => withScope(async (scope) => {
    const { values, indices } = scope.enter(() => ops.topK(f64([3, 9, 9, -1, 0, 7, 8, 6], [2, 4]), 3));
    assert.deepEqual([values.shape, indices.shape, indices.dtype], [[2, 3], [2, 3], "i32"]);
    assert.deepEqual([...await values.read()], [9, 9, 3, 8, 7, 6]);
    assert.deepEqual([...await indices.read()], [1, 2, 0, 2, 1, 3]);
  }));

  it("topK has the gradient that central differences predict, and refuses a k beyond the axis", async () => {
    await hasGradient((x) => ops.topK(x, 2).values, () => [randn([3, 5], { seed: 7 })]);
    await withScope(async (scope) => [0, 4, 1.5].forEach((k) => assert.throws(() => scope.enter(() => ops.topK(zeros([2, 3]), k)), shapeError("topK", "x"))));
  });
});

describe("pad, indexSelect and scatterAdd", () => {
  noLeaks();

  it("pad puts zeros before and after, and its gradient takes them away", async () => {
    await gives(() => ops.pad(f64([1, 2, 3, 4], [2, 2]), 1, 1, 2), [0, 1, 2, 0, 0, 0, 3, 4, 0, 0], 0);
    await gives(() => ops.pad(f64([1, 2], [1, 2]), -2, 0, 1), [1, 2, 0, 0], 0);
    await gives(() => ops.pad(ids([4]), 0, 1, 0), [0, 4], 0);
    await hasGradient((x) => ops.pad(x, 1, 2, 1), () => [randn([2, 3, 2], { seed: 1 })]);
    await withScope(async (scope) => assert.throws(() => scope.enter(() => ops.pad(zeros([2]), 0, -1, 0)), shapeError("pad", "x")));
  });

  it("indexSelect takes slices of any axis, twice or never", async () => {
    await gives(() => ops.indexSelect(f64([1, 2, 3, 4, 5, 6], [2, 3]), 1, ids([2, 0, 2])), [3, 1, 3, 6, 4, 6], 0);
    await gives(() => ops.indexSelect(f64([1, 2, 3, 4, 5, 6], [2, 3]), 0, ids([1])), [4, 5, 6], 0);
    for (const axis of [0, 1, 2]) await hasGradient((x) => ops.indexSelect(x, axis, ids([1, 0, 1])), () => [randn([2, 3, 2], { seed: 2 })]);
    await withScope(async (scope) => assert.throws(() => scope.enter(() => ops.indexSelect(zeros([2, 3]), 1, ids([1], [1, 1]))), shapeError("indexSelect", "index")));
  });

  it("scatterAdd adds rows up by number", async () => {
    await gives(() => ops.scatterAdd(f64([1, 2, 10, 20, 100, 200], [3, 2]), ids([2, 0, 2]), 4), [10, 20, 0, 0, 101, 202, 0, 0], 0);
    await hasGradient((x) => ops.scatterAdd(x, ids([2, 0, 2, 1], [2, 2]), 4), () => [randn([2, 2, 3], { seed: 3 })]);
    await withScope(async (scope) => assert.throws(() => scope.enter(() => ops.scatterAdd(zeros([2, 3]), ids([1, 0, 1]), 2)), shapeError("scatterAdd", "source")));
  });
});

describe("resize", () => {
  noLeaks();
  const square = () => f64([0, 1, 2, 3], [2, 2]);

  it("has the known rows from 2 x 2 to 4 x 4", async () => { // torch.nn.functional.interpolate, align_corners=False, a = -0.75
    const firstRow = (mode: "bilinear" | "bicubic") => () => ops.slice(ops.resize(square(), { height: 4, width: 4, mode }), 0, 0, 1);
    await gives(firstRow("bilinear"), [0, 0.25, 0.75, 1], 1e-12);
    await gives(firstRow("bicubic"), [-0.31640625, 0.015625, 0.5625, 0.89453125], 1e-12);
  });

  it("has the gradient that central differences predict, growing and shrinking", async () => {
    for (const mode of ["bilinear", "bicubic"] as const)
      for (const [height, width] of [[5, 3], [2, 7], [1, 1]])
        await hasGradient((x) => ops.resize(x, { height, width, mode }), () => [randn([2, 3, 4], { seed: 4 })]);
  });

  it("refuses vectors, empty images, empty sizes and unknown modes", () => withScope(async (scope) => {
    const o = { height: 2, width: 2, mode: "bilinear" } as const;
    assert.throws(() => scope.enter(() => ops.resize(zeros([4]), o)), shapeError("resize", "x"));
    assert.throws(() => scope.enter(() => ops.resize(zeros([0, 4]), o)), shapeError("resize", "x"));
    assert.throws(() => scope.enter(() => ops.resize(zeros([4, 4]), { ...o, width: 1.5 })), shapeError("resize", "x"));
    assert.throws(() => scope.enter(() => ops.resize(zeros([4, 4]), { ...o, mode: "area" as "bilinear" })), code("ERR_INPUT", /resize: mode expected "bilinear" or "bicubic", got "area"/));
  }));
});
