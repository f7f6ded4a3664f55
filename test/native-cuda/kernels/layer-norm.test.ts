import assert from "node:assert/strict";
import { noise, run } from "../device.ts";
import { close, family, refuses } from "../harness.ts";

family("layer_norm", (rows, cols) => ({
  inputs: { x: noise([rows, cols], 1, 3), w: noise([cols], 2), b: noise([cols], 3) },
  outputs: { y: [rows, cols], mean: [rows], rstd: [rows] },
  kernels: {
    layer_norm_forward: ["x w b y mean rstd", 1e-6],
    layer_norm_backward_input: ["dy x w mean rstd dx"],
    layer_norm_backward_affine: ["dy x mean rstd dw db"],
  },
  wide: "w b dw db mean rstd",
  tolerance: 4e-6,
}), [[0, 3], [3, 0], [1, 3], [2, 17], [3, 5], [3000, 96], [9000, 17], [9, 20001]]);

describe("layer_norm", () => {
  const x = [1, -2, 3, 0.5], w = [1, 0.5, 2, -1], b = [0.1, 0.2, 0.3, 0.4];
  // the formula in f64, eps 1e-6
  const expected = [0.31055868871, -0.53695541049, 2.96707672368, 0.47018622957];
  for (const [Array, tolerance] of [[Float64Array, 1e-11], [Float32Array, 2e-7]] as const) {
    it(`has the known value in ${Array.name}`, async () => {
      const operand = (numbers: number[]) => ({ shape: [numbers.length], data: Array.from(numbers) });
      const [y] = await run("layer_norm_forward", [operand(x), operand(w), operand(b), { out: [4] }, { out: [1] }, { out: [1] }], [1e-6]);
      close(y, expected, tolerance);
    });
  }

  it("of one column is the bias, and passes no gradient on", async () => {
    const x = { shape: [2, 1], data: Float32Array.of(-300, 7) }, one = { shape: [1], data: Float32Array.of(2) };
    const [y, mean, rstd] = await run("layer_norm_forward", [x, one, one, { out: [2, 1] }, { out: [2] }, { out: [2] }], [1e-6]);
    assert.deepEqual([...y], [2, 2]);
    const saved = (data: Float32Array | Float64Array) => ({ shape: [2], data });
    const [dx] = await run("layer_norm_backward_input", [x, x, one, saved(mean), saved(rstd), { out: [2, 1] }]);
    assert.deepEqual([...dx].map(Math.abs), [0, 0]);
  });

  it("refuses a weight of another width, naming it", () =>
    refuses(run("layer_norm_forward", [noise([2, 4], 1), noise([3], 2), noise([4], 3), { out: [2, 4] }, { out: [2] }, { out: [2] }], [1e-6]),
      /layer_norm_forward: w expected 4 elements \(C\), got f64 \(3\)/));
});
