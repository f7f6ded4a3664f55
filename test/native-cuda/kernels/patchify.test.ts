import assert from "node:assert/strict";
import { noise, run } from "../device.ts";
import { family, refuses } from "../harness.ts";

family("patchify", (batch, channels, height, width, patch) => ({
  inputs: { x: noise([batch, channels, height, width], 1) },
  outputs: { y: [batch, (height / patch) * (width / patch), channels * patch * patch] },
  kernels: { patchify_forward: ["x y", patch], patchify_backward: ["dy dx", patch] },
  tolerance: 0,
}), [[0, 3, 4, 4, 2], [1, 1, 1, 1, 1], [2, 3, 2, 6, 2], [1, 3, 9, 3, 3], [4, 3, 128, 128, 16]]);

describe("patchify", () => {
  it("walks patches by row over the page, and each patch by channel, row, column", async () => {
    const x = { shape: [1, 2, 2, 4], data: Float32Array.from({ length: 16 }, (_, i) => i) };
    const [y] = await run("patchify_forward", [x, { out: [1, 2, 8] }], [2]);
    assert.deepEqual([...y], [0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15]);
  });

  it("refuses a page that patches do not tile", () =>
    refuses(run("patchify_forward", [noise([1, 1, 4, 6], 1), { out: [1, 1, 16] }], [4]), /patchify_forward: image f64 \(1, 1, 4, 6\) expected sides that are multiples of the patch 4/));
});
