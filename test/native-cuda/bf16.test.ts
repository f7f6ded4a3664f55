// What kernels do with bf16 (native-cuda/README.md, N-5): conversions, and the way by which a kernel without bf16 code gets it.
// The families of test/native-cuda/kernels run in bf16 too, in their own files.
import assert from "node:assert/strict";
import { native } from "../../runtime/native.ts";
import { bf16Bits, bf16Values, firstDifference, narrowed, noise, run, runMixed, single, type Numbers, type Operand } from "./device.ts";
import { refuses } from "./harness.ts";

const vector = <T extends Numbers>(data: T): { shape: number[]; data: T } => ({ shape: [data.length], data });
const cast = async <T extends Numbers>(data: Numbers, like: T, kernels: "fast" | "reference" = "fast"): Promise<T> =>
  (await runMixed("cast", [vector(data), { out: [data.length], like }], [], { kernels }))[0] as T;

describe("bf16 conversions", () => {
  const every = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const quiet = every.map((bits) => ((bits & 0x7fff) > 0x7f80 ? bits | 0x40 : bits)); // a signalling NaN becomes quiet

  for (const kernels of ["fast", "reference"] as const) {
    it(`give every bf16 back after widening to f32 (${kernels}, BF-1)`, async () => {
      const wide = await cast(every, new Float32Array(), kernels);
      const words = new Uint32Array(wide.buffer);
      assert.equal(words.findIndex((word, i) => word !== (quiet[i] << 16) >>> 0 && word !== (every[i] << 16) >>> 0), -1);
      assert.equal(firstDifference(await cast(wide, new Uint16Array(), kernels), quiet), -1);
    });

    it(`round to nearest even, keep NaN, and go to infinity beyond the range (${kernels})`, async () => {
      const x = Float32Array.of(1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -20, -(1 + 2 ** -8), NaN, Infinity, -Infinity, 3.4e38, 2 ** -133, 2 ** -135, -0);
      assert.deepEqual([...await cast(x, new Uint16Array(), kernels)],
        [0x3f80, 0x3f80, 0x3f82, 0x3f81, 0xbf80, 0x7fc0, 0x7f80, 0xff80, 0x7f80, 0x0001, 0x0000, 0x8000]);
      const many = single(noise([300001], 5, 1e3)).data;
      assert.equal(firstDifference(await cast(many, new Uint16Array(), kernels), bf16Bits(many)), -1);
    });

    it(`reach f64, i32 and u8 and come back (${kernels})`, async () => {
      const bits = bf16Bits([-1.5, 0, 2.25, 300, NaN]);
      assert.deepEqual([...await cast(bits, new Float64Array(), kernels)], [-1.5, 0, 2.25, 300, NaN]);
      assert.deepEqual([...await cast(bits, new Int32Array(), kernels)], [-1, 0, 2, 300, 0]);
      assert.deepEqual([...await cast(bits, new Uint8Array(), kernels)], [0, 0, 2, 255, 0]);
      assert.deepEqual(bf16Values(await cast(Float64Array.of(0.1, 1e300), new Uint16Array(), kernels)), Float64Array.of(0.10009765625, Infinity));
      assert.deepEqual(bf16Values(await cast(Int32Array.of(257, -3), new Uint16Array(), kernels)), Float64Array.of(256, -3));
      assert.deepEqual(bf16Values(await cast(Uint8Array.of(255, 7), new Uint16Array(), kernels)), Float64Array.of(255, 7));
      assert.equal(firstDifference(await cast(every, new Uint16Array(), kernels), kernels === "fast" ? every : quiet), -1);
    });
  }

  it("keep an empty tensor empty", async () => assert.equal((await cast(new Uint16Array(), new Float32Array())).length, 0));
});

describe("a kernel without bf16 code", () => {
  const p = noise([70001], 1, 2), g = noise([70001], 2);
  const ema = async (average: Operand, parameter: Operand, settings = {}): Promise<Numbers> =>
    (await runMixed("ema", [{ ...average, update: true }, parameter], [0.9], settings))[0];

  it("computes in f32 and rounds once (WI-1)", async () => {
    const [narrowAverage, narrowParameter] = [narrowed(p), narrowed(g)];
    const wide = await ema({ ...p, data: Float32Array.from(bf16Values(narrowAverage.data as Uint16Array)) }, { ...g, data: Float32Array.from(bf16Values(narrowParameter.data as Uint16Array)) });
    assert.equal(firstDifference(await ema(narrowAverage, narrowParameter), bf16Bits(wide as Float32Array)), -1);
  });

  it("takes f32 and bf16 in one call", async () => {
    const narrowParameter = narrowed(g), wideParameter = { ...g, data: Float32Array.from(bf16Values(narrowParameter.data as Uint16Array)) };
    assert.equal(firstDifference(await ema(single(p), narrowParameter), await ema(single(p), wideParameter)), -1);
  });

  it("gives the same bits with 1, 2, 3, 4 and 8 threads, and does the same in reference mode to one rounding", async () => {
    const once = await ema(narrowed(p), narrowed(g), { threads: 1 }) as Uint16Array;
    for (const threads of [2, 3, 4, 8]) assert.equal(firstDifference(await ema(narrowed(p), narrowed(g), { threads }), once), -1);
    const plain = await ema(narrowed(p), narrowed(g), { kernels: "reference" }) as Uint16Array;
    assert.ok(plain.every((bits, i) => Math.abs(bits - once[i]) <= 1));
  });

  it("leaves what it does not write as it was, bit by bit (WI-1)", async () => {
    const [, parameter] = await runMixed("ema", [{ ...narrowed(p), update: true }, { ...narrowed(g), update: true }], [0.9]);
    assert.equal(firstDifference(parameter, narrowed(g).data), -1);
  });

  it("may be given one tensor as two operands (WI-2)", async () => {
    const device = native(), bits = bf16Bits([1, -2, 3]);
    const tensor = device.allocate(2, [3]);
    device.upload(tensor, bits);
    device.launch(device.kernel("ema"), [tensor, tensor], [0.5]);
    const read = device.read(tensor);
    device.free(tensor);
    assert.deepEqual([...new Uint16Array(await read)], [...bits]);
  });

  it("may have absent operands and empty ones", async () => {
    const q = narrowed(noise([1, 2, 4], 3)), k = single(noise([1, 2, 4], 4));
    const [y] = await runMixed("attention_forward", [q, k, q, undefined, undefined, { out: [1, 2, 4] }, { out: [1, 1, 2] }], [1, 1, 0, 0, 0, 0.5]);
    assert.ok((y as Uint16Array).every((bits) => bits !== 0x7fc0));
    const empty = await runMixed("ema", [{ shape: [0], data: new Uint16Array(), update: true }, { shape: [0], data: new Uint16Array() }], [0.5]);
    assert.equal(empty[0].length, 0);
  });

  it("runs attention in f32 where q, k, v and dy are bf16 and its results f32, forward and backward", async () => {
    const [B, H, K, grid] = [2, 2, 8, 4], N = 1 + grid * grid, wide = new Float32Array(), scalars = [H, H, 0, grid, grid, K ** -0.5];
    const [dy, q, k, v] = [1, 2, 3, 4].map((seed) => narrowed(noise([B, N, H * K], seed))), table = single(noise([(2 * grid - 1) ** 2 + 3, H], 5));
    const widened = (o: Operand): Operand => ({ ...o, data: Float32Array.from(bf16Values(o.data as Uint16Array)) });
    const attend = async (as: (o: Operand) => Operand, settings = {}): Promise<Numbers[]> => {
      const out = { out: [B, N, H * K], like: wide };
      const [y, lse] = await runMixed("attention_forward", [as(q), as(k), as(v), undefined, table, out, { out: [B, H, N], like: wide }], scalars, settings);
      const gradients = await runMixed("attention_backward", [as(dy), as(q), as(k), as(v), undefined, table, { shape: [B, N, H * K], data: y }, { shape: [B, H, N], data: lse },
        out, out, out, { out: table.shape, like: wide }], scalars, settings);
      return [y, lse, ...gradients];
    };
    const once = await attend((o) => o), inF32 = await attend(widened);
    once.forEach((numbers, i) => assert.equal(firstDifference(numbers, inF32[i]), -1, `result ${i}`));
    for (const threads of [1, 3, 4, 8])
      (await attend((o) => o, { threads })).forEach((numbers, i) => assert.equal(firstDifference(numbers, once[i]), -1, `result ${i} on ${threads} threads`));
  });

  it("does not mix bf16 with f64", () => refuses(run("ema", [{ ...p, update: true }, narrowed(g)], [0.5]), /ema: .* expected f64/));
});

describe("a kernel with bf16 code", () => {
  it("writes outputs that no cache could hold, in f32 and bf16 (FL-2)", async () => {
    const n = 18_000_001, period = 251; // beyond the last-level cache of most machines, where outputs are streamed
    const values = Float32Array.from({ length: period }, (_, i) => i - 125), halves = values.map((v) => v / 2);
    for (const [of, to] of [[values, halves], [bf16Bits(values), bf16Bits(halves)]] as const) {
      const x = new (of.constructor as new (n: number) => Float32Array)(n);
      for (let at = 0; at < n; at += period) x.set(of.subarray(0, Math.min(period, n - at)), at);
      const [y] = await runMixed("scale", [vector(x), { out: [n], like: of }], [0.5]);
      let wrong = 0;
      for (let i = 0; i < n; i++) if (y[i] !== to[i % period]) wrong++;
      assert.deepEqual([y.length, wrong], [n, 0]);
    }
  });

  it("may write over its input (FL-3)", async () => {
    const device = native(), bits = bf16Bits(noise([5003], 1, 4).data);
    const [apart] = await runMixed("silu_forward", [vector(bits), { out: [5003], like: bits }]);
    const tensor = device.allocate(2, [5003]);
    device.upload(tensor, bits);
    device.launch(device.kernel("silu_forward"), [tensor, tensor], []);
    const read = device.read(tensor);
    device.free(tensor);
    assert.equal(firstDifference(new Uint16Array(await read), apart), -1);
  });

  it("keeps NaN and infinities", async () => {
    const x = vector(bf16Bits([NaN, Infinity, -Infinity, -0, 1]));
    const scaled = bf16Values((await runMixed("scale", [x, { out: [5], like: x.data }], [-2]))[0] as Uint16Array);
    assert.deepEqual([...scaled], [NaN, -Infinity, Infinity, 0, -2]);
    const [y] = await runMixed("add", [x, x, { out: [5], like: x.data }]);
    assert.deepEqual([...bf16Values(y as Uint16Array)], [NaN, Infinity, -Infinity, -0, 2]);
  });

  it("moves two-byte elements bit by bit, signalling NaN too", async () => {
    const bits = Uint16Array.of(0x7f81, 1, 2, 3, 4, 0xff81), x = { shape: [2, 3], data: bits };
    const [turned] = await runMixed("permute", [x, { out: [3, 2], like: bits }], [1, 0]);
    assert.deepEqual([...turned], [0x7f81, 3, 1, 4, 2, 0xff81]);
    const [joined] = await runMixed("concat", [x, x, { out: [2, 6], like: bits }], [1]);
    assert.deepEqual([...joined], [0x7f81, 1, 2, 0x7f81, 1, 2, 3, 4, 0xff81, 3, 4, 0xff81]);
    const [middle] = await runMixed("slice_forward", [x, { out: [2, 1], like: bits }], [1, 2]);
    assert.deepEqual([...middle], [2, 0xff81]);
  });

  it("takes a bf16 x beside an f32 table, and an f32 y beside a bf16 x", async () => {
    const x = vector(bf16Bits([1, 2, 3])), one = vector(Float32Array.of(1, 1, 2 ** -9));
    assert.deepEqual([...(await runMixed("add", [x, one, { out: [3], like: new Float32Array() }]))[0]], [2, 3, 3 + 2 ** -9]);
    const [rows] = await runMixed("gather_rows_forward", [{ shape: [3, 1], data: Float32Array.of(1, 1 + 2 ** -9, -7) }, vector(Int32Array.of(2, 1)), { out: [2, 1], like: x.data }]);
    assert.deepEqual([...bf16Values(rows as Uint16Array)], [-7, 1]);
  });
});
