import assert from "node:assert/strict";
import { firstDifference, noise, rounded, run, single, type Operand } from "../device.ts";
import { close, refuses } from "../harness.ts";

// lr, beta1, beta2, eps, weight decay
const settings = [0.01, 0.9, 0.98, 1e-8, 0.05];
const update = (o: Operand): Operand => ({ ...o, update: true });

/** p, m and v after each of the steps. */
async function train(p: Operand, gradients: Operand[], gradScale = 1, threads = 2): Promise<(Float32Array | Float64Array)[][]> {
  const zeros = { shape: p.shape, data: p.data.map(() => 0) };
  let state = [p, zeros, zeros];
  const history: (Float32Array | Float64Array)[][] = [];
  for (const [i, g] of gradients.entries()) {
    history.push(await run("adamw", [update(state[0]), g, update(state[1]), update(state[2])], [...settings, i + 1, gradScale], { threads }));
    state = history[i].map((data) => ({ shape: p.shape, data }));
  }
  return history;
}

describe("adamw", () => {
  const of = (Array: Float32ArrayConstructor | Float64ArrayConstructor, ...numbers: number[]) => ({ shape: [numbers.length], data: Array.from(numbers) });
  for (const [Array, tolerance] of [[Float64Array, 1e-9], [Float32Array, 2e-7]] as const) {
    it(`has the known value after 1 and 3 steps in ${Array.name}`, async () => { // the formula of adamw.h in f64
      const steps = await train(of(Array, 1, -0.5), [of(Array, 0.1, -0.2), of(Array, 0.3, 0.1), of(Array, -0.2, 0.05)]);
      close(steps[0][0], [0.9895000010, -0.4897500005], tolerance);
      close(steps[2][0], [0.9767987085, -0.4859724955], tolerance);
    });
  }

  for (const n of [0, 1, 3, 17, 300001]) {
    it(`(${n}) agrees with f64 over three steps and has the same bits on 1, 2 and 4 threads`, async () => {
      const p = noise([n], 1), gradients = [2, 3, 4].map((seed) => noise([n], seed));
      const truth = (await train(rounded(p), gradients.map(rounded), 0.5))[2], fast = (await train(single(p), gradients.map(single), 0.5, 1))[2];
      for (const which of [0, 1, 2]) close(fast[which], truth[which], 2e-6);
      for (const threads of [2, 4]) {
        const again = (await train(single(p), gradients.map(single), 0.5, threads))[2];
        for (const which of [0, 1, 2]) assert.equal(firstDifference(again[which], fast[which]), -1, `${threads} threads`);
      }
    });
  }

  it("scales the gradient before everything else", async () => {
    const halved = await train(of(Float64Array, 1), [of(Float64Array, 0.2)], 0.5), plain = await train(of(Float64Array, 1), [of(Float64Array, 0.1)]);
    assert.deepEqual(halved, plain);
  });

  it("refuses step 0", () => refuses(run("adamw", [noise([1], 1), noise([1], 1), noise([1], 1), noise([1], 1)].map(update), [...settings, 0, 1]), /adamw: step expected a whole number in \[1, /));
});
