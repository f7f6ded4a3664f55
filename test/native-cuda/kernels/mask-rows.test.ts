import assert from "node:assert/strict";
import { noise, run } from "../device.ts";
import { family, refuses } from "../harness.ts";

const every = (n: number, k: number) => ({ shape: [n], data: Uint8Array.from({ length: n }, (_, i) => (i % k === 1 ? 1 : 0)) });

family("mask_rows", (rows, cols) => ({
  inputs: { x: noise([rows, cols], 1), mask: every(rows, 3), token: noise([1, cols], 2) },
  outputs: { y: [rows, cols] },
  kernels: { mask_rows_forward: ["x mask token y"], mask_rows_backward: ["dy mask dx dtoken"] },
  wide: "token dtoken",
}), [[0, 3], [3, 0], [1, 1], [2, 3], [17, 3], [9000, 33]]);

describe("mask_rows", () => {
  it("puts the token where the mask is set, and leaves the other rows alone", async () => {
    const [y] = await run("mask_rows_forward", [{ shape: [3, 2], data: Float32Array.of(1, 2, 3, 4, 5, 6) },
      { shape: [3], data: Uint8Array.of(0, 1, 0) }, { shape: [2], data: Float32Array.of(-1, -2) }, { out: [3, 2] }]);
    assert.deepEqual([...y], [1, 2, -1, -2, 5, 6]);
  });

  it("refuses a mask of another length, naming it", () =>
    refuses(run("mask_rows_forward", [noise([3, 2], 1), every(4, 2), noise([2], 2), { out: [3, 2] }]), /mask_rows_forward: mask expected 3 elements \(R\), got u8 \(4\)/));
});
