import assert from "node:assert/strict";
import { noise, run } from "../device.ts";
import { family } from "../harness.ts";

for (const name of ["squared_error", "absolute_error"]) {
  family(name, (...shape) => ({
    inputs: { pred: noise(shape, 1, 2), target: noise(shape, 2) }, outputs: { loss: [1] },
    kernels: { [`${name}_forward`]: ["pred target loss", 0.37], [`${name}_backward`]: ["dloss pred target dpred", 0.37] },
  }), [[0], [1], [3, 17], [2, 3, 5], [5, 60011]]);
}

describe("error losses", () => {
  const of = (...values: number[]) => ({ shape: [values.length], data: Float32Array.from(values) });

  it("add squares or absolute values, times the weight", async () => {
    const loss = async (name: string) => (await run(`${name}_forward`, [of(1, -2, 0), of(4, 2, 0), { out: [1] }], [2]))[0][0];
    assert.deepEqual([await loss("squared_error"), await loss("absolute_error")], [50, 14]);
  });

  it("absolute_error has no slope where pred is the target", async () => {
    assert.deepEqual([...(await run("absolute_error_backward", [of(1), of(1, 2, 3), of(1, 1, 9), { out: [3] }], [1]))[0]], [0, 1, -1]);
  });
});
