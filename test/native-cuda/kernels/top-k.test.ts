import assert from "node:assert/strict";
import { firstDifference, noise, run, runMixed, single, type Operand } from "../device.ts";
import { refuses } from "../harness.ts";

const ids = new Int32Array(0);
const forward = (x: Operand, rows: number, k: number, settings = {}) =>
  runMixed("top_k_forward", [x, { out: [rows, k] }, { out: [rows, k], like: ids }], [k], settings);

/** Rows sorted by hand; numbers in halves, so that many are equal. */
const coarse = (rows: number, cols: number): Operand => ({ shape: [rows, cols], data: noise([rows, cols], 3, 9).data.map((v) => Math.round(v) / 2) });

describe("top_k", () => {
  for (const [rows, cols, k] of [[0, 3, 2], [1, 1, 1], [3, 17, 1], [3, 17, 5], [3, 17, 17], [2, 40003, 1], [2, 40003, 9], [4000, 33, 3]]) {
    it(`(${rows}, ${cols}), k = ${k}, chooses the largest, equals in order, in f64 and f32 on 1, 2 and 4 threads`, async () => {
      const x = coarse(rows, cols);
      const chosen = Array.from({ length: rows }, (_, r) => [...Array(cols).keys()].sort((i, j) => x.data[r * cols + j] - x.data[r * cols + i] || i - j).slice(0, k)).flat();
      const values = chosen.map((c, i) => x.data[Math.floor(i / k) * cols + c]);
      for (const [operand, settings] of [[x, {}], [single(x), { threads: 1 }], [single(x), { threads: 2 }], [single(x), { threads: 4 }], [single(x), { kernels: "reference" }]] as const) {
        const [y, at] = await forward(operand, rows, k, settings);
        assert.equal(firstDifference(at, Int32Array.from(chosen)), -1, JSON.stringify(settings));
        assert.deepEqual([...y], values);
      }
    });

    it(`(${rows}, ${cols}), k = ${k}, hands the gradient back to the chosen columns`, async () => {
      const [, at] = await forward(single(coarse(rows, cols)), rows, k), dy = noise([rows, k], 5);
      const expected = new Float64Array(rows * cols);
      at.forEach((c, i) => { expected[Math.floor(i / k) * cols + c] = Math.fround(dy.data[i]); });
      for (const settings of [{ threads: 1 }, { threads: 4 }, { kernels: "reference" }] as const) {
        const [dx] = await run("top_k_backward", [single(dy), { shape: [rows, k], data: at }, { out: [rows, cols] }], [k], settings);
        assert.equal(firstDifference(Float64Array.from(dx), expected), -1);
      }
    });
  }

  it("puts NaN first and knows rows of infinities", async () => {
    const rows = { shape: [4, 3], data: Float32Array.of(1, NaN, 2, -Infinity, -Infinity, -Infinity, NaN, NaN, NaN, 1, Infinity, 0) };
    for (const kernels of ["fast", "reference"] as const) {
      assert.deepEqual([...(await forward(rows, 4, 1, { kernels }))[1]], [1, 0, 0, 1]);
      assert.deepEqual([...(await forward(rows, 4, 2, { kernels }))[1]], [1, 2, 0, 1, 0, 1, 1, 0]);
    }
  });

  it("refuses k = 0, k beyond the columns, and rows without columns", async () => {
    await refuses(forward(noise([2, 3], 1), 2, 0), /top_k_forward: k expected a whole number in \[1, 3\], got 0/);
    await refuses(forward(noise([2, 3], 1), 2, 4), /k expected a whole number in \[1, 3\], got 4/);
    await refuses(forward(noise([2, 0], 1), 2, 1), /top_k_forward: x expected at least one column, got f64 \(2, 0\)/);
  });
});
