import assert from "node:assert/strict";
import { Tape } from "../../../runtime/autograd/index.ts";
import { native } from "../../../runtime/native.ts";
import { add, linear } from "../../../runtime/ops/index.ts";
import { Scope, fence, full, zeros } from "../../../runtime/tensor/index.ts";
import { noLeaks } from "../numbers.ts";

const calls = 2000, rounds = 7;

/** Microseconds per call of `work`, which makes `calls` calls: the best of several rounds, since the machine may be shared. */
async function microseconds(work: () => void): Promise<number> {
  let best = Infinity;
  for (let round = 0; round < rounds; round++) {
    await fence();
    const scope = new Scope("overhead");
    const start = performance.now();
    scope.enter(work);
    scope.close();
    best = Math.min(best, ((performance.now() - start) * 1000) / calls);
  }
  await fence();
  return best;
}

describe("the overhead of an op call", () => {
  noLeaks();

  it("is a few microseconds, recorded and walked back too", async () => {
    const x = full([4], 1), y = zeros([4]), weight = full([4, 4], 0.1);
    weight.requiresGrad = true;
    const addNumber = native().kernel("add"), handles = [x.handle, x.handle, y.handle];
    const times = (work: () => void) => { for (let i = 0; i < calls; i++) work(); };
    const launch = await microseconds(() => times(() => native().launch(addNumber, handles, [])));
    const plain = await microseconds(() => times(() => add(x, x)));
    const recorded = await microseconds(() => new Tape().record(() => times(() => linear(x, weight))));
    const both = await microseconds(() => {
      const tape = new Tape(), seed = zeros([4]);
      let output = x;
      tape.record(() => times(() => (output = linear(output, weight))));
      tape.backward([[output, seed]]);
    });
    [x, y, weight].forEach((tensor) => tensor.dispose());
    const show = (value: number) => `${value.toFixed(2)} µs`;
    console.log(`      bare launch ${show(launch)}, add ${show(plain)}, recorded linear ${show(recorded)}, linear forward and backward ${show(both)}`);
    // 0.8 and 7 µs on a busy two-core machine; the bounds only catch what is wrong by an order of magnitude.
    assert.ok(plain < 50, `add took ${show(plain)}`);
    assert.ok(both < 200, `linear forward and backward took ${show(both)}`);
  });
});
