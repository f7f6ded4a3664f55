import assert from "node:assert/strict";
import { Tape, recomputed } from "../../../runtime/autograd/index.ts";
import { add, linear, mul, scale, sum, tanh } from "../../../runtime/ops/index.ts";
import { type Tensor, Scope, fromArray, full, memory, resetPeak } from "../../../runtime/tensor/index.ts";
import { noLeaks, randn, withScope } from "../numbers.ts";

type Through = <T extends Tensor | readonly Tensor[]>(work: () => T) => T;
const plainly: Through = (work) => work();

/** The output and gradients of what is watched and of the weight: running once, running blocks again, and both in two halves. */
async function everyWay(forward: (through: Through, x: Tensor, weight: Tensor) => Tensor, watch = true): Promise<Float64Array[][]> {
  const run = (through: Through, halves = false) => withScope(async (scope) => Promise.all(scope.enter(() => {
    const x = randn([3, 4], { seed: 1 }), weight = randn([4, 4], { seed: 2 }), tape = new Tape();
    weight.requiresGrad = true;
    if (watch) tape.watch(x);
    const output = tape.record(() => forward(through, x, weight)), seeds = [[output, randn(output.shape, { seed: 3 })]] as const;
    const found: (Tensor | undefined)[] = [output];
    if (halves) {
      const inputs = tape.backwardInputs(seeds);
      for (const tensor of inputs.unneeded()) if (tensor.scope === scope && tensor !== output) tensor.dispose();
      found.push(inputs.get(x), inputs.weights().get(weight));
    } else {
      const gradients = tape.backward(seeds);
      found.push(gradients.get(x), gradients.get(weight));
    }
    return found.flatMap((tensor) => (tensor ? [tensor.read() as Promise<Float64Array>] : []));
  })));
  return [await run(plainly), await run(recomputed), await run(plainly, true), await run(recomputed, true)];
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
    it(`T-6, BH-3: gives the bits of running once, whole or in halves: ${name}`, async () => {
      const [once, ...others] = await everyWay(forward);
      assert.equal(once.length, 3);
      for (const other of others) assert.deepEqual(other, once);
    });
    it(`T-6, BH-3: and where nothing is watched: ${name}`, async () => {
      const [once, ...others] = await everyWay(forward, false);
      assert.equal(once.length, 2);
      for (const other of others) assert.deepEqual(other, once);
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
          const seed = full([size], 1);
          resetPeak();
          const start = memory().bytesInUse;
          tape.backward([[output, seed]]);
          return [kept, memory().bytesPeak - start];
        });
      } finally {
        scope.close();
      }
    };
    const bytes = 4 * size;
    assert.equal(peak(plainly)[0], depth * 4 * bytes);
    const [kept, most] = peak(recomputed);
    assert.equal(kept, depth * bytes);
    assert.ok(most <= 7 * bytes, `${most} bytes`); // what four tanh made, and the gradients under way
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
