import { noise, run } from "../device.ts";
import { close, family, refuses } from "../harness.ts";

family("bce", (n) => ({
  inputs: { logits: noise([n], 1, 8), labels: { shape: [n], data: Int32Array.from({ length: n }, (_, i) => [1, 0, -100, 0, 1][i % 5]) } },
  outputs: { loss: [1] },
  kernels: { bce_forward: ["logits labels loss", 0.37], bce_backward: ["dloss logits labels dlogits", 0.37] },
}), [[0], [1], [3], [17], [80001]]);

describe("bce", () => {
  const loss = async (z: number, label: number) => (await run("bce_forward", [{ shape: [1], data: Float32Array.of(z) }, { shape: [1], data: Int32Array.of(label) }, { out: [1] }], [1]))[0][0];

  it("costs ln 2 where nothing is known, and the distance where the answer is certain and wrong", async () => {
    close([await loss(0, 0), await loss(0, 1), await loss(-500, 1), await loss(500, 1)], [Math.LN2, Math.LN2, 500, 0], 1e-7);
  });

  it("refuses a label that is neither 0, 1 nor -100", () => refuses(loss(0, 2), /bce_forward: labels\[0\] expected an id in \[0, 2\) or -100, got 2/));
});
