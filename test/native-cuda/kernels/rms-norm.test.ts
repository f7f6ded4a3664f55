import { noise, run } from "../device.ts";
import { close, family } from "../harness.ts";

family("rms_norm", (rows, cols) => ({
  inputs: { x: noise([rows, cols], 1, 3), w: noise([cols], 2) },
  outputs: { y: [rows, cols], rstd: [rows] },
  kernels: {
    rms_norm_forward: ["x w y rstd", 1e-5],
    rms_norm_backward_input: ["dy x w rstd dx"],
    rms_norm_backward_weight: ["dy x rstd dw"],
  },
  wide: "w dw rstd",
  tolerance: 4e-6,
}), [[0, 3], [3, 0], [1, 3], [2, 17], [3, 5], [3000, 96], [9000, 17], [9, 20001]]);

describe("rms_norm", () => {
  // x rstd w in f64, eps 1e-5
  const expected = [0.52981219923, -0.52981219923, 3.17887319538, -0.26490609962];
  for (const [Array, tolerance] of [[Float64Array, 1e-11], [Float32Array, 2e-7]] as const) {
    it(`has the known value in ${Array.name}`, async () => {
      const operand = (...numbers: number[]) => ({ shape: [numbers.length], data: Array.from(numbers) });
      const [y] = await run("rms_norm_forward", [operand(1, -2, 3, 0.5), operand(1, 0.5, 2, -1), { out: [4] }, { out: [1] }], [1e-5]);
      close(y, expected, tolerance);
    });
  }

  it("of one column is the sign, times the weight", async () => {
    const [y] = await run("rms_norm_forward", [{ shape: [2, 1], data: Float32Array.of(-300, 7) }, { shape: [1], data: Float32Array.of(2) }, { out: [2, 1] }, { out: [2] }], [0]);
    close(y, [-2, 2], 2e-7);
  });
});
