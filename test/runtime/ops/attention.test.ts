// What attention must hold whatever the kernel does: goldens of S2-Attn, invariants INV-A1 to A5 and INV-S1 to S5, decoding.
import assert from "node:assert/strict";
import { Tape } from "../../../runtime/autograd/index.ts";
import { ShapeError } from "../../../runtime/errors.ts";
import * as ops from "../../../runtime/ops/index.ts";
import { type Tensor, fromArray, zeros } from "../../../runtime/tensor/index.ts";
import { assertClose, code, flags, goldenFill, ids, noLeaks, randn, withScope } from "../numbers.ts";

type Options = Omit<ops.AttentionInput, "q" | "k" | "v">;
type Sees = (h: number, i: number, j: number) => boolean;

const read = async (t: Tensor): Promise<Float64Array> => await t.read() as Float64Array;

/** The formula on one page, in plain loops: values (N, H*K) of queries, keys, values with as many key heads as heads. */
function formula(q: Float64Array, k: Float64Array, v: Float64Array, heads: number, width: number, sees: Sees): Float64Array {
  const K = width / heads, y = new Float64Array(q.length);
  for (let i = 0; i < q.length / width; i++) for (let h = 0; h < heads; h++) {
    const at = (n: number, d: number) => n * width + h * K + d;
    const weights = Array.from({ length: k.length / width }, (_, j) => {
      let dot = 0;
      for (let d = 0; d < K; d++) dot += q[at(i, d)] * k[at(j, d)];
      return sees(h, i, j) ? Math.exp(dot / Math.sqrt(K)) : 0;
    });
    const total = weights.reduce((a, b) => a + b, 0);
    if (total) weights.forEach((weight, j) => { for (let d = 0; d < K; d++) y[at(i, d)] += (weight / total) * v[at(j, d)]; });
  }
  return y;
}

/** Which outputs change when token j of one page x = q = k = v changes: tokens i, and pairs "i/h" of token and head. */
async function reached(N: number, j: number, o: Options): Promise<{ tokens: number[]; pairs: Set<string> }> {
  return withScope(async (scope) => {
    const width = o.heads * 2, values = await read(scope.enter(() => randn([1, N, width], { seed: 7 })));
    const changed = values.slice();
    for (let d = 0; d < width; d++) changed[j * width + d] += 0.5;
    const run = (x: Tensor) => ops.attention({ ...o, q: x, k: x, v: x });
    const [a, b] = await Promise.all(scope.enter(() => [run(fromArray(values, [1, N, width])), run(fromArray(changed, [1, N, width]))]).map(read));
    const pairs = new Set<string>(), tokens = new Set<number>();
    a.forEach((x, at) => { if (x !== b[at]) { tokens.add(Math.floor(at / width)); pairs.add(`${Math.floor(at / width)}/${Math.floor((at % width) / 2)}`); } });
    return { tokens: [...tokens].sort((x, y) => x - y), pairs };
  });
}

const range = (first: number, last: number) => Array.from({ length: last - first }, (_, i) => first + i);

describe("attention", () => {
  noLeaks();

  describe("G-S2, goldens of S2-Attn: q, k, v of (1, 4, 16, 4), groups of 4", () => {
    // The original's plain path gives roll, its variable-length path gives split; run in float64.
    const goldens = [["roll", true, 4.3251422376, 91.0380989071], ["split", true, 4.6448288558, 92.6038547646],
      ["roll", false, 12.9230409778, 63.8666575134], ["split", false, 13.577089305, 66.7883644271]] as const;
    for (const [wrap, causal, sum, abs] of goldens) {
      it(`${wrap}, ${causal ? "causal" : "bidirectional"}`, () => withScope(async (scope) => {
        const y = await read(scope.enter(() => {
          const [q, k, v] = ["q", "k", "v"].map((name) =>
            ops.reshape(ops.permute(fromArray(goldenFill(`s2.${name}`, 256, 1, 0), [1, 4, 16, 4]), [0, 2, 1, 3]), [1, 16, 16]));
          return ops.attention({ q, k, v, heads: 4, causal, groups: { size: 4, wrap } });
        }));
        assertClose([y.reduce((a, b) => a + b, 0), y.reduce((a, b) => a + Math.abs(b), 0)], [sum, abs], 1e-8, "sum and sum of magnitudes");
      }));
    }
  });

  it("INV-A1: causal, a change at token j alters no output before j, and alters those from j on", async () => {
    assert.deepEqual((await reached(9, 4, { heads: 2, causal: true })).tokens, range(4, 9));
  });

  it("INV-A2: bidirectional, it alters all", async () => {
    assert.deepEqual((await reached(9, 4, { heads: 2 })).tokens, range(0, 9));
  });

  it("a window of 3: it alters outputs j to j + 2", async () => {
    assert.deepEqual((await reached(9, 4, { heads: 2, causal: true, window: 3 })).tokens, [4, 5, 6]);
  });

  it("boundaries: it alters its own sequence", async () => {
    assert.deepEqual((await reached(9, 4, { heads: 2, boundaries: [0, 3, 3, 7, 9] })).tokens, [3, 4, 5, 6]);
  });

  it("INV-A3: neither content nor amount of padding alters real outputs", () => withScope(async (scope) => {
    const real = await read(scope.enter(() => randn([1, 5, 8], { seed: 3 })));
    for (const o of [{}, { causal: true }, { causal: true, window: 2 }, { dropout: { p: 0.3, sampleIds: [4], seed: 1, step: 2, site: 3 } }] satisfies Partial<Options>[]) {
      const padded = (extra: number, seed: number) => scope.enter(() => {
        const x = ops.concat([fromArray(real, [1, 5, 8]), randn([1, extra, 8], { seed, scale: 50 })], 1);
        return ops.slice(ops.attention({ q: x, k: x, v: x, heads: 2, keyMask: flags(range(0, 5 + extra).map((i) => Number(i < 5)), [1, 5 + extra]), ...o }), 1, 0, 5);
      });
      const alone = await read(scope.enter(() => { const x = fromArray(real, [1, 5, 8]); return ops.attention({ q: x, k: x, v: x, heads: 2, ...o }); }));
      for (const [extra, seed] of [[3, 1], [3, 2], [12, 3]]) assertClose(await read(padded(extra, seed)), alone, 1e-12, JSON.stringify(o));
    }
  }));

  it("a packed batch gives what its sequences give alone, dropout included", () => withScope(async (scope) => {
    const lengths = [3, 1, 6], starts = [0, 3, 4], dropout = { p: 0.4, seed: 9, step: 1, site: 5 };
    const x = scope.enter(() => randn([1, 10, 8], { seed: 5 }));
    const packed = scope.enter(() => ops.attention({ q: x, k: x, v: x, heads: 2, causal: true, boundaries: [0, 3, 4, 10], dropout: { ...dropout, sampleIds: [21, 22, 23] } }));
    const alone = scope.enter(() => ops.concat(lengths.map((n, s) => {
      const part = ops.slice(x, 1, starts[s], n);
      return ops.attention({ q: part, k: part, v: part, heads: 2, causal: true, dropout: { ...dropout, sampleIds: [21 + s] } });
    }), 1));
    assertClose(await read(packed), await read(alone), 1e-12);
  }));

  it("heads shared out give what they give together, dropout included, when they say which is their first", () => withScope(async (scope) => {
    const x = scope.enter(() => randn([2, 5, 8], { seed: 5 })), dropout = { p: 0.4, seed: 9, step: 1, site: 5, sampleIds: [1, 2] };
    const together = scope.enter(() => ops.attention({ q: x, k: x, v: x, heads: 4, dropout }));
    const apart = scope.enter(() => ops.concat([0, 2].map((firstHead) => {
      const part = ops.slice(x, 2, firstHead * 2, 4);
      return ops.attention({ q: part, k: part, v: part, heads: 2, dropout: { ...dropout, firstHead } });
    }), 2));
    assertClose(await read(apart), await read(together), 1e-12);
  }));

  it("INV-A4: keys and values permuted together with their mask give the same; queries may be fewer or more (cross attention)", () => withScope(async (scope) => {
    for (const [Nq, Nk] of [[3, 6], [7, 6], [1, 6]]) {
      const order = [4, 0, 5, 2, 1, 3], mask = [1, 0, 1, 1, 1, 0];
      const [q, k, v] = scope.enter(() => [randn([1, Nq, 6], { seed: 1 }), randn([1, Nk, 6], { seed: 2 }), randn([1, Nk, 6], { seed: 3 })]);
      const permuted = (t: Tensor) => ops.reshape(ops.gatherRows(ops.reshape(t, [Nk, 6]), ids(order)), [1, Nk, 6]);
      const [plain, other] = scope.enter(() => [ops.attention({ q, k, v, heads: 3, keyMask: flags(mask, [1, Nk]) }),
        ops.attention({ q, k: permuted(k), v: permuted(v), heads: 3, keyMask: flags(order.map((j) => mask[j]), [1, Nk]) })]);
      assertClose(await read(other), await read(plain), 1e-12);
      assertClose(await read(plain), formula(await read(q), await read(k), await read(v), 3, 6, (_h, _i, j) => mask[j] === 1), 1e-12);
    }
  }));

  it("INV-A5: grouped queries equal attention with every key head repeated in place", () => withScope(async (scope) => {
    const [q, k, v] = scope.enter(() => [randn([2, 5, 12], { seed: 1 }), randn([2, 5, 6], { seed: 2 }), randn([2, 5, 6], { seed: 3 })]);
    const repeated = (t: Tensor) => ops.concat([0, 0, 1, 1].map((h) => ops.slice(t, 2, h * 3, 3)), 2);
    const [grouped, full] = scope.enter(() => [ops.attention({ q, k, v, heads: 4, kvHeads: 2 }), ops.attention({ q, k: repeated(k), v: repeated(v), heads: 4, kvHeads: 4 })]);
    assertClose(await read(grouped), await read(full), 1e-12);
  }));

  it("INV-S1: groups equal the formula under the group rule", () => withScope(async (scope) => {
    const N = 24, g = 8;
    const rules: Record<"split" | "roll", (i: number) => [group: number, order: number]> = {
      split: (i) => [Math.floor((i + g / 2) / g), i],
      roll: (i) => [Math.floor(((i - g / 2 + N) % N) / g), (i - g / 2 + N) % N],
    };
    const [q, k, v] = scope.enter(() => [1, 2, 3].map((seed) => randn([1, N, 8], { seed })));
    for (const wrap of ["split", "roll"] as const) for (const causal of [false, true]) {
      const place = (h: number, i: number) => (h < 2 ? [Math.floor(i / g), i] : rules[wrap](i));
      const sees: Sees = (h, i, j) => place(h, i)[0] === place(h, j)[0] && (!causal || place(h, j)[1] <= place(h, i)[1]);
      const y = await read(scope.enter(() => ops.attention({ q, k, v, heads: 4, causal, groups: { size: g, wrap } })));
      assertClose(y, formula(await read(q), await read(k), await read(v), 4, 8, sees), 1e-12, `${wrap} ${causal}`);
    }
  }));

  it("INV-S2: a change reaches the groups that contain it, head by head; two layers reach 3g/2 tokens", async () => {
    const one = await reached(16, 5, { heads: 2, groups: { size: 4 } });
    assert.deepEqual([...one.pairs].sort(), ["2/1", "3/1", "4/0", "4/1", "5/0", "5/1", "6/0", "7/0"]);
    // Heads do not mix inside attention alone: x, the sum over heads, is what a layer would pass on.
    const two = await withScope(async (scope) => {
      const values = await read(scope.enter(() => randn([1, 16, 4], { seed: 7 })));
      const changed = values.map((x, at) => (Math.floor(at / 4) === 5 ? x + 0.5 : x));
      const layer = (x: Tensor) => ops.add(x, ops.linear(ops.attention({ q: x, k: x, v: x, heads: 2, groups: { size: 4 } }), randn([4, 4], { seed: 8 })));
      const [a, b] = await Promise.all(scope.enter(() => [values, changed].map((x) => layer(layer(fromArray(x, [1, 16, 4]))))).map(read));
      return range(0, 16).filter((i) => range(0, 4).some((d) => a[4 * i + d] !== b[4 * i + d]));
    });
    assert.deepEqual(two, range(0, 10)); // groups 4..8 and 2..6, then theirs: 0..4, 4..8 and 2..6, 6..10
    assert.ok(two.length >= 6);
  });

  it("INV-S3: with one group of all tokens the first half of the heads equals full attention", () => withScope(async (scope) => {
    const x = scope.enter(() => randn([2, 6, 8], { seed: 1 }));
    for (const wrap of ["split", "roll"] as const) {
      const [one, full] = scope.enter(() => [{ size: 6, wrap }, undefined].map((groups) => ops.slice(ops.attention({ q: x, k: x, v: x, heads: 4, groups, causal: true }), 2, 0, 4)));
      assert.deepEqual(await read(one), await read(full));
    }
  }));

  it("INV-S4: causal split never looks ahead; causal roll does only from the first g/2 tokens to the last g/2", async () => {
    const N = 12, g = 4;
    for (const j of range(0, N)) {
      const split = await reached(N, j, { heads: 2, causal: true, groups: { size: g } });
      assert.ok(split.tokens.every((i) => i >= j), `split, token ${j} reached ${split.tokens}`);
      const roll = await reached(N, j, { heads: 2, causal: true, groups: { size: g, wrap: "roll" } });
      assert.deepEqual(roll.tokens.filter((i) => i < j), j >= N - g / 2 ? range(0, g / 2) : [], `roll, token ${j}`);
    }
  });

  it("INV-S5: bidirectional roll follows the tokens when they are rolled by a whole group", () => withScope(async (scope) => {
    const g = 4, x = scope.enter(() => randn([1, 12, 8], { seed: 1 }));
    const rolled = (t: Tensor) => ops.concat([ops.slice(t, 1, g, 12 - g), ops.slice(t, 1, 0, g)], 1);
    const run = (t: Tensor) => ops.attention({ q: t, k: t, v: t, heads: 2, groups: { size: g, wrap: "roll" } });
    const [a, b] = scope.enter(() => [run(rolled(x)), rolled(run(x))]);
    assertClose(await read(a), await read(b), 1e-12);
  }));

  it("decoding a few tokens at a time behind a prefix equals reading all at once, with and without a window", () => withScope(async (scope) => {
    const [q, k, v] = scope.enter(() => [randn([2, 9, 8], { seed: 1 }), randn([2, 9, 4], { seed: 2 }), randn([2, 9, 4], { seed: 3 })]);
    for (const window of [undefined, 3]) {
      const o = { heads: 4, kvHeads: 2, causal: true, window };
      const whole = scope.enter(() => ops.attention({ q, k, v, ...o }));
      const steps = scope.enter(() => ops.concat([[0, 4], [4, 1], [5, 1], [6, 3]].map(([at, n]) =>
        ops.attention({ q: ops.slice(q, 1, at, n), k: ops.slice(k, 1, 0, at + n), v: ops.slice(v, 1, 0, at + n), ...o })), 1));
      assertClose(await read(steps), await read(whole), 1e-12, `window ${window}`);
    }
  }));

  it("a query without a visible key: zeros, and gradients without NaN, under every rule", () => withScope(async (scope) => {
    const dropout = { p: 0.5, sampleIds: [1], seed: 1, step: 1, site: 1 };
    for (const dtype of ["f32", "f64"] as const) {
      for (const o of [{}, { causal: true, window: 2 }, { groups: { size: 2 } }, { groups: { size: 2, wrap: "roll" } }, { boundaries: [0, 2, 4] }, { dropout }] satisfies Partial<Options>[]) {
        const [q, k, v] = scope.enter(() => [1, 2, 3].map((seed) => randn([1, 4, 4], { seed, dtype })));
        const tape = new Tape();
        for (const x of [q, k, v]) tape.watch(x);
        const y = scope.enter(() => tape.record(() => ops.attention({ q, k, v, heads: 2, keyMask: flags([0, 0, 0, 0], [1, 4]), ...o })));
        const gradients = scope.enter(() => tape.backward([[y, randn([1, 4, 4], { seed: 4, dtype })]]));
        for (const t of [y, ...[q, k, v].map((x) => gradients.get(x)!)]) assertClose(await read(t), Array(16).fill(0), 0, `${dtype} ${JSON.stringify(o)}`);
      }
    }
  }));

  it("drops about the share p of the weights, differently in every step, and nothing when p is 0", () => withScope(async (scope) => {
    const N = 64, eye = Float64Array.from({ length: N * N }, (_, at) => Number(at % (N + 1) === 0));
    const weights = (p: number, step: number) => scope.enter(() => ops.attention({ q: zeros([1, N, N], "f64"), k: zeros([1, N, N], "f64"), v: fromArray(eye, [1, N, N]), heads: 1,
      dropout: { p, sampleIds: [3], seed: 1, step, site: 2 } }));
    const [a, b, none] = await Promise.all([weights(0.25, 0), weights(0.25, 1), weights(0, 0)].map(read));
    const dropped = a.filter((x) => x === 0).length / a.length;
    assert.ok(Math.abs(dropped - 0.25) < 0.03, `${dropped}`); // 4.4 standard deviations of 4096 draws
    assert.ok(a.some((x, at) => x !== b[at]));
    assertClose(none, new Float64Array(N * N).fill(1 / N), 1e-12);
  }));

  it("refuses what its rules cannot mean, naming the option", () => withScope(async (scope) => {
    const x = scope.enter(() => zeros([1, 6, 8])), y = scope.enter(() => zeros([1, 4, 8])), two = scope.enter(() => zeros([2, 6, 8]));
    const refuses = (operand: string, o: Partial<ops.AttentionInput>) => scope.enter(() => assert.throws(() => ops.attention({ q: x, k: x, v: x, heads: 2, ...o }),
      (error) => error instanceof ShapeError && error.details.operand === operand, operand));
    refuses("window", { window: 2 });
    for (const window of [0, -1, 1.5]) refuses("window", { window, causal: true });
    refuses("window", { window: 2, causal: true, groups: { size: 2 } });
    for (const size of [0, 3, 4, 2.5]) refuses("groups", { groups: { size } });
    refuses("groups", { groups: { size: 2 }, heads: 1 });
    refuses("groups", { groups: { size: 2 }, q: y });
    refuses("groups", { groups: { size: 2 }, boundaries: [0, 6] });
    refuses("boundaries", { boundaries: [0, 6], q: y });
    refuses("boundaries", { boundaries: [0, 6], q: two, k: two, v: two });
    refuses("dropout.sampleIds", { dropout: { p: 0.1, sampleIds: [1, 2], seed: 0, step: 0, site: 0 } });
    refuses("dropout.sampleIds", { dropout: { p: 0.1, sampleIds: [1], seed: 0, step: 0, site: 0 }, boundaries: [0, 3, 6] });
    refuses("dropout.queryLengths", { dropout: { p: 0.1, sampleIds: [1], queryLengths: [1, 2], seed: 0, step: 0, site: 0 } });
    scope.enter(() => assert.throws(() => ops.attention({ q: x, k: x, v: x, heads: 2, dropout: { p: 1, sampleIds: [1], seed: 0, step: 0, site: 0 } }), code("ERR_INPUT", /dropout\.p expected in \[0, 1\), got 1/)));
    scope.enter(() => assert.throws(() => ops.attention({ q: x, k: x, v: x, heads: 2, boundaries: fromArray(Float32Array.of(0, 6), [2]) }), code("ERR_DTYPE")));
  }));
});
