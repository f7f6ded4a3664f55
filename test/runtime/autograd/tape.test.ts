import assert from "node:assert/strict";
import { Tape, defineOp, withoutRecording } from "../../../runtime/autograd/index.ts";
import { add, detach, linear, mul, reshape, scale, split, sum, zeroGradient } from "../../../runtime/ops/index.ts";
import { type Tensor, fromArray, full, memory, zeros } from "../../../runtime/tensor/index.ts";
import { assertClose, code, noLeaks, randn, withScope } from "../numbers.ts";

const one = (dtype: "f32" | "f64" = "f32") => full([1], 1, dtype);

describe("Tape", () => {
  noLeaks();

  it("T-1: adds the gradients of several uses in visiting order, the last use first", () => withScope(async (scope) => {
    // f32: (1e8 + 1) - 1e8 depends on the order. Uses in program order a, b, c; visited c, b, a: (c + b) + a.
    const gradient = scope.enter(() => {
      const x = full([1], 1), tape = new Tape();
      tape.watch(x);
      const total = tape.record(() => {
        const a = scale(x, 1), b = scale(x, -1e8), c = scale(x, 1e8);
        return add(add(a, b), c);
      });
      return tape.backward([[total, one()]]).get(x)!;
    });
    assert.deepEqual(await gradient.read(), new Float32Array([1])); // (1e8 - 1e8) + 1; the forward order would give 0
  }));

  it("T-2: records nothing outside of record, and nothing that needs no gradient", () => withScope(async (scope) => {
    scope.enter(() => {
      const x = full([2], 1), y = full([2], 2), tape = new Tape();
      tape.watch(x);
      add(x, y);
      tape.record(() => {
        mul(y, y);
        withoutRecording(() => mul(x, x));
        detach(x);
      });
      assert.equal(tape.length, 0);
      tape.record(() => mul(x, y));
      assert.equal(tape.length, 1);
    });
  }));

  it("T-3: leaves the seed alone, though the gradient of a sum is the seed itself", () => withScope(async (scope) => {
    const [seed, da, db] = await Promise.all(scope.enter(() => {
      const a = full([2], 1), b = full([2], 2), seed = fromArray([3, 4], [2]), tape = new Tape();
      [a, b].forEach((t) => tape.watch(t));
      const gradients = tape.backward([[tape.record(() => add(add(a, b), a)), seed]]);
      const [da, db] = [gradients.get(a)!, gradients.get(b)!];
      assert.equal(new Set([seed.root, da.root, db.root]).size, 3, "each has storage of its own");
      return [seed.read(), da.read(), db.read()];
    }));
    assert.deepEqual([seed, da, db], [[3, 4], [6, 8], [3, 4]].map((values) => new Float32Array(values)));
  }));

  it("T-3: does not add into a gradient that a view still shows", () => withScope(async (scope) => {
    const [da, dx] = await Promise.all(scope.enter(() => {
      const a = full([2], 1), x = full([2, 1], 1), tape = new Tape();
      [a, x].forEach((t) => tape.watch(t));
      const out = tape.record(() => {
        const other = scale(reshape(x, [2]), 10);
        return scale(add(add(a, reshape(x, [2])), other), 2); // dy reaches a and, as a view, x; then x gets 10 dy more
      });
      const gradients = tape.backward([[out, full([2], 1)]]);
      return [gradients.get(a)!.read(), gradients.get(x)!.read()];
    }));
    assert.deepEqual([da, dx], [new Float32Array([2, 2]), new Float32Array([22, 22])]);
  }));

  it("T-3: frees the gradients under way, so that a deep pass holds no more than a shallow one", () => withScope(async (scope) => {
    const extra = [3, 30].map((depth) => scope.enter(() => {
      const x = zeros([1000]), tape = new Tape();
      tape.watch(x);
      const y = tape.record(() => {
        let y: Tensor = x;
        for (let i = 0; i < depth; i++) y = scale(y, 0.5);
        return y;
      });
      const seed = zeros([1000]);
      const before = memory().tensors;
      tape.backward([[y, seed]]);
      return memory().tensors - before;
    }));
    assert.deepEqual(extra, [1, 1]);
  }));

  it("T-4: is spent after backward, and says so", () => withScope(async (scope) => {
    scope.enter(() => {
      const x = full([1], 1), tape = new Tape();
      tape.watch(x);
      const y = tape.record(() => scale(x, 2));
      tape.backward([[y, one()]]);
      assert.throws(() => tape.backward([[y, one()]]), code("ERR_TAPE", /was not recorded by this tape/));
    });
  }));

  it("accepts several seeds, one of them on a leaf", () => withScope(async (scope) => {
    const gradient = scope.enter(() => {
      const x = full([2], 3), tape = new Tape();
      tape.watch(x);
      const y = tape.record(() => mul(x, x)); // 6 per unit of dy
      return tape.backward([[x, full([2], 100)], [y, full([2], 1)]]).get(x)!;
    });
    assert.deepEqual(await gradient.read(), new Float32Array([106, 106]));
  }));

  it("keeps the gradient of a watched tensor in the middle", () => withScope(async (scope) => {
    const [dm, dx] = await Promise.all(scope.enter(() => {
      const x = full([1], 2), tape = new Tape();
      tape.watch(x);
      const [m, y] = tape.record(() => { const m = tape.watch(scale(x, 3)); return [m, mul(m, m)]; });
      const gradients = tape.backward([[y, one()]]);
      return [gradients.get(m)!.item(), gradients.get(x)!.item()];
    }));
    assert.deepEqual([dm, dx], [12, 36]);
  }));

  it("reaches trainable parameters without watching, and computes nothing for frozen operands", () => withScope(async (scope) => {
    scope.enter(() => {
      const weight = randn([3, 2], { seed: 1 }), frozen = randn([3, 2], { seed: 2 }), x = randn([4, 2], { seed: 3 }), tape = new Tape();
      weight.requiresGrad = true;
      const y = tape.record(() => sum(add(linear(x, weight), linear(x, frozen))));
      assert.equal(tape.length, 3);
      const gradients = tape.backward([[y, one("f64")]]);
      assert.equal(gradients.get(frozen), undefined);
      assert.equal(gradients.get(x), undefined);
      assert.deepEqual(gradients.get(weight)!.shape, [3, 2]);
    });
  }));

  it("fills in zeros for a piece of a split that was not used", () => withScope(async (scope) => {
    const gradient = scope.enter(() => {
      const x = full([5], 1), tape = new Tape();
      tape.watch(x);
      const y = tape.record(() => sum(scale(split(x, 0, [2, 1, 2])[1], 7)));
      return tape.backward([[y, one()]]).get(x)!;
    });
    assert.deepEqual(await gradient.read(), new Float32Array([0, 0, 7, 0, 0]));
  }));

  it("gives zeroGradient a gradient of exactly zero", () => withScope(async (scope) => {
    const gradient = scope.enter(() => {
      const x = full([2], 5), tape = new Tape();
      tape.watch(x);
      return tape.backward([[tape.record(() => sum(mul(zeroGradient(x), x))), one()]]).get(x)!;
    });
    assertClose(await gradient.read(), [5, 5], 0);
  }));

  it("lets the innermost tape record", () => withScope(async (scope) => {
    scope.enter(() => {
      const x = full([1], 1), outer = new Tape(), inner = new Tape();
      [outer, inner].forEach((tape) => tape.watch(x));
      outer.record(() => {
        scale(x, 1);
        inner.record(() => scale(x, 2));
        scale(x, 3);
      });
      assert.deepEqual([outer.length, inner.length], [2, 1]);
    });
  }));

  it("refuses asynchronous work and seeds of another shape", () => withScope(async (scope) => {
    scope.enter(() => {
      const x = full([2], 1), tape = new Tape();
      tape.watch(x);
      assert.throws(() => tape.record(async () => x), code("ERR_HANDLE", /cannot span an await/));
      const y = tape.record(() => scale(x, 2));
      assert.throws(() => tape.backward([[y, one()]]), code("ERR_SHAPE", /backward: gradient expected f32\(2\), got \(1\)/));
    });
  }));

  it("refuses a rule whose gradient does not fit its operand", () => withScope(async (scope) => {
    const wrong = defineOp({ name: "wrong", operands: ["x"], forward: (x: Tensor) => ({ output: zeros([3]), saves: x }), gradients: { x: (dy) => dy } });
    scope.enter(() => {
      const x = full([2], 1), tape = new Tape();
      tape.watch(x);
      const y = tape.record(() => wrong(x));
      assert.throws(() => tape.backward([[y, full([3], 1)]]), code("ERR_TAPE", /wrong: a gradient rule returned f32\(3\) for an operand f32\(2\)/));
    });
  }));
});
