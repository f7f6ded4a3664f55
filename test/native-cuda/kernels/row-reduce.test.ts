import assert from "node:assert/strict";
import { noise, run } from "../device.ts";
import { family } from "../harness.ts";

const sizes = [[0, 3], [3, 1], [1, 17], [3, 17], [17, 5], [75, 2049], [3, 40003]];
family("logsumexp", (rows, cols) => ({
  inputs: { x: noise([rows, cols], 1, 6) }, outputs: { y: [rows] },
  kernels: { logsumexp_forward: ["x y"], logsumexp_backward: ["dy x y dx"] }, wide: "y dy", tolerance: 3e-6,
}), sizes);
family("row_norm", (rows, cols) => ({
  inputs: { x: noise([rows, cols], 2, 3) }, outputs: { y: [rows] },
  kernels: { row_norm_forward: ["x y"], row_norm_backward: ["dy x y dx"] }, wide: "y dy",
}), [[3, 0], ...sizes]);
family("log_softmax", (rows, cols) => ({
  inputs: { x: noise([rows, cols], 3, 6) }, outputs: { y: [rows, cols] },
  kernels: { log_softmax_forward: ["x y"], log_softmax_backward: ["dy y dx"] }, tolerance: 4e-6,
}), sizes);

describe("numbers per row", () => {
  const of = (...values: number[]) => ({ shape: [1, values.length], data: Float32Array.from(values) });
  for (const kernels of ["fast", "reference"] as const) {
    it(`logsumexp stands huge numbers, nothing, and infinities (${kernels})`, async () => {
      const lse = async (...values: number[]) => (await run("logsumexp_forward", [of(...values), { out: [1] }], [], { kernels }))[0][0];
      assert.deepEqual([await lse(1e4, -1e4), await lse(), await lse(-Infinity, -Infinity), await lse(0, Infinity)], [1e4, -Infinity, -Infinity, Infinity]);
      const [dx] = await run("logsumexp_backward", [{ shape: [1], data: Float32Array.of(1) }, of(-Infinity, -Infinity), { shape: [1], data: Float32Array.of(-Infinity) }, { out: [1, 2] }], [], { kernels });
      assert.deepEqual([...dx], [0, 0]);
    });

    it(`row_norm of a zero row is 0, with gradient 0; squares do not overflow early in f32 (${kernels})`, async () => {
      const one = { shape: [1], data: Float32Array.of(1) }, zero = { shape: [1], data: Float32Array.of(0) };
      assert.equal((await run("row_norm_forward", [of(0, 0), { out: [1] }], [], { kernels }))[0][0], 0);
      assert.deepEqual([...(await run("row_norm_backward", [one, of(0, 0), zero, { out: [1, 2] }], [], { kernels }))[0]], [0, 0]);
      if (kernels === "fast") assert.equal((await run("row_norm_forward", [of(3e30, 4e30), { out: [1] }]))[0][0], Math.fround(5e30));
    });
  }
});
