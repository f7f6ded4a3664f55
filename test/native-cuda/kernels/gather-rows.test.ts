import assert from "node:assert/strict";
import { noise, run } from "../device.ts";
import { family, refuses } from "../harness.ts";

// row numbers that repeat often, so that the gradient adds
const index = (n: number, rows: number) => ({ shape: [n], data: Int32Array.from({ length: n }, (_, i) => (i * i * 7 + i) % rows) });

family("gather_rows", (rows, cols, n) => ({
  inputs: { x: noise([rows, cols], 1), index: index(n, rows) },
  outputs: { y: [n, cols] },
  kernels: { gather_rows_forward: ["x index y"], gather_rows_backward: ["dy index dx"] },
  wide: "x dx",
}), [[3, 5, 0], [3, 0, 2], [1, 1, 1], [3, 3, 17], [17, 3, 5], [3000, 96, 2000], [7, 40000, 9]]);

describe("gather_rows", () => {
  it("adds the gradients of a row that was read twice, and leaves unread rows at zero", async () => {
    const [dx] = await run("gather_rows_backward", [{ shape: [3, 1], data: Float32Array.of(1, 10, 100) }, { shape: [3], data: Int32Array.of(2, 0, 2) }, { out: [3, 1] }]);
    assert.deepEqual([...dx], [10, 0, 101]);
  });

  for (const bad of [3, -1]) {
    it(`refuses id ${bad} of 3 rows, naming index and rows`, async () => {
      const ids = { shape: [2], data: Int32Array.of(0, bad) };
      await refuses(run("gather_rows_forward", [noise([3, 2], 1), ids, { out: [2, 2] }]), new RegExp(`gather_rows_forward: index\\[1\\] expected an id in \\[0, 3\\), got ${bad}`));
      await refuses(run("gather_rows_backward", [noise([2, 2], 1), ids, { out: [3, 2] }]), new RegExp(`gather_rows_backward: index\\[1\\] expected an id in \\[0, 3\\), got ${bad}`));
    });
  }

  it("refuses an index of another dtype", () =>
    refuses(run("gather_rows_forward", [noise([3, 2], 1), noise([2], 1), { out: [2, 2] }]), /index expected i32, got f64 \(2\)/));
});
