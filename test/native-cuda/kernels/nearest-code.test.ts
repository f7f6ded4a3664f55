import assert from "node:assert/strict";
import { noise, rounded, runMixed, single, type Operand, type Settings } from "../device.ts";
import { refuses } from "../harness.ts";

const codesOf = async (z: Operand, codebook: Operand, settings?: Settings): Promise<number[]> => {
  const out = { out: z.shape.slice(0, -1), like: new Int32Array() };
  return [...(await runMixed("nearest_code", [z, codebook, out], [], settings))[0]];
};
const matrix = (rows: number[][]): Operand => ({ shape: [rows.length, rows[0].length], data: Float32Array.from(rows.flat()) });

describe("nearest_code", () => {
  for (const [rows, count, width] of [[0, 3, 2], [0, 0, 2], [1, 1, 1], [5, 7, 0], [7, 15, 3], [33, 16, 5], [40, 17, 16], [2000, 256, 16], [300, 1000, 33]]) {
    it(`(${rows}, ${count}, ${width}) picks a code as near as any in f64; the f32 twins agree on 1, 2 and 4 threads`, async () => {
      const z = noise([rows, width], 1), codebook = noise([count, width], 2);
      const [zs, codes] = [single(z).data, single(codebook).data];
      const distance = (r: number, k: number) => {
        let total = 0;
        for (let d = 0; d < width; d++) total += (zs[r * width + d] - codes[k * width + d]) ** 2;
        return total;
      };
      const exact = await codesOf(rounded(z), rounded(codebook)), fast = await codesOf(single(z), single(codebook), { threads: 1 });
      for (let r = 0; r < rows; r++) {
        const distances = Array.from({ length: count }, (_, k) => distance(r, k)), least = Math.min(...distances);
        assert.equal(exact[r], distances.indexOf(least), `f64, row ${r}`);
        // f32 may only choose differently where the distances differ by rounding
        assert.ok(distances[fast[r]] <= least * (1 + 1e-5), `f32, row ${r}: code ${fast[r]} at ${distances[fast[r]]}, nearest at ${least}`);
      }
      assert.deepEqual(await codesOf(single(z), single(codebook), { kernels: "reference" }), fast, "f32 reference");
      for (const threads of [2, 4]) assert.deepEqual(await codesOf(single(z), single(codebook), { threads }), fast, `${threads} threads`);
    });
  }

  for (const kernels of ["fast", "reference"] as const) {
    it(`gives ties to the lower code, wherever the twins of a code stand (${kernels})`, async () => {
      const distinct = noise([5, 3], 3).data, [far, near] = [[9, 9, 9], [...distinct.slice(0, 3)]];
      for (const places of [[0, 1], [3, 19], [15, 16], [17, 31], [18, 34], [20, 33, 35]]) {
        const rows = Array.from({ length: 36 }, (_, k) => (places.includes(k) ? near : far));
        assert.deepEqual(await codesOf(matrix([near, [9, 9, 9]]), matrix(rows), { kernels }), [places[0], places[0] === 0 ? 2 : 0], `places ${places}`);
      }
    });

    it(`gives code 0 to a row that no code is near: NaN, or too far for f32 (${kernels})`, async () => {
      const rows = matrix([[NaN, 0], [1e30, 0], [Infinity, 0], [0.9, 0]]);
      assert.deepEqual(await codesOf(rows, matrix([[0, 1], [1, 0]]), { kernels }), [0, 0, 0, 1]);
    });
  }

  it("refuses a codebook of another width or dtype, an empty one, and codes that are not i32, naming them", async () => {
    const codes = { out: [2], like: new Int32Array() };
    await refuses(runMixed("nearest_code", [noise([2, 3], 1), noise([4, 2], 2), codes]), /nearest_code: codebook expected shape \(4, 3\), got f64 \(4, 2\)/);
    await refuses(runMixed("nearest_code", [noise([2, 3], 1), single(noise([4, 3], 2)), codes]), /nearest_code: codebook expected f64 as z, got f32 \(4, 3\)/);
    await refuses(runMixed("nearest_code", [noise([2, 3], 1), noise([0, 3], 2), codes]), /nearest_code: codebook expected at least one code, got f64 \(0, 3\)/);
    await refuses(runMixed("nearest_code", [noise([2, 3], 1), noise([4, 3], 2), { out: [2] }]), /nearest_code: codes expected i32, got f64 \(2\)/);
    await refuses(runMixed("nearest_code", [noise([2, 3], 1), noise([4, 3], 2), { ...codes, out: [3] }]), /nearest_code: codes expected 2 elements \(R\), got i32 \(3\)/);
  });
});
