import assert from "node:assert/strict";
import { clipScale, globalNorm } from "../../../runtime/optimizer/index.ts";
import { noise, run, runMixed } from "../device.ts";
import { refuses } from "../harness.ts";

const f64 = (...values: number[]) => ({ shape: [values.length], data: Float64Array.from(values) });

describe("update_numbers", () => {
  const numbers = (squares: number[], maxNorm: number) => run("update_numbers", [f64(...squares), f64(1e-3, 7), { out: [3] }, { out: [1] }], [maxNorm]);

  for (const [title, squares] of [["none", []], ["one", [0.25]], ["a thousand", [...noise([1000], 3, 1e-3).data].map((x, i) => x * x * 10 ** (i % 9))], ["overflown", [Infinity]], ["broken", [1, NaN]]] as const) {
    it(`has the bits of the host for ${title}`, async () => {
      for (const maxNorm of [0, 0.1, 1e6]) {
        const [[learningRate, step, gradScale], [norm]] = await numbers([...squares], maxNorm);
        const expected = globalNorm([...squares].map((square, i) => [String(i).padStart(4, "0"), square]));
        assert.deepEqual([learningRate, step, norm, gradScale], [1e-3, 7, expected, maxNorm === 0 ? 1 : clipScale(expected, maxNorm)]);
      }
    });
  }

  it("refuses a norm below 0", () => refuses(numbers([1], -1), /update_numbers: maxNorm expected 0 or more, got -1/));
});

describe("collect", () => {
  it("gives the elements of tensors of every dtype, in order, as f64", async () => {
    const operands = [f64(1 / 3), { shape: [2, 1], data: Float32Array.of(0.1, -2) }, { shape: [0], data: new Float32Array() }, { shape: [1], data: Int32Array.of(-7) },
      { shape: [1], data: BigInt64Array.of(2n ** 40n) }, { shape: [2], data: Uint8Array.of(0, 255) }, { shape: [1], data: Uint16Array.of(0x3fc0) }];
    const [y] = await runMixed("collect", [...operands, { out: [8], like: new Float64Array() }]);
    assert.deepEqual([...y as Float64Array], [1 / 3, Math.fround(0.1), -2, -7, 2 ** 40, 0, 255, 1.5]);
  });

  it("refuses a result of another size", () => refuses(run("collect", [f64(1, 2), { out: [3] }]), /collect: y expected 2 elements \(all elements\), got f64 \(3\)/));
});
