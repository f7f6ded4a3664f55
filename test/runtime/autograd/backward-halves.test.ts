import assert from "node:assert/strict";
import { type Seed, Tape } from "../../../runtime/autograd/index.ts";
import { add, gelu, layerNorm, linear, linearCrossEntropy, mul, scale, sum } from "../../../runtime/ops/index.ts";
import { Scope, type Tensor, full, memory, zeros } from "../../../runtime/tensor/index.ts";
import { code, ids, noLeaks, randn, withScope } from "../numbers.ts";

const f32 = (shape: readonly number[], seed: number): Tensor => randn(shape, { seed, dtype: "f32" });
const parameter = (shape: number[], seed: number): Tensor => Object.assign(f32(shape, seed), { requiresGrad: true });

interface Net { x: Tensor; parameters: Tensor[]; seeds(tape: Tape): Seed[] }

/** A block with everything that makes the order of sums matter: weights used three times, one of them also in a rule that gives dx and dw together. */
function block(): Net {
  const [rows, width, classes] = [6, 5, 7];
  const x = f32([rows, width], 1), shared = parameter([width, width], 2), gain = parameter([width], 3), bias = parameter([width], 4);
  const head = parameter([classes, width], 5), factor = parameter([width, width], 6), labels = ids([0, 3, 6, 1, -100, 2]);
  return {
    x, parameters: [shared, gain, bias, head, factor],
    seeds: (tape) => tape.record(() => {
      const tied = mul(shared, factor); // made of parameters alone: its gradient comes with theirs
      const h = gelu(linear(layerNorm(x, gain, bias, { eps: 1e-5 }), shared, bias));
      const y = add(linear(h, tied), linear(h, shared));
      const loss = linearCrossEntropy(y, head, undefined, labels), again = linearCrossEntropy(scale(y, 0.5), head, undefined, labels);
      const decay = scale(shared, 1e-3);
      const logits = linear(h, head);
      return [[logits, f32(logits.shape, 8)], [loss, full([1], 1)], [again, full([1], 1)], [y, full(y.shape, 0.25)], [decay, full(decay.shape, 1)]] as Seed[];
    }),
  };
}

/** dx, then the gradients of the parameters. */
function whole({ x, parameters, seeds }: Net, watch: boolean): (Tensor | undefined)[] {
  const tape = new Tape();
  if (watch) tape.watch(x);
  const found = tape.backward(seeds(tape));
  return [x, ...parameters].map((tensor) => found.get(tensor));
}

function halves({ x, parameters, seeds }: Net, watch: boolean): (Tensor | undefined)[] {
  const tape = new Tape();
  if (watch) tape.watch(x);
  const inputs = tape.backwardInputs(seeds(tape)), dx = inputs.get(x);
  const weights = inputs.weights();
  assert.equal(weights.get(x), undefined, "x was given in the first half");
  return [dx, ...parameters.map((tensor) => weights.get(tensor))];
}

describe("a backward in two halves", () => {
  noLeaks();

  for (const watch of [true, false]) {
    it(`T-5: gives the bits of the whole one, ${watch ? "with" : "without"} a watched input`, () => withScope(async (scope) => {
      const net = scope.enter(block);
      const [one, two] = [scope.enter(() => whole(net, watch)), scope.enter(() => halves(net, watch))];
      const read = (found: (Tensor | undefined)[]) => Promise.all(found.map((tensor) => tensor?.read()));
      const [expected, got] = [await read(one), await read(two)];
      assert.equal(expected[0] === undefined, !watch);
      assert.ok(expected.slice(1).every((gradient) => gradient !== undefined));
      assert.deepEqual(got, expected);
    }));
  }

  it("T-1: adds the uses of a weight in visiting order, though one of them is ready before the others", () => withScope(async (scope) => {
    // visited: 1e8 first, then -1e8, then the product with x, whose rule is the only one that the first half looks at
    const gradient = scope.enter(() => {
      const x = full([1], 1), w = Object.assign(full([1], 1), { requiresGrad: true }), tape = new Tape();
      tape.watch(x);
      const y = tape.record(() => add(add(mul(x, w), scale(w, -1e8)), scale(w, 1e8)));
      const first = tape.backwardInputs([[y, full([1], 1)]]);
      assert.equal(first.get(w), undefined, "no parameter is given in the first half");
      return first.weights().get(w)!;
    });
    assert.deepEqual(await gradient.read(), new Float32Array([1])); // (1e8 - 1e8) + 1
  }));

  it("gives the gradient of a watched tensor in the middle with the first half, and what is behind it with the second", () => withScope(async (scope) => {
    const [dm, dw] = await Promise.all(scope.enter(() => {
      const w = Object.assign(full([1], 2), { requiresGrad: true }), tape = new Tape();
      const [m, y] = tape.record(() => { const m = tape.watch(scale(w, 3)); return [m, mul(m, m)]; });
      const first = tape.backwardInputs([[y, full([1], 1)]]);
      return [first.get(m)!.item(), first.weights().get(w)!.item()];
    }));
    assert.deepEqual([dm, dw], [12, 36]);
  }));

  it("BH-2: needs, between the halves, what the rules of the weights look at and nothing else", () => withScope(async (scope) => {
    const kept = scope.enter(() => {
      const x = zeros([8, 8]), w1 = parameter([8, 8], 1), w2 = parameter([8, 8], 2), tape = new Tape();
      tape.watch(x);
      const made = tape.record(() => {
        const a = linear(x, w1), b = gelu(a), c = scale(b, 2), y = linear(c, w2);
        return { a, b, c, y };
      });
      const unneeded = tape.backwardInputs([[made.y, zeros([8, 8])]]).unneeded();
      assert.equal(unneeded.has(x), false, "the weight of the first layer needs its input");
      return Object.entries(made).filter(([, tensor]) => !unneeded.has(tensor)).map(([name]) => name);
    });
    assert.deepEqual(kept, ["c"]);
  }));

  it("BH-2: holds no gradient between the halves but those that weights need, and none of its own afterwards", () => {
    const scope = new Scope("halves");
    try {
      scope.enter(() => {
        const x = zeros([4, 4]), weights = [parameter([4, 4], 1), parameter([4, 4], 2)], seed = zeros([4, 4]), tape = new Tape();
        tape.watch(x);
        const y = tape.record(() => weights.reduce((y, weight) => linear(scale(gelu(scale(y, 2)), 3), weight), x));
        const before = memory().tensors;
        const first = tape.backwardInputs([[y, seed]]);
        assert.equal(memory().tensors - before, 2, "dx, and the dy of the first layer; that of the second is the seed");
        const second = first.weights();
        assert.equal(memory().tensors - before, 3, "dx and two gradients");
        for (const weight of weights) second.get(weight)!.dispose();
        first.get(x)!.dispose();
        assert.equal(memory().tensors - before, 0);
      });
    } finally {
      scope.close();
    }
  });

  it("BH-2: hands a gradient over that came with one of the first half, without a copy", () => withScope(async (scope) => {
    scope.enter(() => {
      const x = f32([2, 3], 1), head = parameter([4, 3], 2), labels = ids([3, 1]), tape = new Tape();
      tape.watch(x);
      const loss = tape.record(() => linearCrossEntropy(x, head, undefined, labels)), seed = full([1], 1);
      const before = memory().tensors, first = tape.backwardInputs([[loss, seed]]);
      assert.equal(memory().tensors - before, 2, "dx and dweight");
      assert.ok(first.weights().get(head));
      assert.equal(memory().tensors - before, 2, "the same two");
    });
  }));

  it("T-4: spends the recording, and the second half its own part of it", () => withScope(async (scope) => {
    scope.enter(() => {
      const x = full([1], 1), w = Object.assign(full([1], 3), { requiresGrad: true }), tape = new Tape();
      tape.watch(x);
      const y = tape.record(() => mul(x, w));
      const first = tape.backwardInputs([[y, full([1], 1)]]);
      assert.throws(() => tape.backward([[y, full([1], 1)]]), code("ERR_TAPE", /was not recorded by this tape/));
      assert.ok(first.weights().get(w));
      assert.equal(first.weights().get(w), undefined);
    });
  }));

  it("computes sums that reach no watched tensor only in the second half", () => withScope(async (scope) => {
    scope.enter(() => {
      const w = parameter([3], 1), tape = new Tape();
      const y = tape.record(() => sum(mul(w, w)));
      const before = memory().tensors, first = tape.backwardInputs([[y, full([1], 1)]]);
      assert.equal(memory().tensors - before, 1, "the seed");
      assert.deepEqual(first.weights().get(w)!.shape, [3]);
    });
  }));
});
