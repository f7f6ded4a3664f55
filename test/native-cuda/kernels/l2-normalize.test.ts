import assert from "node:assert/strict";
import { noise, run } from "../device.ts";
import { close, family } from "../harness.ts";

family("l2_normalize", (rows, cols) => ({
  inputs: { x: noise([rows, cols], 1, 3) },
  outputs: { y: [rows, cols], norm: [rows] },
  kernels: { l2_normalize_forward: ["x y norm"], l2_normalize_backward: ["dy y norm dx"] },
  wide: "norm",
}), [[0, 3], [3, 0], [1, 3], [2, 17], [3, 5], [3000, 96], [9, 20001]]);

describe("l2_normalize", () => {
  it("turns (3, 4) into (0.6, 0.8) and a row of zeros into zeros", async () => {
    const [y, norm] = await run("l2_normalize_forward", [{ shape: [2, 2], data: Float32Array.of(3, 4, 0, 0) }, { out: [2, 2] }, { out: [2] }]);
    close(y, [0.6, 0.8, 0, 0], 1e-7);
    assert.deepEqual([...norm], [5, Math.fround(1e-12)]);
  });
});
