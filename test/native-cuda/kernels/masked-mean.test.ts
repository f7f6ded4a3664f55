import assert from "node:assert/strict";
import { noise, run } from "../device.ts";
import { family } from "../harness.ts";

const holes = (batch: number, tokens: number) => ({ shape: [batch, tokens], data: Uint8Array.from({ length: batch * tokens }, (_, i) => ((i * 5) % 7 < 4 && Math.floor(i / tokens) !== 1 ? 1 : 0)) });

family("masked_mean", (batch, tokens, cols) => ({
  inputs: { x: noise([batch, tokens, cols], 1), mask: holes(batch, tokens) },
  outputs: { y: [batch, cols] },
  kernels: { masked_mean_forward: ["x mask y"], masked_mean_backward: ["dy mask dx"] },
}), [[0, 3, 2], [3, 0, 2], [3, 2, 0], [1, 1, 1], [2, 3, 5], [3, 17, 2], [16, 300, 64]]);

describe("masked_mean", () => {
  it("averages what the mask keeps, and gives zeros to a sample that keeps nothing", async () => {
    const [y] = await run("masked_mean_forward", [{ shape: [2, 3, 1], data: Float32Array.of(1, 100, 3, 5, 6, 7) }, { shape: [2, 3], data: Uint8Array.of(1, 0, 1, 0, 0, 0) }, { out: [2, 1] }]);
    assert.deepEqual([...y], [2, 0]);
  });
});
