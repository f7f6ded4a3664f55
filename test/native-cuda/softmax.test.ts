import assert from "node:assert/strict";
import { native } from "../../runtime/native.ts";
import { firstDifference, noise, rounded, run, single, worst } from "./device.ts";

const shapes = [[1, 1], [3, 5], [7, 16], [33, 197], [2, 3, 1000], [5000, 7]];

describe("softmax", () => {
  for (const shape of shapes) {
    it(`(${shape.join(", ")}) agrees with f64 and has the same bits on any number of threads`, async () => {
      const x = noise(shape, 1, 8), dy = noise(shape, 2);
      const [y64] = await run("softmax_forward", [rounded(x), { out: shape }]), [y] = await run("softmax_forward", [single(x), { out: shape }]);
      const [dx64] = await run("softmax_backward", [rounded(dy), { shape, data: y64 }, { out: shape }]);
      const [dx] = await run("softmax_backward", [single(dy), { shape, data: y }, { out: shape }]);
      for (const [name, fast, truth] of [["y", y, y64], ["dx", dx, dx64]] as const) {
        const { error, text } = worst(fast, truth);
        assert.ok(error < 2e-6 || Math.max(...truth.map(Math.abs)) < 1e-7, `${name}: ${text}`);
      }
      for (const threads of [1, 3, 4, 8]) {
        const [again] = await run("softmax_forward", [single(x), { out: shape }], [], { threads });
        assert.equal(firstDifference(again, y), -1, `${threads} threads`);
      }
    });
  }

  it("is not shaken by large scores: (1e4, 1e4 - ln 3) gives (3/4, 1/4)", async () => {
    const [y] = await run("softmax_forward", [{ shape: [1, 2], data: Float64Array.of(1e4, 1e4 - Math.log(3)) }, { out: [1, 2] }]);
    assert.ok(Math.abs(y[0] - 0.75) < 1e-11 && Math.abs(y[1] - 0.25) < 1e-11, `${y}`);
    const [z] = await run("softmax_forward", [{ shape: [1, 2], data: Float32Array.of(1e4, -1e4) }, { out: [1, 2] }]);
    assert.deepEqual([...z], [1, 0]);
  });

  it("agrees with its CUDA twin", async function () {
    const { cuda } = native().info();
    if (cuda.devices === 0) {
      console.log(`      no CUDA device: ${cuda.note}`);
      return this.skip();
    }
    for (const shape of shapes) {
      const x = single(noise(shape, 1, 8)), dy = single(noise(shape, 2));
      const [y] = await run("softmax_forward", [x, { out: shape }]), [onGpu] = await run("softmax_forward_cuda", [x, { out: shape }]);
      const [dx] = await run("softmax_backward", [dy, { shape, data: y }, { out: shape }]);
      const [dxOnGpu] = await run("softmax_backward_cuda", [dy, { shape, data: y }, { out: shape }]);
      for (const [name, a, b] of [["y", onGpu, y], ["dx", dxOnGpu, dx]] as const) {
        const { error, text } = worst(a, b);
        assert.ok(error < 2e-6, `(${shape}) ${name}: ${text}`);
      }
    }
  });
});
