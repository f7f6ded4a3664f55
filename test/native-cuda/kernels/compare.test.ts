import assert from "node:assert/strict";
import { firstDifference, noise, runMixed, single, type Numbers, type Operand } from "../device.ts";
import { refuses } from "../harness.ts";

const u8 = new Uint8Array(0);
/** Rounded to tenths, so that many pairs are equal. */
const coarse = (shape: readonly number[], seed: number, as: "f64" | "f32" | "i32"): Operand => {
  const data = noise(shape, seed, 3).data.map((v) => Math.round(v * 10) / 10);
  return { shape, data: as === "f64" ? data : as === "f32" ? Float32Array.from(data) : Int32Array.from(data) };
};

const comparisons: Record<string, (a: number, b: number) => boolean> = {
  eq: (a, b) => a === b, ne: (a, b) => a !== b, lt: (a, b) => a < b, le: (a, b) => a <= b, gt: (a, b) => a > b, ge: (a, b) => a >= b,
};
const pairs: [number[], number[], number[]][] = [
  [[0], [0], [0]], [[1], [1], [1]], [[17], [17], [17]], [[3, 5], [5], [3, 5]], [[3, 1], [1, 5], [3, 5]], [[2, 1, 3, 1, 2, 1], [1, 2, 1, 3, 1, 2], [2, 2, 3, 3, 2, 2]],
  [[], [2, 3], [2, 3]], [[3, 97, 1], [97, 1001], [3, 97, 1001]], [[300001], [1], [300001]],
];

/** Offset of element `index` of `full` in a tensor of shape `part`, by counting: the meaning of a broadcast. */
function offset(part: readonly number[], full: readonly number[], index: number): number {
  let rest = index, at = 0, stride = 1;
  for (let d = full.length - 1, e = part.length - 1; d >= 0; d--, e--) {
    if (e >= 0) at += part[e] === 1 ? 0 : (rest % full[d]) * stride, stride *= part[e];
    rest = Math.floor(rest / full[d]);
  }
  return at;
}

/** The same on every thread count and from the plain twin. */
async function everywhere(kernel: string, operands: readonly Operand[], out: readonly number[], like: Numbers): Promise<Numbers> {
  const [first] = await runMixed(kernel, [...operands, { out, like }], [], { threads: 1 });
  for (const settings of [{ threads: 2 }, { threads: 4 }, { kernels: "reference" }] as const) {
    const [again] = await runMixed(kernel, [...operands, { out, like }], [], settings);
    assert.equal(firstDifference(again, first), -1, `${kernel} with ${JSON.stringify(settings)}`);
  }
  return first;
}

describe("comparisons", () => {
  for (const [name, holds] of Object.entries(comparisons)) {
    for (const [a, b, y] of pairs) {
      it(`${name} of (${a}) and (${b}) is what the operator says, in f64, f32 and i32, on 1, 2 and 4 threads`, async () => {
        for (const as of ["f64", "f32", "i32"] as const) {
          const p = coarse(a, 1, as), q = coarse(b, 2, as);
          const expected = Uint8Array.from({ length: y.reduce((m, n) => m * n, 1) }, (_, i) => Number(holds(p.data[offset(a, y, i)], q.data[offset(b, y, i)])));
          assert.equal(firstDifference(await everywhere(name, [p, q], y, u8), expected), -1, as);
        }
      });
    }
  }

  it("are all false beside NaN, except for ne", async () => {
    const x = { shape: [2], data: Float32Array.of(NaN, 1) }, y = { shape: [2], data: Float32Array.of(NaN, NaN) };
    for (const name of Object.keys(comparisons)) {
      assert.deepEqual([...await everywhere(name, [x, y], [2], u8)], name === "ne" ? [1, 1] : [0, 0], name);
    }
  });

  it("refuse mixed dtypes and ids of another kind", async () => {
    await refuses(runMixed("eq", [noise([2], 1), single(noise([2], 1)), { out: [2], like: u8 }]), /eq: b expected f64 as a, got f32 \(2\)/);
    await refuses(runMixed("eq", [{ shape: [1], data: Uint8Array.of(1) }, { shape: [1], data: Uint8Array.of(1) }, { out: [1], like: u8 }]), /eq: a expected f32 or f64, got u8/);
    await refuses(runMixed("lt", [noise([2, 3], 1), noise([2], 1), { out: [2, 3], like: u8 }]), /lt: y expected the broadcast shape of a f64 \(2, 3\) and b f64 \(2\), got u8 \(2, 3\)/);
  });
});

describe("where", () => {
  const shapes: [number[], number[], number[], number[]][] = [
    [[0], [0], [0], [0]], [[1], [1], [1], [1]], [[17], [17], [17], [17]], [[3, 1], [5], [1], [3, 5]], [[2, 3, 1], [3, 4], [2, 1, 4], [2, 3, 4]], [[7, 40001], [7, 40001], [1], [7, 40001]],
  ];
  for (const [mask, a, b, y] of shapes) {
    it(`of (${mask}), (${a}) and (${b}) chooses element by element, in f64, f32 and i32, on 1, 2 and 4 threads`, async () => {
      const choice = { shape: mask, data: Uint8Array.from(noise(mask, 3).data, (v) => Number(v > 0)) };
      for (const as of ["f64", "f32", "i32"] as const) {
        const p = coarse(a, 1, as), q = coarse(b, 2, as);
        const expected = Array.from({ length: y.reduce((m, n) => m * n, 1) }, (_, i) => (choice.data[offset(mask, y, i)] ? p.data[offset(a, y, i)] : q.data[offset(b, y, i)]));
        const result = await everywhere("where", [choice, p, q], y, p.data.slice(0, 0));
        assert.equal(result.findIndex((v, i) => v !== expected[i]), -1, as);
      }
    });
  }

  it("lets a NaN that is not chosen be", async () => {
    const nan = { shape: [2], data: Float32Array.of(NaN, 5) }, zero = { shape: [1], data: Float32Array.of(0) };
    assert.deepEqual([...await everywhere("where", [{ shape: [2], data: Uint8Array.of(0, 1) }, nan, zero], [2], nan.data)], [0, 5]);
  });

  it("refuses a mask of numbers", () =>
    refuses(runMixed("where", [noise([2], 1), noise([2], 1), noise([2], 1), { out: [2] }]), /where: mask expected u8 or bool, got f64 \(2\)/));
});
