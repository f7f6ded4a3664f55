import assert from "node:assert/strict";
import { noise, run } from "../device.ts";
import { family, refuses } from "../harness.ts";

const sizes = [[0], [1], [3], [17], [2, 3, 5], [5, 14013]];
family("clamp", (...shape) => ({
  inputs: { x: noise(shape, 3, 2) }, outputs: { y: shape },
  kernels: { clamp_forward: ["x y", -0.7, 1.1], clamp_backward: ["dy x dx", -0.7, 1.1] },
}), sizes);

for (const exponent of [0, 1, 2, 3, 0.5, -1.5]) {
  family(`power ${exponent}`, (...shape) => {
    const x = noise(shape, 4, 1);
    return {
      inputs: { x: { shape, data: x.data.map((v) => v + 1.5) } }, outputs: { y: shape },
      kernels: { power_forward: ["x y", exponent], power_backward: ["dy x dx", exponent] }, gradientTolerance: 1e-6,
    };
  }, sizes);
}

describe("clamp and power", () => {
  const of = (...values: number[]) => ({ shape: [values.length], data: Float32Array.from(values) });

  it("clamp keeps its limits and NaN", async () => {
    assert.deepEqual([...(await run("clamp_forward", [of(-9, -1, 0.5, 1, 9, NaN), { out: [6] }], [-1, 1]))[0]], [-1, -1, 0.5, 1, 1, NaN]);
    assert.deepEqual([...(await run("clamp_backward", [of(1, 1, 1), of(-1, 1, 2), { out: [3] }], [-1, 1]))[0]], [1, 1, 0]);
  });

  it("clamp refuses limits in the wrong order", () => refuses(run("clamp_forward", [of(1), { out: [1] }], [1, -1]), /clamp_forward: low expected at most high, got 1 and -1/));

  it("power knows odd powers of negative numbers, and that x^0 is 1", async () => {
    assert.deepEqual([...(await run("power_forward", [of(-2, 0, 3), { out: [3] }], [3]))[0]], [-8, 0, 27]);
    assert.deepEqual([...(await run("power_forward", [of(-2, 0, 3), { out: [3] }], [0]))[0]], [1, 1, 1]);
    assert.deepEqual([...(await run("power_backward", [of(1, 1), of(0, 3), { out: [2] }], [0]))[0]], [0, 0]);
  });
});
