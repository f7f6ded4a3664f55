import assert from "node:assert/strict";
import { type GradcheckOptions, Tape, gradcheck } from "../../../runtime/autograd/index.ts";
import * as nn from "../../../runtime/nn/index.ts";
import * as ops from "../../../runtime/ops/index.ts";
import { type Tensor, fromArray, full } from "../../../runtime/tensor/index.ts";
import { assertClose, flags, goldenParameter, ids, noLeaks, randn, withScope } from "../numbers.ts";

/** Gives a module well-spread f64 values, runs `work`, frees them. */
async function withValues<M extends nn.Module, T>(module: M, work: (module: M) => Promise<T>): Promise<T> {
  nn.materialise(module.parameters(), { seed: 0, prefix: "", dtype: "f64", load: (name, p) => goldenParameter(name, p.size) });
  try {
    return await work(module);
  } finally {
    nn.release(module.parameters());
  }
}

/** gradcheck over the inputs and all parameters of a module. */
async function checkModule(module: nn.Module, forward: (...inputs: Tensor[]) => Tensor, inputs: readonly Tensor[], o?: GradcheckOptions) {
  return withValues(module, async () => {
    const names = Object.keys(module.parameters());
    const values = names.map((name) => module.parameters()[name].value);
    const shadow = await Promise.all(values.map(async (value) => fromArray(await value.read(), value.shape)));
    try {
      return await gradcheck((...all) => {
        names.forEach((name, i) => module.parameters()[name].set(all[inputs.length + i]));
        return forward(...all.slice(0, inputs.length));
      }, [...inputs, ...shadow], o);
    } finally {
      shadow.forEach((tensor) => tensor.dispose());
    }
  });
}

const width = 6, heads = 2;
const frequencies = () => fromArray(new Float64Array([1, 0.2]), [2]);

const blocks: Record<string, { module: nn.Module; forward: (x: Tensor) => Tensor; tokens?: number; width?: number }> = {};
{
  const mlp = nn.mlp({ width, hidden: 5, activation: "quickGelu" });
  blocks["mlp"] = { module: mlp, forward: mlp.forward };
  const swiglu = nn.swigluFeedForward({ width, hidden: 5 });
  blocks["swigluFeedForward"] = { module: swiglu, forward: swiglu.forward };
  const norm = nn.layerNorm({ width });
  blocks["layerNorm"] = { module: norm, forward: norm.forward };
  const beit = nn.beitBlock({ width, heads, hidden: 7, layerScale: 0.1, index: 1 });
  blocks["beitBlock with layer scale"] = { module: beit, forward: (x) => beit.forward(x) };
  const plain = nn.beitBlock({ width, heads, hidden: 7 });
  blocks["beitBlock without layer scale, with dropped keys"] = { module: plain, forward: (x) => plain.forward(x, { keyMask: flags([1, 1, 0, 1, 0, 1, 1, 1, 1, 1], [2, 5]) }) };
  const positioned = nn.packedAttention({ width, heads });
  blocks["packedAttention with positions for queries and keys"] = { module: positioned, forward: (x) => positioned.forward(x, { positional: ops.scale(x, 0.5) }) };
  const multiway = nn.multiwayBlock({ width, heads, hidden: 7, experts: "image-text" });
  blocks["multiwayBlock with two experts"] = { module: multiway, forward: (x) => multiway.forward(x, { imageTokens: 2, keyMask: flags([1, 1, 1, 1, 0, 1, 1, 1, 0, 0], [2, 5]) }) };
  const single = nn.multiwayBlock({ width, heads, hidden: 7, experts: "vision-language" });
  blocks["multiwayBlock with one expert"] = { module: single, forward: (x) => single.forward(x, { imageTokens: 2 }) };
  const bert = nn.bertLayer({ width, heads, hidden: 7 });
  blocks["bertLayer"] = { module: bert, forward: (x) => bert.forward(x, { keyMask: flags([1, 1, 1, 1, 0, 1, 1, 1, 0, 0], [2, 5]) }) };
  const llama = nn.llamaLayer({ width: 8, heads: 2, kvHeads: 1, headDim: 4, hidden: 5 });
  blocks["llamaLayer"] = { module: llama, width: 8, forward: (x) => llama.forward(x, { positions: ids([0, 1, 2, 3, 4, 0, 0, 1, 2, 3], [2, 5]), invFreq: frequencies(), causal: true }) };
}

describe("nn blocks", () => {
  noLeaks();

  for (const [name, block] of Object.entries(blocks)) {
    it(`${name} has the gradient that central differences predict, for its input and every parameter`, () => withScope(async (scope) => {
      const report = await checkModule(block.module, block.forward, scope.enter(() => [randn([2, 5, block.width ?? width], { seed: 4, scale: 0.7 })]));
      assert.ok(report.maxError < 1e-6, report.toString());
      assert.ok(report.elements > nn.countParameters(block.module.parameters()));
    }));
  }

  it("embedding has the gradient that central differences predict", () => withScope(async (scope) => {
    const table = nn.embedding({ count: 4, width: 3 });
    const report = await checkModule(table, (index) => table.forward(index), scope.enter(() => [ids([1, 3, 1], [1, 3])]));
    assert.ok(report.maxError < 1e-8 && report.elements === 12, report.toString());
  }));

  it("the relative bias table gets its gradient through a block", () => withScope(async (scope) => {
    const beit = nn.beitBlock({ width, heads, hidden: 7 });
    const report = await checkModule(beit, (x, biasTable) => beit.forward(x, { biasTable, grid: [2, 2] }), scope.enter(() => [randn([1, 5, width], { seed: 1 }), randn([12, heads], { seed: 2 })]), { wrt: [0, 1] });
    assert.ok(report.maxError < 1e-6, report.toString());
  }));

  it("a BERT key bias gets exactly zero", () => withScope((scope) => withValues(nn.bertLayer({ width, heads }), async (bert) => {
    const gradient = scope.enter(() => {
      const tape = new Tape();
      const y = tape.record(() => ops.sum(bert.forward(randn([2, 3, width], { seed: 1 }))));
      return tape.backward([[y, full([1], 1, "f64")]]).get(bert.parameters()["attention.self.key.bias"].value)!;
    });
    assert.deepEqual(await gradient.read(), new Float64Array(width));
  })));

  it("packed attention equals attention with separate projections", () => withScope((scope) => withValues(nn.packedAttention({ width, heads }), async (packed) => {
    const [got, expected] = scope.enter(() => {
      const x = randn([2, 4, width], { seed: 3 });
      const { "qkv.weight": weight, q_bias, v_bias, "proj.weight": projection, "proj.bias": bias } = packed.parameters();
      const rows = (i: number) => ops.slice(weight.value, 0, i * width, width);
      const y = ops.attention({ q: ops.linear(x, rows(0), q_bias.value), k: ops.linear(x, rows(1)), v: ops.linear(x, rows(2), v_bias.value), heads });
      return [packed.forward(x), ops.linear(y, projection.value, bias.value)];
    });
    assertClose(await got.read(), await expected.read() as Float64Array, 1e-14);
    const zero = scope.enter(() => packed.forward(randn([2, 4, width], { seed: 3 }), { positional: full([4, width], 0, "f64") }));
    assertClose(await zero.read(), await got.read() as Float64Array, 1e-14, "zero positions change nothing");
  })));

  it("a multiway block with equal experts equals one with a shared expert", () => withScope((scope) =>
    withValues(nn.multiwayBlock({ width, heads, experts: "vision-language" }), (one) => withValues(nn.multiwayBlock({ width, heads, experts: "image-text" }), async (two) => {
      const named = one.parameters();
      for (const [name, parameter] of Object.entries(two.parameters())) {
        const source = named[name.replace(/_(imag|text)\./, "_vl.")];
        parameter.value.write(await source.value.read());
      }
      const outputs = scope.enter(() => [1, 0, 5].map((imageTokens) => two.forward(randn([2, 5, width], { seed: 9 }), { imageTokens })));
      const expected = await scope.enter(() => one.forward(randn([2, 5, width], { seed: 9 }), { imageTokens: 1 })).read() as Float64Array;
      for (const output of outputs) assertClose(await output.read(), expected, 1e-14);
    }))));

  it("cached decoding equals computing everything again, and the cache frees its tensors", () => withScope((scope) =>
    withValues(nn.llamaLayer({ width: 8, heads: 4, kvHeads: 2, headDim: 2, hidden: 5 }), async (layer) => {
      const x = scope.enter(() => randn([2, 5, 8], { seed: 5 }));
      const part = (start: number, length: number, cache?: nn.KeyValueCache) => scope.enter(() => layer.forward(ops.slice(x, 1, start, length), {
        positions: ids([0, 1].flatMap(() => Array.from({ length }, (_, i) => start + i)), [2, length]),
        invFreq: fromArray(new Float64Array([1]), [1]), keyMask: flags([0, 1].flatMap((b) => Array.from({ length: start + length }, (_, i) => (b === 1 && i === 1 ? 0 : 1))), [2, start + length]),
        causal: true, cache: cache && { at: ids([start], [1]), room: cache },
      }));
      const whole = part(0, 5), small: nn.KeyValueCache = { capacity: 4 };
      const pieces = [part(0, 3, small), part(3, 1, small)], cache = scope.enter(() => nn.growCache(small, 7));
      pieces.push(part(4, 1, cache));
      assert.deepEqual([cache.k!.shape, small.k], [[2, 7, 4], undefined]);
      const together = scope.enter(() => ops.concat(pieces, 1));
      assertClose(await together.read(), await whole.read() as Float64Array, 1e-14);
      nn.releaseCache(cache);
    })));

  it("llamaLayer is causal: a later token changes no earlier output", () => withScope((scope) =>
    withValues(nn.llamaLayer({ width: 8, heads: 2, headDim: 4, hidden: 5 }), async (layer) => {
      const run = (last: number) => scope.enter(() => {
        const x = ops.concat([randn([1, 3, 8], { seed: 1 }), full([1, 1, 8], last, "f64")], 1);
        return layer.forward(x, { positions: ids([0, 1, 2, 3], [1, 4]), invFreq: fromArray(new Float64Array([1, 0.5]), [2]), causal: true });
      });
      const [a, b] = await Promise.all([run(0.3).read(), run(-2).read()]);
      assert.deepEqual(a.slice(0, 24), b.slice(0, 24));
      assert.notDeepEqual(a.slice(24), b.slice(24));
    })));
});
