import { noise, run } from "../device.ts";
import { close, family } from "../harness.ts";

family("cosine_loss", (rows, cols) => ({
  inputs: { pred: noise([rows, cols], 1, 2), target: noise([rows, cols], 2) },
  outputs: { loss: [1] },
  // the target is a constant to this loss: dpred alone is asked for
  kernels: { cosine_loss_forward: ["pred target loss", 0.37], cosine_loss_backward: ["dloss pred target dpred", 0.37] },
}), [[0, 3], [1, 2], [2, 3], [3, 17], [1500, 64], [3, 20001]]);

describe("cosine_loss", () => {
  const loss = async (pred: number[], target: number[]) => (await run("cosine_loss_forward", [{ shape: [1, 2], data: Float32Array.from(pred) }, { shape: [1, 2], data: Float32Array.from(target) }, { out: [1] }], [1]))[0][0];

  it("is 0 for one direction, 1 for a right angle, 2 for opposites, 1 beside a row of zeros", async () => {
    close([await loss([1, 2], [2, 4]), await loss([1, 0], [0, 3]), await loss([1, 1], [-5, -5]), await loss([0, 0], [1, 0])], [0, 1, 2, 1], 1e-7);
  });
});
