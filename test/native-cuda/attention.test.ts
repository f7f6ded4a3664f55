// Promises AT-1 to AT-8 of native-cuda/kernels/attention.h and the bias table of relative_bias.h.
import assert from "node:assert/strict";
import { child } from "./child.ts";
import { type Longs, bf16Values, firstDifference, narrowed, noise, rounded, roundedToBf16, run, runMixed, single, worst, type Numbers, type Operand, type Settings } from "./device.ts";

interface Shape { B: number; Nq: number; Nk: number; H: number; KV: number; K: number; causal?: boolean; mask?: Uint8Array; grid?: [number, number];
  window?: number; group?: number; roll?: boolean; boundaries?: number[]; p?: number; queryLengths?: number[]; firstHead?: number }
interface Problem { shape: Shape; q: Operand; k: Operand; v: Operand; dy: Operand; mask?: Operand; table?: Operand; extra: (Operand | undefined)[]; scalars: number[] }

function problem(shape: Shape): Problem {
  const { B, Nq, Nk, H, KV, K, grid, window = 0, group = 0, roll = false, boundaries, p = 0, queryLengths, firstHead = 0 } = shape;
  const integers = (values?: number[]) => values && { shape: [values.length], data: Int32Array.from(values) };
  const more = Boolean(window || group || boundaries || p);
  const samples = Array.from({ length: boundaries ? boundaries.length - 1 : B }, (_, i) => 40 + 3 * i);
  return {
    shape, q: noise([B, Nq, H * K], 1, 2), k: noise([B, Nk, KV * K], 2, 2), v: noise([B, Nk, KV * K], 3), dy: noise([B, Nq, H * K], 4),
    mask: shape.mask && { shape: [B, Nk], data: shape.mask },
    table: grid && noise([(2 * grid[0] - 1) * (2 * grid[1] - 1) + 3, H], 5),
    extra: more ? [integers(boundaries), integers(p ? samples : undefined), integers(queryLengths), undefined] : [],
    scalars: [H, KV, shape.causal ? 1 : 0, grid?.[0] ?? 0, grid?.[1] ?? 0, 1 / Math.sqrt(K), ...(more ? [window, group, roll ? 1 : 0, p, 11, 5, 2, 77, firstHead] : [])],
  };
}

async function forward(p: Problem, as: (o: Operand) => Operand, settings?: Settings) {
  const { B, Nq, H, K } = p.shape;
  const [y, lse] = await run("attention_forward", [as(p.q), as(p.k), as(p.v), p.mask, p.table && as(p.table), { out: [B, Nq, H * K] }, { out: [B, H, Nq] }, ...p.extra], p.scalars, settings);
  return { y, lse };
}

/** Gradients by name, computed from the forward results of the same twin. */
async function backward(p: Problem, as: (o: Operand) => Operand, settings?: Settings) {
  const { B, Nq, Nk, H, KV, K } = p.shape;
  const { y, lse } = await forward(p, as, settings);
  const [dq, dk, dv, dtable] = await run("attention_backward", [as(p.dy), as(p.q), as(p.k), as(p.v), p.mask, p.table && as(p.table),
    { shape: [B, Nq, H * K], data: y }, { shape: [B, H, Nq], data: lse }, { out: [B, Nq, H * K] }, { out: [B, Nk, KV * K] }, { out: [B, Nk, KV * K] },
    p.table && { out: p.table.shape }, ...p.extra], p.scalars, settings);
  return { y, lse, dq, dk, dv, ...(dtable ? { dtable } : {}) } as Record<string, Float32Array | Float64Array>;
}

/** Forward and backward with q, k, v, dy, y and their gradients in bf16, statistics and the bias table in f32. */
async function inBf16(p: Problem, settings?: Settings): Promise<Record<string, Numbers>> {
  const { B, Nq, Nk, H, KV, K } = p.shape, [q, k, v, dy] = [p.q, p.k, p.v, p.dy].map(narrowed), table = p.table && single(p.table);
  const narrow = (out: number[]) => ({ out, like: new Uint16Array() }), wide = (out: readonly number[]) => ({ out, like: new Float32Array() });
  const [found, lse] = await runMixed("attention_forward", [q, k, v, p.mask, table, narrow([B, Nq, H * K]), wide([B, H, Nq]), ...p.extra], p.scalars, settings);
  const [dq, dk, dv, dtable] = await runMixed("attention_backward", [dy, q, k, v, p.mask, table, { shape: [B, Nq, H * K], data: found }, { shape: [B, H, Nq], data: lse },
    narrow([B, Nq, H * K]), narrow([B, Nk, KV * K]), narrow([B, Nk, KV * K]), table && wide(table.shape), ...p.extra], p.scalars, settings);
  return { y: found, lse, dq, dk, dv, ...(dtable ? { dtable } : {}) };
}

/** What f64 makes of the operands as `inBf16` rounds them. */
async function truthOfBf16(p: Problem): Promise<Record<string, Float64Array>> {
  const wide: Problem = { ...p, q: roundedToBf16(p.q), k: roundedToBf16(p.k), v: roundedToBf16(p.v), dy: roundedToBf16(p.dy), table: p.table && rounded(p.table) };
  return await backward(wide, (o) => o) as Record<string, Float64Array>;
}

const numbersOf = (x: Numbers): Numbers => (x instanceof Uint16Array ? bf16Values(x) : x);

/** Keys hidden here and there, the tail of the first page, and the whole of the last page. */
function holes(B: number, Nk: number): Uint8Array {
  const mask = Uint8Array.from({ length: B * Nk }, (_, at) => (at * 7 + 3) % 5 === 0 ? 0 : 1);
  mask.fill(0, Math.floor(Nk / 2), Nk);
  if (B > 1) mask.fill(0, (B - 1) * Nk);
  return mask;
}

const problems: Record<string, Shape> = {
  "full": { B: 2, Nq: 37, Nk: 37, H: 3, KV: 3, K: 32 },
  "cross, more keys than queries": { B: 2, Nq: 5, Nk: 131, H: 2, KV: 2, K: 16 },
  "causal": { B: 1, Nq: 150, Nk: 150, H: 2, KV: 2, K: 8, causal: true },
  "causal behind a prefix (Nq < Nk)": { B: 2, Nq: 9, Nk: 40, H: 2, KV: 1, K: 16, causal: true },
  "causal with queries that see nothing (Nq > Nk)": { B: 1, Nq: 12, Nk: 7, H: 2, KV: 2, K: 4, causal: true },
  "key padding": { B: 3, Nq: 20, Nk: 20, H: 2, KV: 2, K: 16, mask: holes(3, 20) },
  "grouped queries, causal and padded": { B: 3, Nq: 33, Nk: 33, H: 6, KV: 2, K: 8, causal: true, mask: holes(3, 33) },
  "relative bias on a square grid": { B: 2, Nq: 197, Nk: 197, H: 3, KV: 3, K: 32, grid: [14, 14] },
  "relative bias on an oblong grid, padded": { B: 2, Nq: 16, Nk: 16, H: 2, KV: 2, K: 5, grid: [3, 5], mask: holes(2, 16) },
  "one query, one key": { B: 1, Nq: 1, Nk: 1, H: 1, KV: 1, K: 1 },
  "a window": { B: 2, Nq: 300, Nk: 300, H: 2, KV: 2, K: 8, causal: true, window: 37 },
  "a window of one key": { B: 1, Nq: 19, Nk: 19, H: 2, KV: 1, K: 4, causal: true, window: 1 },
  "a window behind a prefix, padded": { B: 3, Nq: 9, Nk: 70, H: 2, KV: 1, K: 16, causal: true, window: 20, mask: holes(3, 70) },
  "a window on a long page": { B: 1, Nq: 2500, Nk: 2500, H: 2, KV: 1, K: 8, causal: true, window: 200 },
  "sequences, one of them empty": { B: 1, Nq: 210, Nk: 210, H: 2, KV: 1, K: 8, boundaries: [0, 1, 38, 38, 205, 210] },
  "causal sequences": { B: 1, Nq: 210, Nk: 210, H: 4, KV: 2, K: 8, causal: true, boundaries: [0, 1, 38, 205, 210] },
  "windowed sequences with hidden keys": { B: 1, Nq: 210, Nk: 210, H: 2, KV: 2, K: 8, causal: true, window: 12, boundaries: [0, 70, 71, 210], mask: holes(1, 210) },
  "groups, split": { B: 2, Nq: 96, Nk: 96, H: 4, KV: 2, K: 8, group: 24 },
  "groups, split, causal": { B: 1, Nq: 640, Nk: 640, H: 4, KV: 4, K: 8, group: 320, causal: true },
  "groups, split, padded": { B: 3, Nq: 40, Nk: 40, H: 2, KV: 1, K: 8, group: 8, mask: holes(3, 40) },
  "groups, roll": { B: 2, Nq: 96, Nk: 96, H: 4, KV: 2, K: 8, group: 24, roll: true },
  "groups, roll, causal": { B: 1, Nq: 640, Nk: 640, H: 4, KV: 1, K: 8, group: 320, roll: true, causal: true },
  "groups, roll, padded, causal": { B: 3, Nq: 40, Nk: 40, H: 2, KV: 1, K: 8, group: 8, roll: true, causal: true, mask: holes(3, 40) },
  "one group of all, split": { B: 1, Nq: 30, Nk: 30, H: 2, KV: 2, K: 4, group: 30 },
  "one group of all, roll": { B: 1, Nq: 30, Nk: 30, H: 2, KV: 2, K: 4, group: 30, roll: true, causal: true },
  "groups of two": { B: 1, Nq: 6, Nk: 6, H: 2, KV: 2, K: 3, group: 2, roll: true },
  "dropout": { B: 2, Nq: 37, Nk: 37, H: 3, KV: 3, K: 32, p: 0.3 },
  "dropout, causal behind a prefix, grouped, padded": { B: 3, Nq: 21, Nk: 40, H: 4, KV: 2, K: 16, causal: true, mask: holes(3, 40), p: 0.5 },
  "dropout with lengths of queries, from the third head on": { B: 2, Nq: 7, Nk: 9, H: 2, KV: 2, K: 4, p: 0.4, queryLengths: [5, 0], firstHead: 2 },
  "dropout in sequences": { B: 1, Nq: 90, Nk: 90, H: 2, KV: 2, K: 8, boundaries: [0, 33, 33, 90], p: 0.25 },
  "dropout in groups, roll": { B: 2, Nq: 48, Nk: 48, H: 4, KV: 2, K: 8, group: 16, roll: true, causal: true, p: 0.2 },
  "dropout with a relative bias": { B: 2, Nq: 16, Nk: 16, H: 2, KV: 2, K: 5, grid: [3, 5], p: 0.3 },
  "dropout of a long row": { B: 1, Nq: 3, Nk: 5003, H: 2, KV: 2, K: 4, p: 0.1 },
  "no keys": { B: 2, Nq: 3, Nk: 0, H: 2, KV: 2, K: 4, p: 0.1 },
  "no queries": { B: 2, Nq: 0, Nk: 5, H: 2, KV: 2, K: 4, p: 0.1 },
  "no batch": { B: 0, Nq: 4, Nk: 4, H: 2, KV: 2, K: 4, group: 2 },
  "no tokens in groups": { B: 1, Nq: 0, Nk: 0, H: 2, KV: 2, K: 4, group: 4, roll: true },
  "empty sequences only": { B: 1, Nq: 0, Nk: 0, H: 2, KV: 2, K: 4, boundaries: [0, 0, 0] },
  "a long page": { B: 1, Nq: 300, Nk: 3001, H: 2, KV: 1, K: 16, mask: Uint8Array.from({ length: 3001 }, (_, j) => (j % 11 === 0 ? 0 : 1)) },
};

describe("attention", () => {
  for (const [name, shape] of Object.entries(problems)) {
    it(`gives what f64 gives, forward and backward: ${name}`, async () => {
      const p = problem(shape);
      const truth = await backward(p, rounded), fast = await backward(p, single);
      for (const key of Object.keys(truth)) {
        const { error, text } = worst(fast[key], truth[key]);
        assert.ok(error < 1e-5, `${key}: ${text}`);
      }
      assert.deepEqual(Object.keys(fast), Object.keys(truth));
    });

    it(`has the same bits on 1, 2, 3, 4 and 8 threads: ${name}`, async () => {
      const p = problem(shape), one = await backward(p, single, { threads: 1 });
      for (const threads of [2, 3, 4, 8]) {
        const many = await backward(p, single, { threads });
        for (const key of Object.keys(one)) assert.equal(firstDifference(many[key], one[key]), -1, `${key} on ${threads} threads`);
      }
    });
  }

  // A bf16 has 8 bits: rounding the result costs 2^-9 of an element. The weights A and score gradients dS are rounded to bf16 before they are
  // multiplied (2^-9 each, of both signs), and so is y, of which delta is made: four roundings lie behind a dq or dk. The largest error found is 3.02 * 2^-9.
  for (const [name, shape] of Object.entries(problems)) {
    it(`AT-8: gives in bf16 what f64 gives of the rounded operands, with the same bits on 1, 2, 3, 4 and 8 threads: ${name}`, async () => {
      const p = problem(shape), truth = await truthOfBf16(p), once = await inBf16(p);
      assert.deepEqual(Object.keys(once), Object.keys(truth));
      for (const key of Object.keys(truth)) {
        const { error, text } = worst(numbersOf(once[key]), truth[key]), allowed = key === "lse" ? 1e-5 : 2 ** -7;
        assert.ok(error < allowed, `${key}: ${text}`);
      }
      for (const threads of [1, 3, 4, 8]) {
        const again = await inBf16(p, { threads });
        for (const key of Object.keys(once)) assert.equal(firstDifference(again[key], once[key]), -1, `${key} on ${threads} threads`);
      }
    });
  }

  const small = { B: 2, Nq: 6, Nk: 6, H: 2, KV: 1, K: 3 }, mask = Uint8Array.of(1, 1, 0, 1, 1, 0, 1, 1, 1, 0, 0, 0);
  const differentiated: Record<string, Shape> = {
    "bias, causal, padded": { ...small, Nq: 5, Nk: 5, grid: [2, 2], causal: true, mask: Uint8Array.of(1, 1, 0, 1, 1, 0, 1, 1, 1, 0) },
    "cross": { ...small, Nq: 3, Nk: 5 },
    "window": { ...small, causal: true, window: 3, mask },
    "sequences": { ...small, B: 1, Nq: 6, Nk: 6, boundaries: [0, 4, 4, 6], causal: true },
    "split": { ...small, group: 2, mask }, "split, causal": { ...small, group: 2, causal: true },
    "roll": { ...small, group: 2, roll: true }, "roll, causal": { ...small, group: 2, roll: true, causal: true, mask },
    "dropout": { ...small, p: 0.4, mask }, "dropout in sequences": { ...small, B: 1, boundaries: [0, 4, 6], p: 0.4 },
  };
  for (const [name, shape] of Object.entries(differentiated)) {
    it(`matches central differences of f64 in every operand: ${name}`, async () => {
      const p = problem(shape);
      const gradients = await backward(p, rounded);
      const loss = async () => Array.from((await forward(p, (o) => o)).y).reduce((sum, y, i) => sum + y * p.dy.data[i], 0);
      for (const name of ["q", "k", "v", "dy"] as const) p[name] = rounded(p[name]);
      if (p.table) p.table = rounded(p.table);
      for (const [operand, gradient] of [["q", "dq"], ["k", "dk"], ["v", "dv"], ["table", "dtable"]] as const) {
        const data = p[operand]?.data;
        if (!data) continue;
        const expected = new Float64Array(data.length);
        for (let i = 0; i < data.length; i++) {
          const kept = data[i], step = 1e-5;
          data[i] = kept + step;
          const above = await loss();
          data[i] = kept - step;
          expected[i] = (above - await loss()) / (2 * step);
          data[i] = kept;
        }
        const { error, text } = worst(gradients[gradient], expected);
        assert.ok(error < 1e-8, `${gradient}: ${text}`);
      }
    });
  }

  it("AT-1, AT-2: the first of three causal queries on two keys sees none: y = 0, lse = -infinity", async () => {
    const ones = (n: number) => ({ shape: [1, n, 1], data: new Float32Array(n).fill(1) });
    const v = { shape: [1, 2, 1], data: Float32Array.of(2, 4) };
    const [y, lse] = await run("attention_forward", [ones(3), ones(2), v, undefined, undefined, { out: [1, 3, 1] }, { out: [1, 1, 3] }], [1, 1, 1, 0, 0, 1]);
    assert.deepEqual([...y], [0, 2, 3]); // nothing; the first value; the mean of both, as both scores are 1
    assert.equal(lse[0], -Infinity);
    assert.ok(Math.abs(lse[1] - 1) < 1e-6 && Math.abs(lse[2] - (1 + Math.LN2)) < 1e-6, `lse ${lse[1]}, ${lse[2]}`);
  });

  it("gathers the bias as the table's rule says", async () => {
    // Rule: patches (ri - rj + gh - 1)(2 gw - 1) + (ci - cj + gw - 1); class-patch T-3, patch-class T-2, class-class T-1.
    const [gh, gw] = [2, 3], N = 1 + gh * gw, T = (2 * gh - 1) * (2 * gw - 1) + 3, table = noise([T, 1], 9).data;
    const index = (i: number, j: number) => {
      if (i === 0 || j === 0) return i === j ? T - 1 : i === 0 ? T - 3 : T - 2;
      const [ri, ci, rj, cj] = [Math.floor((i - 1) / gw), (i - 1) % gw, Math.floor((j - 1) / gw), (j - 1) % gw];
      return (ri - rj + gh - 1) * (2 * gw - 1) + (ci - cj + gw - 1);
    };
    // With q = 0 the scores are the bias; a one-hot v then shows one weight after the other.
    const zero = { shape: [1, N, N], data: new Float32Array(N * N) };
    const eye = { shape: [1, N, N], data: Float32Array.from({ length: N * N }, (_, at) => (at % N === Math.floor(at / N) ? 1 : 0)) };
    const [y] = await run("attention_forward", [zero, zero, eye, undefined, single({ shape: [T, 1], data: table }), { out: [1, N, N] }, { out: [1, 1, N] }], [1, 1, 0, gh, gw, 1]);
    const expected = new Float64Array(N * N);
    for (let i = 0; i < N; i++) {
      const weights = Array.from({ length: N }, (_, j) => Math.exp(table[index(i, j)])), total = weights.reduce((a, b) => a + b);
      weights.forEach((weight, j) => (expected[i * N + j] = weight / total));
    }
    const { error, text } = worst(y, expected);
    assert.ok(error < 1e-6, text);
  });

  it("refuses operands that do not fit, naming them", async () => {
    const q = single(noise([1, 4, 6], 1)), k = single(noise([1, 4, 5], 2));
    await assert.rejects(run("attention_forward", [q, k, k, undefined, undefined, { out: [1, 4, 6] }, { out: [1, 2, 4] }], [2, 2, 0, 0, 0, 1]),
      { code: "ERR_DEVICE", message: /attention_forward: k expected f32 \(1, 4, 6\), got f32 \(1, 4, 5\)/ });
  });

  it("AT-7: dropout keeps what the rule of dropout says about element (head * Nq + i) * Nk + j", async () => {
    // With q = 0 every weight is 1 / N; a one-hot v then shows which were kept, as keep / (N (1 - p)).
    const [B, N, H, p] = [2, 7, 2, 0.35], scalars = [H, H, 0, 0, 0, 1, 0, 0, 0, p, 11, 5, 2, 77, 0], samples = Int32Array.of(3, 8);
    const zero = { shape: [B, N, H * N], data: new Float64Array(B * N * H * N) };
    const eye = { shape: [B, N, H * N], data: Float64Array.from({ length: B * N * H * N }, (_, at) => (at % N === Math.floor(at / (H * N)) % N ? 1 : 0)) };
    const dropped = async (step: number, tensor?: Longs) => (await run("attention_forward",
      [zero, zero, eye, undefined, undefined, { out: zero.shape }, { out: [B, H, N] }, undefined, { shape: [B], data: samples }, undefined, tensor], scalars.with(12, step)))[0];
    const y = await dropped(2);
    assert.deepEqual(await dropped(0, { shape: [1], data: BigInt64Array.of(2n) }), y, "a step given as a tensor");
    const ones = { shape: [B, H, N, N], data: new Float64Array(B * H * N * N).fill(1) };
    const [kept] = await run("dropout", [ones, { shape: [B], data: samples }, { out: ones.shape }], [p, 11, 5, 2, 77]);
    const expected = new Float64Array(y.length);
    for (let b = 0; b < B; b++) for (let i = 0; i < N; i++) for (let h = 0; h < H; h++) for (let j = 0; j < N; j++)
      expected[((b * N + i) * H + h) * N + j] = kept[((b * H + h) * N + i) * N + j] / N;
    const { error, text } = worst(y, expected);
    assert.ok(error < 1e-12, text);
    assert.ok(kept.some((x) => x === 0) && kept.some((x) => x > 0));
  });

  it("refuses rules that do not go together and boundaries out of order, naming them", async () => {
    const x = single(noise([1, 6, 8], 1)), i32 = (...values: number[]) => ({ shape: [values.length], data: Int32Array.from(values) });
    const refuses = (message: RegExp, rules: number[], extra: (Operand | undefined)[], causal = 0) => assert.rejects(
      run("attention_forward", [x, x, x, undefined, undefined, { out: [1, 6, 8] }, { out: [1, 2, 6] }, ...extra], [2, 2, causal, 0, 0, 1, ...rules]), { code: "ERR_DEVICE", message });
    const rules = ({ window = 0, group = 0, p = 0 }) => [window, group, 0, p, 0, 0, 0, 0, 0], none = [undefined, undefined, undefined, undefined];
    await refuses(/a window needs causal/, rules({ window: 2 }), none);
    await refuses(/groups need an even groupSize.* got groupSize 4/, rules({ group: 4 }), none);
    await refuses(/groupSize 3/, rules({ group: 3 }), none);
    await refuses(/dropout needs sampleIds/, rules({ p: 0.1 }), none);
    await refuses(/sampleIds expected i32 \(1\), got i32 \(2\)/, rules({ p: 0.1 }), [undefined, i32(1, 2), undefined, undefined]);
    await refuses(/step expected i64 \(1\), got i32 \(1\)/, rules({ p: 0.1 }), [undefined, i32(1), undefined, i32(1)]);
    await refuses(/queryLengths\[0\] expected at most the 6 queries, got 7/, rules({ p: 0.1 }), [undefined, i32(1), i32(7), undefined]);
    await refuses(/boundaries\[2\] is 2; they start at 0, never fall and end at the 6 tokens/, rules({}), [i32(0, 3, 2, 6), undefined, undefined, undefined]);
    await refuses(/boundaries\[0\] is 1/, rules({}), [i32(1, 6), undefined, undefined, undefined]);
    await refuses(/boundaries\[1\] is 5/, rules({}), [i32(0, 5), undefined, undefined, undefined]);
    await refuses(/boundaries and groups exclude each other/, rules({ group: 2 }), [i32(0, 6), undefined, undefined, undefined]);
    await refuses(/expected 7 or 11 operands, got 8/, rules({}), [undefined]);
    await refuses(/expected 15 scalars with 11 operands, got 6/, [], none);
  });

  for (const [title, environment] of [["", {}], [" without AVX-512", { OCTAVO_ISA: "avx2" }]] as const) {
    it(`forwards and backwards over 4096 tokens takes less than a sixth of what its scores would take, buffers included${title}`, async function () {
      this.timeout(240_000);
      const N = 4096, H = 2, K = 32;
      const { line, exited } = child(`
        const allocate = (...shape) => device.allocate(1, shape), kernel = (name) => device.kernel(name);
        async function once(N) {
          const [q, k, v, dy, y, dq, dk, dv] = Array.from({ length: 8 }, () => allocate(1, N, ${H * K})), lse = allocate(1, ${H}, N), rules = [${H}, ${H}, 0, 0, 0, ${K ** -0.5}];
          for (const tensor of [q, k, v, dy, y, dq, dk, dv, lse]) device.launch(kernel("fill"), [tensor], [0.5]);
          await device.fence();
          const before = process.resourceUsage().maxRSS;
          device.launch(kernel("attention_forward"), [q, k, v, 0, 0, y, lse], rules);
          device.launch(kernel("attention_backward"), [dy, q, k, v, 0, 0, y, lse, dq, dk, dv, 0], rules);
          await device.fence();
          return (process.resourceUsage().maxRSS - before) * 1024;
        }
        device.configure({ threads: 1 });
        await once(64);
        console.log(await once(${N}));
        process.exit(0);`, [], environment);
      const grown = Number(await line()), scores = 4 * H * N * N;
      await exited;
      assert.ok(grown < scores / 6, `${(grown / 1e6).toFixed(1)} MB more, the scores are ${(scores / 1e6).toFixed(1)} MB`);
    });
  }
});
