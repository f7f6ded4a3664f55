import assert from "node:assert/strict";
import { Tape, recomputed } from "../../../runtime/autograd/index.ts";
import { add, linear, mul, scale, sum, tanh } from "../../../runtime/ops/index.ts";
import { type Tensor, Scope, fromArray, full, memory } from "../../../runtime/tensor/index.ts";
import { noLeaks, randn, withScope } from "../numbers.ts";

type Through = <T extends Tensor | readonly Tensor[]>(work: () => T) => T;
const plainly: Through = (work) => work();

/** Gradients of what `forward` watches and of its weight, with and without running blocks again. */
async function bothWays(forward: (through: Through, x: Tensor, weight: Tensor) => Tensor): Promise<[Float64Array[], Float64Array[]]> {
  const run = (through: Through) => withScope(async (scope) => Promise.all(scope.enter(() => {
    const x = randn([3, 4], { seed: 1 }), weight = randn([4, 4], { seed: 2 }), tape = new Tape();
    weight.requiresGrad = true;
    tape.watch(x);
    const output = tape.record(() => forward(through, x, weight));
    const gradients = tape.backward([[output, randn(output.shape, { seed: 3 })]]);
    return [output, gradients.get(x)!, gradients.get(weight)!].map((tensor) => tensor.read() as Promise<Float64Array>);
  })));
  return [await run(plainly), await run(recomputed)];
}

describe("recomputed", () => {
  noLeaks();

  const cases: Record<string, (through: Through, x: Tensor, weight: Tensor) => Tensor> = {
    "a stack of blocks": (through, x, weight) => [1, 2, 3].reduce((h) => through(() => add(h, tanh(linear(h, weight)))), x),
    "a block that reads what another made, and which is used after it too": (through, x, weight) => {
      const first = through(() => tanh(linear(x, weight)));
      const second = through(() => mul(tanh(first), add(x, first)));
      return add(scale(first, 1e8), add(second, scale(first, -1e8)));
    },
    "several outputs, one of them unused": (through, x, weight) => {
      const [a, , c] = through(() => [linear(x, weight), scale(x, 3), tanh(x)]);
      return mul(a, c);
    },
    "blocks inside of blocks": (through, x, weight) => through(() => through(() => tanh(linear(through(() => mul(x, tanh(x))), weight)))),
    "an output that is an input": (through, x, weight) => add(through(() => [x, linear(x, weight)])[0], through(() => linear(x, weight))),
  };
  for (const [name, forward] of Object.entries(cases)) {
    it(`T-5: gives the bits of running once: ${name}`, async () => {
      const [once, again] = await bothWays(forward);
      assert.deepEqual(again, once);
    });
  }

  it("T-6: keeps the output only, and on the way back holds one block at a time", () => withScope(async () => {
    const size = 4096, depth = 16, peak = (through: Through): [kept: number, peak: number] => {
      const scope = new Scope("stack"), tape = new Tape();
      try {
        return scope.enter(() => {
          const x = tape.watch(full([size], 0.5)), before = scope.memory().bytesInUse;
          const output = tape.record(() => Array.from({ length: depth }).reduce<Tensor>((h) => through(() => tanh(tanh(tanh(tanh(h))))), x));
          const kept = scope.memory().bytesInUse - before;
          const start = memory().bytesInUse;
          let most = 0;
          tape.backward([[output, full([size], 1)]]);
          most = Math.max(scope.memory().bytesPeak, memory().bytesInUse - start);
          return [kept, most];
        });
      } finally {
        scope.close();
      }
    };
    const bytes = 4 * size;
    assert.equal(peak(plainly)[0], depth * 4 * bytes);
    assert.equal(peak(recomputed)[0], depth * bytes);
    assert.ok(peak(recomputed)[1] < (depth + 6) * bytes);
  }));

  it("does not run a block again to which no gradient comes, nor record one that needs none", () => withScope(async (scope) => scope.enter(() => {
    let runs = 0;
    const x = full([2], 1), constant = full([2], 2), tape = new Tape();
    tape.watch(x);
    const output = tape.record(() => {
      recomputed(() => (runs++, tanh(x)));
      recomputed(() => tanh(constant));
      return sum(x);
    });
    assert.equal(tape.length, 2, "the idle block and the sum");
    tape.backward([[output, full([1], 1)]]);
    assert.equal(runs, 1);
  })));

  it("is just the work where nothing records", () => withScope(async (scope) => {
    const y = scope.enter(() => recomputed(() => scale(fromArray([1, 2], [2]), 2)));
    assert.deepEqual(await y.read(), new Float32Array([2, 4]));
  }));

  it("frees what the second run made when the way back fails", () => withScope(async (scope) => scope.enter(() => {
    let runs = 0;
    const x = full([2], 1), tape = new Tape();
    tape.watch(x);
    const output = tape.record(() => recomputed(() => {
      const y = tanh(x);
      if (++runs === 2) throw new Error("the second run");
      return tanh(y);
    }));
    assert.throws(() => tape.backward([[output, full([2], 1)]]), /the second run/);
  })));
});
