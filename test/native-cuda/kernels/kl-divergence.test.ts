import assert from "node:assert/strict";
import { noise, run } from "../device.ts";
import { close, family } from "../harness.ts";

family("kl_divergence", (rows, classes) => ({
  inputs: { logits: noise([rows, classes], 1, 4), teacher: noise([rows, classes], 2, 4) }, outputs: { loss: [1] },
  kernels: { kl_divergence_forward: ["logits teacher loss", 0.37], kl_divergence_backward: ["dloss logits teacher dlogits", 0.37] },
  tolerance: 4e-6,
}), [[0, 3], [1, 2], [3, 17], [17, 5], [75, 2048], [3, 24577]]);

describe("kl_divergence", () => {
  const divergence = async (logits: number[], teacher: number[]) => (await run("kl_divergence_forward",
    [{ shape: [1, logits.length], data: Float32Array.from(logits) }, { shape: [1, teacher.length], data: Float32Array.from(teacher) }, { out: [1] }], [1]))[0][0];

  it("is 0 between a distribution and itself shifted, and p log(p / q) else", async () => {
    close([await divergence([1, 2], [11, 12])], [0], 1e-7);
    close([await divergence([0, 0], [Math.log(3), 0])], [0.75 * Math.log(1.5) + 0.25 * Math.log(0.5)], 1e-6); // p = (3/4, 1/4), q = (1/2, 1/2)
  });

  it("passes over classes that the teacher excludes", async () => {
    close([await divergence([0, 0], [0, -Infinity])], [Math.LN2], 1e-7);
    assert.equal(await divergence([0, -1e4], [0, -Infinity]), 0);
  });
});
