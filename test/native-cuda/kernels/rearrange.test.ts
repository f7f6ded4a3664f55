import assert from "node:assert/strict";
import { noise, run, runMixed, type Numbers } from "../device.ts";
import { family, refuses } from "../harness.ts";

// shape, axis, start, length
const cuts: [number[], number, number, number][] = [
  [[0], 0, 0, 0], [[3], 0, 1, 0], [[17], 0, 3, 14], [[3, 5], 0, 1, 2], [[3, 5], 1, 4, 1], [[2, 3, 5], 1, 0, 3], [[2, 3, 2, 2, 1, 3], 2, 1, 1], [[120, 70, 33], 1, 13, 50],
];
family("slice", (which) => {
  const [x, axis, start, length] = cuts[which];
  const y = x.map((n, d) => (d === axis ? length : n));
  return { inputs: { x: noise(x, 1) }, outputs: { y }, kernels: { slice_forward: ["x y", axis, start], slice_backward: ["dy dx", axis, start] }, tolerance: 0 };
}, cuts.map((_, i) => [i]));

const orders: [number[], number[]][] = [
  [[0, 3], [1, 0]], [[17], [0]], [[3, 5], [1, 0]], [[2, 3, 4], [0, 2, 1]], [[2, 3, 4, 5], [0, 2, 1, 3]], [[2, 1, 3, 1, 2, 4], [5, 3, 1, 0, 2, 4]], [[400, 250], [1, 0]], [[16, 65, 4, 24], [0, 2, 1, 3]],
];
family("permute", (which) => {
  const [x, order] = orders[which];
  return { inputs: { x: noise(x, 1) }, outputs: { y: order.map((d) => x[d]) }, kernels: { permute: ["x y", ...order] }, tolerance: 0 };
}, orders.map((_, i) => [i]));

const parts: [number[][], number][] = [[[[3]], 0], [[[0], [2]], 0], [[[2, 3], [2, 0], [2, 1]], 1], [[[1, 3, 4], [2, 3, 4]], 0], [[[40, 65, 96], [40, 30, 96]], 1]];
family("concat", (which) => {
  const [shapes, axis] = parts[which];
  const y = shapes[0].map((n, d) => (d === axis ? shapes.reduce((sum, s) => sum + s[axis], 0) : n));
  const inputs = Object.fromEntries(shapes.map((shape, i) => [`x${i + 1}`, noise(shape, i + 1)]));
  return { inputs, outputs: { y }, kernels: { concat: [[...Object.keys(inputs), "y"].join(" "), axis] }, tolerance: 0 };
}, parts.map((_, i) => [i]));

describe("moves", () => {
  const count = (shape: number[], Array: new (from: number[]) => Numbers = Int32Array) =>
    ({ shape, data: new Array([...globalThis.Array(shape.reduce((a, b) => a * b, 1)).keys()]) });

  it("slice takes columns 1 and 2 of three, and puts a gradient back there", async () => {
    assert.deepEqual([...(await runMixed("slice_forward", [count([2, 3]), { out: [2, 2], like: new Int32Array() }], [1, 1]))[0]], [1, 2, 4, 5]);
    assert.deepEqual([...(await run("slice_backward", [{ shape: [2, 2], data: Float32Array.of(1, 2, 3, 4) }, { out: [2, 3] }], [1, 1]))[0]], [0, 1, 2, 0, 3, 4]);
  });

  for (const Array of [Int32Array, Uint8Array]) {
    it(`take a ${Array.name} too`, async () => {
      const like = new Array(0);
      assert.deepEqual([...(await runMixed("permute", [count([2, 3], Array), { out: [3, 2], like }], [1, 0]))[0]], [0, 3, 1, 4, 2, 5]);
      assert.deepEqual([...(await runMixed("concat", [count([2, 1], Array), count([2, 2], Array), { out: [2, 3], like }], [1]))[0]], [0, 0, 1, 1, 2, 3]);
      assert.deepEqual([...(await runMixed("permute", [count([2, 3], Array), { out: [3, 2], like }], [1, 0], { kernels: "reference" }))[0]], [0, 3, 1, 4, 2, 5]);
    });
  }

  it("write_rows puts rows at a place that a tensor names, whatever the dtype, and leaves the rest", async () => {
    const at = { shape: [1], data: Int32Array.of(1) };
    for (const settings of [{}, { kernels: "reference" }] as const) {
      const [wide] = await run("write_rows", [{ shape: [2, 1, 2], data: Float32Array.of(1, 2, 3, 4) }, at, { shape: [2, 3, 2], data: new Float32Array(12).fill(9), update: true }], [], settings);
      assert.deepEqual([...wide], [9, 9, 1, 2, 9, 9, 9, 9, 3, 4, 9, 9]);
    }
    const [bytes] = await runMixed("write_rows", [{ shape: [2, 2], data: Uint8Array.of(1, 2, 3, 4) }, at, { shape: [2, 4], data: new Uint8Array(8), update: true }]);
    assert.deepEqual([...bytes], [0, 1, 2, 0, 0, 3, 4, 0]);
    const outside = run("write_rows", [noise([2, 3], 1), at, { ...noise([2, 3], 2), update: true }]);
    await refuses(outside, /write_rows: f64 \(2, 3\) does not fit in f64 \(2, 3\) along dimension 1 from 1/);
  });

  it("refuse what does not fit, naming shapes and dimension", async () => {
    await refuses(run("slice_forward", [noise([2, 3], 1), { out: [2, 2] }], [1, 2]), /slice_forward: f64 \(2, 2\) does not fit in f64 \(2, 3\) along dimension 1 from 2/);
    await refuses(run("slice_forward", [noise([2, 3], 1), { out: [2, 2] }], [2, 0]), /slice_forward: axis expected a whole number in \[0, 1\], got 2/);
    await refuses(run("permute", [noise([2, 3], 1), { out: [2, 3] }], [0, 0]), /permute: dimension 0 appears twice/);
    await refuses(run("permute", [noise([2, 3], 1), { out: [2, 3] }], [1, 0]), /permute: y expected x f64 \(2, 3\) with dimension 1 at 0, got f64 \(2, 3\)/);
    await refuses(run("concat", [noise([2, 3], 1), noise([3, 3], 1), { out: [2, 6] }], [1]), /concat: x2 expected the lengths of y f64 \(2, 6\) beside dimension 1, got f64 \(3, 3\)/);
    await refuses(run("concat", [noise([2, 3], 1), noise([2, 3], 1), { out: [2, 5] }], [1]), /concat: y expected a length of 6 along dimension 1, got f64 \(2, 5\)/);
  });
});
