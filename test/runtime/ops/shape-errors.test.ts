import assert from "node:assert/strict";
import { RuntimeError, ShapeError } from "../../../runtime/errors.ts";
import * as ops from "../../../runtime/ops/index.ts";
import { type Tensor, fromArray, zeros } from "../../../runtime/tensor/index.ts";
import { flags, ids, noLeaks, withScope } from "../numbers.ts";

/** op, operand at fault, a call that must be refused. */
const refused: [op: string, operand: string, call: () => unknown][] = [
  ["add", "b", () => ops.add(zeros([2, 3]), zeros([2]))],
  ["swiglu", "up", () => ops.swiglu(zeros([2, 3]), zeros([2, 4]))],
  ["linear", "weight", () => ops.linear(zeros([2, 3]), zeros([3, 4]))],
  ["linear", "bias", () => ops.linear(zeros([2, 3]), zeros([4, 3]), zeros([3]))],
  ["matmul", "a", () => ops.matmul(zeros([2, 3, 4]), zeros([4, 3]))],
  ["matmul", "b", () => ops.matmul(zeros([2, 3]), zeros([4, 3]))],
  ["layerNorm", "weight", () => ops.layerNorm(zeros([2, 3]), zeros([2]), zeros([3]), { eps: 1e-6 })],
  ["rmsNorm", "weight", () => ops.rmsNorm(zeros([2, 3]), zeros([4]), { eps: 1e-6 })],
  ["softmax", "x", () => ops.softmax(zeros([2, 0]))],
  ["attention", "q", () => ops.attention({ q: zeros([2, 4]), k: zeros([2, 4]), v: zeros([2, 4]), heads: 1 })],
  ["attention", "q", () => ops.attention({ q: zeros([1, 2, 5]), k: zeros([1, 2, 5]), v: zeros([1, 2, 5]), heads: 2 })],
  ["attention", "k", () => ops.attention({ q: zeros([1, 2, 6]), k: zeros([1, 2, 6]), v: zeros([1, 2, 6]), heads: 3, kvHeads: 2 })],
  ["attention", "k", () => ops.attention({ q: zeros([1, 3, 4]), k: zeros([1, 2, 4]), v: zeros([1, 2, 4]), heads: 1, causal: true })],
  ["attention", "v", () => ops.attention({ q: zeros([1, 2, 4]), k: zeros([1, 3, 4]), v: zeros([1, 2, 4]), heads: 1 })],
  ["attention", "keyMask", () => ops.attention({ q: zeros([1, 2, 4]), k: zeros([1, 3, 4]), v: zeros([1, 3, 4]), heads: 1, keyMask: flags([1, 1], [1, 2]) })],
  ["attention", "biasTable", () => ops.attention({ q: zeros([1, 5, 4]), k: zeros([1, 5, 4]), v: zeros([1, 5, 4]), heads: 1, biasTable: zeros([11, 1]), grid: [2, 2] })],
  ["attention", "q", () => ops.attention({ q: zeros([1, 4, 4]), k: zeros([1, 4, 4]), v: zeros([1, 4, 4]), heads: 1, biasTable: zeros([12, 1]), grid: [2, 2] })],
  ["rope", "positions", () => ops.rope(zeros([1, 2, 8]), ids([0, 1, 2], [1, 3]), zeros([4]), { heads: 1 })],
  ["rope", "x", () => ops.rope(zeros([1, 2, 8]), ids([0, 1], [1, 2]), zeros([4]), { heads: 2 })],
  ["reshape", "x", () => ops.reshape(zeros([2, 3]), [4, -1])],
  ["slice", "x", () => ops.slice(zeros([2, 3]), 1, 2, 2)],
  ["slice", "axis", () => ops.slice(zeros([2, 3]), 2, 0, 1)],
  ["split", "x", () => ops.split(zeros([2, 3]), 1, [1, 1])],
  ["concat", "part 1", () => ops.concat([zeros([2, 3]), zeros([3, 3])], 1)],
  ["permute", "order", () => ops.permute(zeros([2, 3]), [0, 0])],
  ["gatherRows", "x", () => ops.gatherRows(zeros([2, 3, 4]), ids([0]))],
  ["nearestCode", "codebook", () => ops.nearestCode(zeros([2, 3]), zeros([4, 2]))],
  ["nearestCode", "codebook", () => ops.nearestCode(zeros([2, 3]), zeros([0, 3]))],
  ["maskRows", "token", () => ops.maskRows(zeros([2, 3]), flags([0, 1]), zeros([1, 3]))],
  ["maskRows", "mask", () => ops.maskRows(zeros([2, 3]), flags([0, 1, 1]), zeros([3]))],
  ["patchify", "x", () => ops.patchify(zeros([1, 3, 8, 9]), 4)],
  ["maskedMean", "mask", () => ops.maskedMean(zeros([2, 3, 4]), flags([1, 1], [2, 1]))],
  ["crossEntropy", "labels", () => ops.crossEntropy(zeros([2, 3]), ids([0, 1, 2]))],
  ["binaryCrossEntropy", "labels", () => ops.binaryCrossEntropy(zeros([2]), ids([0, 1, 2]))],
  ["boxGiou", "pred", () => ops.boxGiou(zeros([2, 3]), zeros([2, 3]))],
  ["cosineLoss", "target", () => ops.cosineLoss(zeros([2, 3]), zeros([2, 4]))],
  ["dropout", "sampleIds", () => ops.dropout(zeros([2, 3]), { p: 0.5, sampleIds: [1], seed: 0, step: 0, site: 0 })],
];

describe("shape errors of the ops", () => {
  noLeaks();

  for (const [op, operand, call] of refused) {
    it(`${op} names ${operand}, what it expected, what it got, and a remedy`, () => withScope(async (scope) => {
      assert.throws(() => scope.enter(call), (error) => {
        assert.ok(error instanceof ShapeError, String(error));
        assert.equal(error.details.op, op);
        assert.equal(error.details.operand, operand);
        assert.ok(error.details.expected.length > 0 && error.details.fix.length > 10);
        assert.ok(error.message.startsWith(`${op}: ${operand} expected `), error.message);
        return true;
      });
    }));
  }

  it("writes the message out", () => withScope(async (scope) => {
    assert.throws(() => scope.enter(() => ops.matmul(zeros([2, 512]), zeros([256, 512]))),
      { message: "matmul: b expected (512, N), got (256, 512). Its first dimension is summed over; did you mean { transB: true }?" });
  }));

  it("refuses mixed and wrong dtypes with ERR_DTYPE", () => withScope(async (scope) => {
    const wrong: [RegExp, () => unknown][] = [
      [/add: b expected f32 or bf16, got f64\. f64 is for reference work/, () => ops.add(zeros([1]), zeros([1], "f64"))],
      [/add: b expected f64, got f32/, () => ops.add(zeros([1], "f64"), zeros([1]))],
      [/concat: part 1 expected f32, got f64\. Parts are moved as they are/, () => ops.concat([zeros([1]), zeros([1], "f64")], 0)],
      [/gelu: x expected f32, bf16 or f64, got i32/, () => ops.gelu(ids([1]))],
      [/cast: x expected one of f32, f64, bf16, i32, u8, got f16/, () => ops.cast(zeros([1], "f16"), "f32")],
      [/crossEntropy: labels expected i32, got f32/, () => ops.crossEntropy(zeros([1, 2]), zeros([1]))],
      [/maskedMean: mask expected u8, got i32/, () => ops.maskedMean(zeros([1, 1, 1]), fromArray(new Int32Array(1), [1, 1]))],
    ];
    for (const [message, call] of wrong) {
      assert.throws(() => scope.enter(call), (error) => error instanceof RuntimeError && error.code === "ERR_DTYPE" && message.test(error.message));
    }
  }));

  it("names the operand that was freed too early", () => withScope(async (scope) => {
    const [x, w] = scope.enter(() => [zeros([2, 3]), zeros([4, 3])]);
    w.dispose();
    assert.throws(() => scope.enter(() => ops.linear(x, w)), (error) => error instanceof RuntimeError && error.code === "ERR_HANDLE" && /linear: operand weight/.test(error.message));
  }));

  // Ops that look at the shape alone, or give x itself, or are made of others: they too know whose operand it was.
  const itself: Record<string, (x: Tensor) => unknown> = {
    cast: (x) => ops.cast(x, "f32"), toPrecision: (x) => ops.toPrecision(x, "f32"), widen: ops.widen, sumTo: (x) => ops.sumTo(x, [2, 3]), expandTo: (x) => ops.expandTo(x, [2, 3]),
    neg: ops.neg, sum: (x) => ops.sum(x, 0), mean: ops.mean, detach: ops.detach, zeroGradient: ops.zeroGradient, reshape: (x) => ops.reshape(x, [6]), slice: (x) => ops.slice(x, 0, 0, 1),
    split: (x) => ops.split(x, 0, [1, 1]), pad: (x) => ops.pad(x, 0, 1, 1), permute: (x) => ops.permute(x, [1, 0]),
  };
  for (const [op, call] of Object.entries(itself)) {
    it(`${op} of a freed tensor says so in its own name`, () => withScope(async (scope) => {
      const x = scope.enter(() => zeros([2, 3]));
      x.dispose();
      assert.throws(() => scope.enter(() => call(x)), (error) => error instanceof RuntimeError && error.code === "ERR_HANDLE" && error.details.op === op && error.details.operand === "x");
    }));
  }
});
