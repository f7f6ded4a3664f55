import assert from "node:assert/strict";
import { Tape } from "../../../runtime/autograd/index.ts";
import { native } from "../../../runtime/native.ts";
import * as ops from "../../../runtime/ops/index.ts";
import { type Tensor, configureDevice, fence, full, memory, zeros } from "../../../runtime/tensor/index.ts";
import { assertClose, code, f64, gives, goldenFill, hasGradient, ids, noLeaks, randn, shapeError, withScope } from "../numbers.ts";

describe("cross-entropy with a spread label", () => {
  noLeaks();
  const logits = () => [randn([4, 5], { seed: 1 })];

  it("smoothing 0.1 costs what the formula says", () => // 0.2413112967 + 0.1 * (2 - mean of the logits)
    gives(() => ops.crossEntropy(f64([2, 0.5, -1], [1, 3]), ids([0]), { smoothing: 0.1 }), [0.3913112967], 1e-9));
  it("smoothing has the gradient that central differences predict", () =>
    hasGradient((x) => ops.crossEntropy(x, ids([1, -100, 4, 0]), { weight: 0.3, smoothing: 0.2 }), logits));
  it("smoothing outside of [0, 1] is refused", () => withScope(async (scope) =>
    assert.throws(() => scope.enter(() => ops.crossEntropy(zeros([1, 2]), ids([0]), { smoothing: 1.1 })), code("ERR_INPUT", /smoothing expected in \[0, 1\], got 1.1/))));

  it("a bell over bins makes a near miss cheaper than a far one, and is plain where it is narrow", () => withScope(async (scope) => {
    const loss = (peak: number, sigma: number) => ops.locationCrossEntropy(f64([0, 1, 2, 3, 4, 5, 6].map((j) => (j === peak ? 5 : 0)), [1, 7]), ids([3]), { first: 1, bins: 6, sigma });
    const [near, far, narrow, plain] = await Promise.all(scope.enter(() => [loss(4, 1), loss(6, 1), loss(3, 0.05), ops.crossEntropy(f64([0, 0, 0, 5, 0, 0, 0], [1, 7]), ids([3]))]).map((t) => t.item()));
    assert.ok(near < far - 0.5, `${near} and ${far}`);
    assert.ok(Math.abs(narrow - plain) < 1e-12, `${narrow} and ${plain}`);
  }));
  it("a bell over bins has the gradient that central differences predict", () =>
    hasGradient((x) => ops.locationCrossEntropy(x, ids([1, -100, 3, 2]), { first: 1, bins: 4, sigma: 0.8, weight: 0.3 }), logits));
  it("a bell over bins refuses classes that are not there, and a width of 0", () => withScope(async (scope) => {
    assert.throws(() => scope.enter(() => ops.locationCrossEntropy(zeros([1, 5]), ids([0]), { first: 2, bins: 4 })), shapeError("locationCrossEntropy", "logits"));
    assert.throws(() => scope.enter(() => ops.locationCrossEntropy(zeros([1, 5]), ids([0, 1]), { first: 0, bins: 4 })), shapeError("locationCrossEntropy", "labels"));
    assert.throws(() => scope.enter(() => ops.locationCrossEntropy(zeros([1, 5]), ids([0]), { first: 0, bins: 4, sigma: 0 })), code("ERR_INPUT", /sigma expected a positive number/));
  }));
});

describe("losses between two tensors", () => {
  noLeaks();
  const pair = () => [f64([1, -2, 0.5, 3], [2, 2]), f64([0.5, 2, 0.1, 4], [2, 2])];

  for (const [name, f, expected] of [
    ["squaredError", ops.squaredError, 2 * (0.25 + 16 + 0.16 + 1)], ["absoluteError", ops.absoluteError, 2 * (0.5 + 4 + 0.4 + 1)],
    // rows: p = softmax(0.5, 2), q = softmax(1, -2); p = softmax(0.1, 4), q = softmax(0.5, 3)
    ["klDivergence", ops.klDivergence, 2 * [[1, -2, 0.5, 2], [0.5, 3, 0.1, 4]].reduce((sum, [z0, z1, t0, t1]) => {
      const p = 1 / (1 + Math.exp(t1 - t0)), q = 1 / (1 + Math.exp(z1 - z0));
      return sum + p * Math.log(p / q) + (1 - p) * Math.log((1 - p) / (1 - q));
    }, 0)],
  ] as const) {
    it(`${name} has its value, and a gradient to the first alone`, async () => {
      await gives(() => { const [a, b] = pair(); return f(a, b, { weight: 2 }); }, [expected], 1e-12);
      await hasGradient((a, b) => f(a, ops.detach(b), { weight: 0.7 }), pair, { wrt: [0] });
      await withScope(async (scope) => {
        assert.throws(() => scope.enter(() => f(zeros([2, 3]), zeros([3, 2]))), shapeError(name, "target"));
        assert.equal(await scope.enter(() => f(zeros([0, 3]), zeros([0, 3]))).item(), 0);
      });
    });
  }
});

describe("infoNce", () => {
  noLeaks();
  const views = () => [f64([...goldenFill("simcse.z1", 15, 1, 0)], [3, 5]), f64([...goldenFill("simcse.z2", 15, 1, 0)], [3, 5])];

  it("has the golden value", () => // mean over 3 queries, temperature 0.05, an independent reference implementation
    gives(() => { const [a, b] = views(); return ops.infoNce(a, b, { weight: 1 / 3 }); }, [4.0351571513], 1e-9));
  it("has the gradients that central differences predict, both ways and with keys of others", async () => {
    const o = { temperature: 0.5, weight: 1 / 3 };
    await hasGradient((a, b) => ops.infoNce(a, b, o), views);
    await hasGradient((a, b) => ops.infoNce(a, b, { ...o, symmetric: true }), views);
    await hasGradient((a, b) => ops.infoNce(a, b, { ...o, offset: 1 }), () => [randn([2, 4], { seed: 1 }), randn([4, 4], { seed: 2 })]);
  });
  it("symmetric is the mean of both directions", () => withScope(async (scope) => {
    const [both, there, back] = await Promise.all(scope.enter(() => { const [a, b] = views(); return [ops.infoNce(a, b, { symmetric: true }), ops.infoNce(a, b), ops.infoNce(b, a)]; }).map((t) => t.item()));
    assert.ok(Math.abs(both - (there + back) / 2) < 1e-12);
  }));
  it("refuses too few keys, other widths, and a temperature of 0", () => withScope(async (scope) => {
    assert.throws(() => scope.enter(() => ops.infoNce(zeros([3, 2]), zeros([2, 2]))), shapeError("infoNce", "keys"));
    assert.throws(() => scope.enter(() => ops.infoNce(zeros([2, 2]), zeros([3, 2]), { symmetric: true })), shapeError("infoNce", "keys"));
    assert.throws(() => scope.enter(() => ops.infoNce(zeros([2, 2]), zeros([2, 3]))), shapeError("infoNce", "keys"));
    assert.throws(() => scope.enter(() => ops.infoNce(zeros([2, 2]), zeros([2, 2]), { temperature: 0 })), code("ERR_INPUT", /temperature expected above 0/));
  }));
});

describe("linearCrossEntropy", () => {
  noLeaks();
  const inputs = () => [randn([2, 5, 3], { seed: 1 }), randn([7, 3], { seed: 2 }), randn([7], { seed: 3 })];
  const labels = () => ids([0, 6, -100, 3, 2, 2, 5, -100, 1, 4], [2, 5]);
  const o = { weight: 0.3, smoothing: 0.1 };

  for (const chunkRows of [1, 3, 4, 10, 256]) {
    it(`by chunks of ${chunkRows} is the cross-entropy of the linear map`, async () => withScope(async (scope) => {
      const [fused, plain] = scope.enter(() => {
        const [x, w, b] = inputs();
        return [ops.linearCrossEntropy(x, w, b, labels(), { ...o, chunkRows }), ops.crossEntropy(ops.linear(x, w, b), labels(), o)];
      });
      assertClose(await fused.read(), await plain.read() as Float64Array, 1e-12);
    }));
    it(`by chunks of ${chunkRows} has the gradients that central differences predict`, async () => {
      await hasGradient((x, w, b) => ops.linearCrossEntropy(x, w, b, labels(), { ...o, chunkRows }), inputs);
      await hasGradient((x, w) => ops.linearCrossEntropy(x, w, undefined, labels(), { chunkRows }), () => inputs().slice(0, 2));
    });
  }

  it("of no rows is 0, with gradients of zeros", () => hasGradient((w) => ops.linearCrossEntropy(zeros([0, 3], "f64"), w, undefined, ids([])), () => [randn([4, 3], { seed: 1 })]));

  it("has the same bits on 1, 2 and 4 threads, in f32, forwards and backwards", async () => {
    const { threads } = native().info(), results: unknown[] = [];
    const of = Array.from({ length: 700 }, (_, i) => (i * 31) % 1001);
    try {
      for (const count of [1, 2, 4]) {
        await fence();
        configureDevice({ threads: count });
        results.push(await withScope((scope) => Promise.all(scope.enter(() => {
          const x = randn([700, 96], { seed: 1, dtype: "f32" }), w = randn([1001, 96], { seed: 2, dtype: "f32" }), tape = new Tape();
          tape.watch(x), tape.watch(w);
          const loss = tape.record(() => ops.linearCrossEntropy(x, w, undefined, ids(of)));
          const gradients = tape.backward([[loss, full([1], 1)]]);
          return [loss, gradients.get(x)!, gradients.get(w)!];
        }).map((tensor) => tensor.read()))));
      }
    } finally {
      await fence();
      configureDevice({ threads });
    }
    assert.deepEqual(results[1], results[0]);
    assert.deepEqual(results[2], results[0]);
  });

  it("forwards and backwards lives in a quarter of the memory that the logits alone would take", async () => {
    const rows = 2048, classes = 4096, logits = rows * classes * 4;
    const step = (loss: (x: Tensor, w: Tensor, of: Tensor) => Tensor) => withScope(async (scope) => {
      const values = scope.enter(() => {
        const x = zeros([rows, 8]), w = zeros([classes, 8]), seed = full([1], 1), tape = new Tape();
        tape.watch(x), tape.watch(w);
        const y = tape.record(() => loss(x, w, ids(new Array<number>(rows).fill(1))));
        const gradients = tape.backward([[y, seed]]);
        return [y, gradients.get(x)!, gradients.get(w)!];
      });
      return Promise.all(values.map((value) => value.read()));
    });
    await fence();
    configureDevice({ limitBytes: memory().bytesInUse + logits / 4 });
    try {
      const [loss, dx] = await step((x, w, of) => ops.linearCrossEntropy(x, w, undefined, of, { chunkRows: 128, weight: 1 / rows }));
      assert.ok(Math.abs(Number(loss[0]) - Math.log(classes)) < 1e-5, `${loss[0]}`);
      assert.equal(dx.length, rows * 8);
      await assert.rejects(step((x, w, of) => ops.crossEntropy(ops.linear(x, w), of)), code("ERR_MEMORY"));
    } finally {
      await fence();
      configureDevice({ limitBytes: 0 });
    }
  });

  it("refuses what does not fit", () => withScope(async (scope) => {
    const call = (x: number[], w: number[], b: number[], count: number, chunkRows = 4) => () => scope.enter(() =>
      ops.linearCrossEntropy(zeros(x), zeros(w), zeros(b), ids(new Array<number>(count).fill(0)), { chunkRows }));
    assert.throws(call([2, 3], [4, 2], [4], 2), shapeError("linearCrossEntropy", "weight"));
    assert.throws(call([2, 3], [4, 3], [3], 2), shapeError("linearCrossEntropy", "bias"));
    assert.throws(call([2, 3], [4, 3], [4], 3), shapeError("linearCrossEntropy", "labels"));
    assert.throws(call([2, 3], [4, 3], [4], 2, 0), shapeError("linearCrossEntropy", "chunkRows"));
  }));
});
