import assert from "node:assert/strict";
import { noise, run, type Operand } from "../device.ts";
import { close, dot, family, refuses } from "../harness.ts";

const frequencies = (width: number, theta = 1e4): Operand => ({ shape: [width / 2], data: Float64Array.from({ length: width / 2 }, (_, i) => theta ** (-2 * i / width)) });
const positions = (batch: number, tokens: number) => ({ shape: [batch, tokens], data: Int32Array.from({ length: batch * tokens }, (_, i) => (i % Math.max(1, tokens)) + Math.floor(i / Math.max(1, tokens))) });

// Angles are positions times rounded frequencies: at position 30 an f32 angle is off by up to 30 * 2^-24 = 1.8e-6.
const at = (direction: number) => (batch: number, tokens: number, heads: number, width: number) => ({
  inputs: { x: noise([batch, tokens, heads * width], 1), positions: positions(batch, tokens), frequency: frequencies(width) },
  outputs: { y: [batch, tokens, heads * width] },
  kernels: { rope: ["x positions frequency y", heads, direction] as [string, number, number] },
  wide: "frequency",
  tolerance: 1e-5,
});
const sizes = [[0, 3, 1, 2], [1, 1, 1, 2], [2, 3, 1, 6], [3, 17, 3, 4], [3, 65, 4, 24], [2, 31, 8, 64]];
family("rope, forward", at(1), sizes);
family("rope, back", at(-1), sizes);

describe("rope", () => {
  const x = { shape: [1, 1, 8], data: Float64Array.of(1, 2, 3, 4, 5, 6, 7, 8) }, three = { shape: [1, 1], data: Int32Array.of(3) };
  // head width 8, theta 1e4, position 3, half-split pairing, in f64
  const known = [-1.69559253690, 0.13755173828, 2.78868159983, 3.97598203601, -4.80884247494, 6.32305934808, 7.08683673685, 8.01196398203];

  it("has the known value", async () => {
    const [exact] = await run("rope", [x, three, frequencies(8), { out: [1, 1, 8] }], [1, 1]);
    close(exact, known, 1e-11);
    const single = (o: Operand) => ({ shape: o.shape, data: Float32Array.from(o.data) });
    const [fast] = await run("rope", [single(x), three, single(frequencies(8)), { out: [1, 1, 8] }], [1, 1]);
    close(fast, known, 3e-7);
    const [wide] = await run("rope", [single(x), three, frequencies(8), { out: [1, 1, 8] }], [1, 1]); // f64 frequencies beside f32 x
    close(wide, known, 3e-7);
  });

  it("turned back is what it was: the gradient of a rotation", async () => {
    const input = noise([2, 5, 12], 4), where = positions(2, 5);
    const [y] = await run("rope", [input, where, frequencies(6), { out: [2, 5, 12] }], [2, 1]);
    const [back] = await run("rope", [{ shape: [2, 5, 12], data: y }, where, frequencies(6), { out: [2, 5, 12] }], [2, -1]);
    close(back, input.data, 1e-15);
  });

  it("has the gradient that central differences predict: the rotation back", async () => {
    const input = noise([1, 2, 4], 5), dy = noise([1, 2, 4], 6).data, where = positions(1, 2);
    const turn = async (data: Float64Array, direction: number) => (await run("rope", [{ shape: [1, 2, 4], data }, where, frequencies(4), { out: [1, 2, 4] }], [1, direction]))[0];
    const predicted: number[] = [];
    for (const i of input.data.keys()) {
      const loss = async (by: number) => dot(await turn(Float64Array.from(input.data, (v, k) => v + (k === i ? by : 0)), 1), dy);
      predicted.push((await loss(1e-5) - await loss(-1e-5)) / 2e-5);
    }
    close(await turn(dy, -1), predicted, 1e-9);
  });

  it("keeps scores unchanged when all positions move", async () => {
    const scores = async (offset: number) => {
      const at = async (seed: number, position: number) =>
        (await run("rope", [noise([1, 1, 8], seed), { shape: [1, 1], data: Int32Array.of(position + offset) }, frequencies(8), { out: [1, 1, 8] }], [1, 1]))[0];
      const q = await at(1, 5), k = await at(2, 3);
      return dot(q, k);
    };
    assert.ok(Math.abs(await scores(0) - await scores(1000)) < 1e-12);
  });

  it("refuses an odd head width and missing frequencies", async () => {
    await refuses(run("rope", [noise([1, 1, 6], 1), three, frequencies(2), { out: [1, 1, 6] }], [2, 1]), /rope: x expected an even head width from 2 heads, got f64 \(1, 1, 6\)/);
    await refuses(run("rope", [x, three, frequencies(4), { out: [1, 1, 8] }], [1, 1]), /rope: frequency expected 4 elements \(K\/2\), got f64 \(2\)/);
  });
});
