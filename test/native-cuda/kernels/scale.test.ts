import assert from "node:assert/strict";
import { firstDifference, noise, run, single } from "../device.ts";
import { family } from "../harness.ts";

family("scale", (...shape) => ({ inputs: { x: noise(shape, 1) }, outputs: { y: shape }, kernels: { scale: ["x y", -0.3] } }), [[0], [1], [3], [17], [5, 60001]]);

describe("accumulate", () => {
  for (const n of [0, 1, 3, 17, 300005]) {
    it(`(${n}) adds x to y in place, in f32 and f64, on any number of threads`, async () => {
      const x = noise([n], 1), y = noise([n], 2);
      const [exact] = await run("accumulate", [x, { ...y, update: true }]);
      assert.equal(firstDifference(exact, x.data.map((v, i) => v + y.data[i])), -1);
      const [fast] = await run("accumulate", [single(x), { ...single(y), update: true }], [], { threads: 1 });
      const [p, q] = [single(x).data, single(y).data];
      assert.equal(firstDifference(fast, Float32Array.from(p, (v, i) => v + q[i])), -1);
      const [again] = await run("accumulate", [single(x), { ...single(y), update: true }], [], { threads: 4 });
      assert.equal(firstDifference(again, fast), -1);
    });
  }
});
