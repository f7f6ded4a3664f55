import assert from "node:assert/strict";
import { noise, run, runMixed, single, firstDifference } from "../device.ts";
import { close, dot, family, refuses } from "../harness.ts";

family("sum_all", (...shape) => ({ inputs: { x: noise(shape, 1) }, outputs: { y: [1] }, kernels: { sum_all: ["x y"], sum_all_backward: ["dy dx"] } }),
  [[0], [1], [3], [17], [2, 3, 5], [5, 60011]]);

describe("sum_squares", () => {
  for (const n of [0, 1, 3, 17, 300003]) {
    it(`(${n}) writes one f64 entry, and only that one, the same on any number of threads`, async () => {
      const x = noise([n], 1), y = { shape: [3], data: Float64Array.of(7, 8, 9), update: true };
      const exact = dot(single(x).data, single(x).data);
      for (const threads of [1, 2, 4]) {
        const [sums] = await runMixed("sum_squares", [single(x), y], [1], { threads });
        assert.deepEqual([sums[0], sums[2]], [7, 9]);
        close([sums[1]], [exact], 1e-12);
        const [first] = await runMixed("sum_squares", [single(x), y], [1], { threads: 1 });
        assert.equal(firstDifference(sums, first), -1, `${threads} threads`);
      }
      const [wide] = await run("sum_squares", [x, y], [1]);
      close([wide[1]], [dot(x.data, x.data)], 1e-12);
    });
  }

  it("refuses an index beyond its result", () => refuses(run("sum_squares", [noise([2], 1), { out: [2] }], [2]), /sum_squares: first expected a whole number in \[0, 1\], got 2/));
});

describe("sum_all", () => {
  it("does not lose small numbers beside a large one", async () => {
    const data = new Float32Array(1001).fill(0.25);
    data[0] = 2 ** 26; // f32 steps of 8 there
    const [y] = await run("sum_all", [{ shape: [1001], data }, { out: [1] }]);
    assert.equal(y[0], Math.fround(2 ** 26 + 250));
  });
});
