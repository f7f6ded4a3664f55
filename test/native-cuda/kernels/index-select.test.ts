import { noise, run } from "../device.ts";
import { close, family, refuses } from "../harness.ts";

// axis, N, shape of x
const sizes = [[0, 0, 3, 2], [0, 4, 3, 2], [1, 4, 2, 3], [1, 5, 2, 3, 4], [2, 7, 1, 2, 3], [1, 3, 0, 2], [0, 900, 400, 97], [1, 200, 64, 300, 9]];
const picks = (n: number, length: number) => ({ shape: [n], data: Int32Array.from({ length: n }, (_, i) => (i * 31 + 1) % length) });

family("index_select", (axis, n, ...shape) => ({
  inputs: { x: noise(shape, 1), index: picks(n, shape[axis]) },
  outputs: { y: shape.map((size, d) => (d === axis ? n : size)) },
  kernels: { index_select_forward: ["x index y", axis], index_select_backward: ["dy index dx", axis] },
  wide: "dx",
}), sizes);

describe("index_select", () => {
  const x = { shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) };
  const columns = (...index: number[]) => run("index_select_forward", [x, { shape: [index.length], data: Int32Array.from(index) }, { out: [2, index.length] }], [1]);

  it("takes columns in any order, and twice", async () => close((await columns(2, 0, 2))[0], [3, 1, 3, 6, 4, 6], 0));

  it("refuses an index beyond the dimension and a result of another length", async () => {
    await refuses(columns(0, 3), /index_select_forward: index\[1\] expected an id in \[0, 3\), got 3/);
    await refuses(run("index_select_forward", [x, picks(2, 3), { out: [2, 3] }], [1]), /y expected x f32 \(2, 3\) with 2 slices in dimension 1, got f32 \(2, 3\)/);
  });
});
