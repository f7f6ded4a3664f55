import assert from "node:assert/strict";
import { type Longs, type Operand, type Settings, firstDifference, noise, run, single } from "../device.ts";
import { family, refuses } from "../harness.ts";

const ids = (batch: number) => ({ shape: [batch], data: Int32Array.from({ length: batch }, (_, i) => 1000 + 7 * i) });
// p, seed low, seed high, step, site
const settings = [0.3, 12345, 678, 9, 4];

family("dropout", (batch, elements) => ({
  inputs: { x: noise([batch, elements], 1), sampleIds: ids(batch) },
  outputs: { y: [batch, elements] },
  kernels: { dropout: ["x sampleIds y", ...settings] },
}), [[0, 3], [3, 0], [1, 1], [2, 3], [3, 17], [5, 19001]]);

describe("philox_uniform", () => {
  const words = async (count: number, seed: number, stream: number) =>
    [...(await run("philox_uniform", [{ out: [count], like: new Float64Array() }], [seed, 0, stream, 0]))[0]].map((u) => u * 2 ** 32);

  it("gives the published words for key 0 and counter 0", async () => // Random123 kat_vectors
    assert.deepEqual(await words(4, 0, 0), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]));

  it("reads the words of seed 42, stream 1 in order", async () =>
    assert.deepEqual(await words(4, 42, 1), [43202409, 542238995, 996716600, 3056353436]));

  for (const n of [0, 1, 3, 17, 9001]) {
    it(`(${n}) is the same numbers in f32, rounded, and below 1`, async () => {
      const [wide] = await run("philox_uniform", [{ out: [n], like: new Float64Array() }], [1, 2, 3, 4]);
      for (const kernels of ["fast", "reference"] as const) {
        const [narrow] = await run("philox_uniform", [{ out: [n] }], [1, 2, 3, 4], { kernels });
        assert.deepEqual([...narrow], [...wide].map((u) => Math.min(Math.fround(u), 1 - 2 ** -24)));
      }
    });
  }
});

describe("dropout", () => {
  const ones = (shape: number[]) => ({ shape, data: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(1) });
  const drop = async (shape: number[], samples: number[], [p, step, site]: [number, number, number], threads = 2) =>
    (await run("dropout", [ones(shape), { shape: [samples.length], data: Int32Array.from(samples) }, { out: shape }], [p, 5, 6, step, site], { threads }))[0];

  it("keeps about 1 - p of the elements and divides them by it", async () => {
    const y = await drop([1, 100_000], [3], [0.25, 1, 1]);
    const kept = y.filter((v) => v !== 0);
    assert.ok(kept.every((v) => v === Math.fround(1 / 0.75)));
    assert.ok(Math.abs(kept.length - 75_000) < 5 * Math.sqrt(100_000 * 0.25 * 0.75), `${kept.length} kept of 75000 expected`); // five standard deviations
  });

  it("DR-1: a sample's mask depends neither on its batch, nor on padding behind it", async () => {
    const together = await drop([3, 40], [8, 9, 10], [0.5, 1, 1]), alone = await drop([1, 55], [9], [0.5, 1, 1]);
    assert.deepEqual([...together.subarray(40, 80)], [...alone.subarray(0, 40)]);
  });

  it("DR-1: step, site and sample each give another mask", async () => {
    const base = await drop([1, 64], [1], [0.5, 1, 1]);
    for (const other of [await drop([1, 64], [1], [0.5, 2, 1]), await drop([1, 64], [1], [0.5, 1, 2]), await drop([1, 64], [2], [0.5, 1, 1])])
      assert.notEqual(firstDifference(base, other), -1);
  });

  it("keeps an element exactly when u >= p, u from the published generator", async () => {
    // step 0 leaves the key equal to the seed: words of seed 42, stream 1 (sample 1, site 0)
    const u = [43202409, 542238995, 996716600, 3056353436].map((word) => word / 2 ** 32);
    for (const p of [0, u[1], u[1] + 2 ** -33, 0.7]) {
      const [y] = await run("dropout", [ones([1, 4]), { shape: [1], data: Int32Array.of(1) }, { out: [1, 4] }], [p, 42, 0, 0, 0]);
      assert.deepEqual([...y].map((v) => v !== 0), u.map((each) => each >= p), `p = ${p}`);
    }
  });

  it("takes the step from a tensor to the same mask, and refuses what is no step", async () => {
    const stepped = (step: Operand | Longs, settings: Settings) => run("dropout", [noise([3, 33], 2), ids(3), { out: [3, 33] }, step], [0.3, 5, 6, 0, 1], settings);
    for (const kernels of ["fast", "reference"] as const) {
      for (const step of [0, 7, 2 ** 40 + 3]) {
        const [scalar] = await run("dropout", [noise([3, 33], 2), ids(3), { out: [3, 33] }], [0.3, 5, 6, step, 1], { kernels });
        const [tensor] = await stepped({ shape: [1], data: BigInt64Array.of(BigInt(step)) }, { kernels });
        assert.deepEqual([...tensor], [...scalar]);
      }
    }
    await refuses(stepped({ shape: [1], data: Int32Array.of(3) }, {}), /dropout: step expected i64 \(1\), got i32 \(1\)/);
    await refuses(stepped({ shape: [1], data: BigInt64Array.of(-1n) }, {}), /dropout: step expected 0 or more, got -1/);
  });

  it("with p = 0 is the identity", async () => {
    const x = single(noise([2, 33], 1));
    assert.deepEqual([...(await run("dropout", [x, ids(2), { out: [2, 33] }], [0, 1, 2, 3, 4]))[0]], [...x.data]);
  });

  it("refuses p = 1 and a missing sample id", async () => {
    await refuses(drop([1, 2], [1], [1, 1, 1]), /dropout: p expected within \[0, 1 - 2\^-32\], got 1/);
    await refuses(drop([2, 2], [1], [0.5, 1, 1]), /dropout: sampleIds expected 2 elements \(B\), got i32 \(1\)/);
  });
});
