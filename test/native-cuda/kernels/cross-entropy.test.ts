import assert from "node:assert/strict";
import { noise, run, single } from "../device.ts";
import { close, family, refuses } from "../harness.ts";

const labels = (n: number, classes: number) => ({ shape: [n], data: Int32Array.from({ length: n }, (_, i) => (i % 4 === 2 ? -100 : (i * 31) % classes)) });

const plain = [0, 0, 0, 0]; // smoothing, sigma, first, bins

for (const [title, smoothing] of [["cross_entropy", 0], ["cross_entropy, smoothed", 0.1], ["cross_entropy, nothing but smoothing", 1]] as const) {
  family(title, (rows, classes) => ({
    inputs: { logits: noise([rows, classes], 1, 6), labels: labels(rows, classes) },
    outputs: { loss: [1], lse: [rows] },
    kernels: {
      cross_entropy_forward: ["logits labels loss lse", 0.37, smoothing, 0, 0, 0], cross_entropy_backward: ["dloss logits labels lse dlogits", 0.37, smoothing, 0, 0, 0],
    },
    wide: "loss dloss lse",
    tolerance: 3e-6,
  }), [[0, 3], [1, 1], [1, 3], [3, 17], [17, 5], [75, 2048], [3, 24576]]);
}

for (const sigma of [0.5, 1, 4]) {
  family(`cross_entropy over bins, sigma ${sigma}`, (rows, first, bins, after) => {
    const classes = first + bins + after, of = labels(rows, bins);
    of.data = of.data.map((label) => (label === -100 ? label : label + first));
    return {
      inputs: { logits: noise([rows, classes], 1, 6), labels: of }, outputs: { loss: [1], lse: [rows] },
      kernels: {
        cross_entropy_forward: ["logits labels loss lse", 0.37, 0, sigma, first, bins],
        cross_entropy_backward: ["dloss logits labels lse dlogits", 0.37, 0, sigma, first, bins],
      },
      wide: "loss dloss lse",
      tolerance: 3e-6,
    };
  }, [[0, 0, 3, 0], [1, 2, 1, 3], [3, 2, 9, 4], [5, 0, 17, 0], [75, 1000, 1024, 24]]);
}

describe("cross_entropy", () => {
  const run1 = (logits: Float32Array | Float64Array, label: number, spread = plain) =>
    run("cross_entropy_forward", [{ shape: [1, logits.length], data: logits }, { shape: [1], data: Int32Array.of(label) }, { out: [1] }, { out: [1] }], [1, ...spread]);

  it("of (2, 0.5, -1) at label 0 is 0.2413112967", async () => {
    close((await run1(Float64Array.of(2, 0.5, -1), 0))[0], [0.2413112967], 1e-9); // log(e^2 + e^.5 + e^-1) - 2
    close((await run1(Float32Array.of(2, 0.5, -1), 0))[0], [0.2413112967], 2e-7);
  });

  it("stands huge logits: certain and right costs 0, certain and wrong the difference", async () => {
    assert.equal((await run1(Float32Array.of(1e4, -1e4), 0))[0][0], 0);
    assert.equal((await run1(Float32Array.of(1e4, -1e4), 1))[0][0], 2e4);
  });

  it("leaves rows with label -100 out: no loss, lse 0, zero gradient", async () => {
    const logits = single(noise([2, 3], 1)), ignored = { shape: [2], data: Int32Array.of(-100, -100) };
    const [loss, lse] = await run("cross_entropy_forward", [logits, ignored, { out: [1] }, { out: [2] }], [1, ...plain]);
    assert.deepEqual([loss[0], ...lse], [0, 0, 0]);
    const [dlogits] = await run("cross_entropy_backward", [{ shape: [1], data: Float32Array.of(1) }, logits, ignored, { shape: [2], data: lse }, { out: [2, 3] }], [1, ...plain]);
    assert.deepEqual([...dlogits], [0, 0, 0, 0, 0, 0]);
  });

  it("of (2, 0.5, -1) at label 0 with smoothing 0.1 is 0.3913112967", async () => { // + 0.1 (2 - mean)
    close((await run1(Float64Array.of(2, 0.5, -1), 0, [0.1, 0, 0, 0]))[0], [0.3913112967], 1e-9);
    close((await run1(Float32Array.of(2, 0.5, -1), 0, [0.1, 0, 0, 0]))[0], [0.3913112967], 2e-7);
  });

  it("over bins asks for a bell that ends where the bins end", async () => {
    // classes 1 and 2 are bins, label 1, sigma 1: q = (1, e^-1/2) / (1 + e^-1/2)
    const q = 1 / (1 + Math.exp(-0.5)), lse = Math.log(Math.exp(2) + Math.exp(0.5) + Math.exp(-1) + Math.exp(3));
    close((await run1(Float64Array.of(2, 0.5, -1, 3), 1, [0, 1, 1, 2]))[0], [lse - q * 0.5 + (1 - q)], 1e-12);
  });

  it("over bins refuses a label that is no bin, and a smoothing or sigma out of range", async () => {
    await refuses(run1(Float64Array.of(1, 2, 3), 0, [0, 1, 1, 2]), /cross_entropy_forward: labels\[0\] expected a bin in \[1, 3\) or -100, got 0/);
    await refuses(run1(Float64Array.of(1, 2, 3), 0, [0, 1, 1, 3]), /bins expected a whole number in \[0, 2\], got 3/);
    await refuses(run1(Float64Array.of(1, 2, 3), 0, [1.5, 0, 0, 0]), /smoothing expected within \[0, 1\], got 1.5/);
    await refuses(run1(Float64Array.of(1, 2, 3), 0, [0, -1, 0, 3]), /sigma expected 0 or a positive number, got -1/);
  });

  it("refuses a label that is no class, naming row and count", async () => {
    await refuses(run1(Float64Array.of(1, 2, 3), 3), /cross_entropy_forward: labels\[0\] expected an id in \[0, 3\) or -100, got 3/);
    await refuses(run1(Float64Array.of(1, 2, 3), -1), /labels\[0\] expected an id in \[0, 3\) or -100, got -1/);
  });
});
