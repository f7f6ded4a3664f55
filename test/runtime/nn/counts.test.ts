import assert from "node:assert/strict";
import * as nn from "../../../runtime/nn/index.ts";

/** The presets' sizes: width, depth, heads and so on, with the published totals of the blocks as literals. */
const count = (...modules: nn.Module[]): number => modules.reduce((total, module) => total + nn.countParameters(module.parameters()), 0);
const many = <T>(n: number, make: (i: number) => T): T[] => Array.from({ length: n }, (_, i) => make(i));

describe("parameter counts", () => {
  it("BEiT block: 12 d² + 14 d with layer scale, 2 d less without", () => {
    for (const d of [96, 256, 768]) {
      assert.equal(count(nn.beitBlock({ width: d, heads: d / 32, layerScale: 0.1, index: 1 })), 12 * d * d + 14 * d);
      assert.equal(count(nn.beitBlock({ width: d, heads: d / 32 })), 12 * d * d + 12 * d);
    }
  });

  it("ViT of the tiny, small and base presets", () => {
    // d (cls) + d (mask) + patch projection + blocks + shared bias table + final norm
    for (const [d, layers, heads, grid, total] of [[96, 3, 4, 8, 410_928], [256, 8, 8, 16, 6_525_728], [768, 12, 12, 32, 85_705_008]]) {
      const blocks = many(layers, (i) => nn.beitBlock({ width: d, heads, layerScale: 0.1, index: i + 1 }));
      const table = nn.relativeBiasTable([grid, grid], heads);
      assert.equal(2 * d + count(nn.linear({ in: 3 * 16 * 16, out: d }), ...blocks, nn.layerNorm({ width: d })) + table.size, total);
    }
  });

  it("Llama layer: d K (2 H + 2 KV) + 3 d f + 2 d, and the text encoders", () => {
    for (const [vocabulary, width, layers, heads, kvHeads, headDim, hidden, total] of [
      [2048, 96, 3, 4, 2, 24, 256, 501_408], [8192, 256, 8, 8, 4, 32, 704, 7_999_744], [24576, 768, 8, 12, 4, 64, 2048, 69_219_072], [129296, 4096, 32, 32, 8, 128, 14336, 7_509_184_512],
    ]) {
      const layer = nn.llamaLayer({ width, heads, kvHeads, headDim, hidden });
      assert.equal(count(layer), width * headDim * (2 * heads + 2 * kvHeads) + 3 * width * hidden + 2 * width);
      assert.equal(vocabulary * width + layers * count(layer) + width, total);
    }
  });

  it("multiway blocks, and the fusion of the presets", () => {
    for (const [d, layers, heads, last, total] of [[96, 3, 4, 1, 484_992], [256, 6, 8, 2, 6_845_440], [768, 4, 12, 1, 42_529_536], [1024, 12, 16, 3, 226_733_056]]) {
      const two = nn.multiwayBlock({ width: d, heads, experts: "image-text" });
      const one = nn.multiwayBlock({ width: d, heads, experts: "vision-language" });
      const expert = 8 * d * d + 5 * d + 2 * d;
      assert.equal(count(two), 4 * d * d + 3 * d + 2 * d + 2 * d + 2 * expert);
      assert.equal(count(one), 4 * d * d + 7 * d + expert);
      assert.equal(2 * d + (layers - last) * count(two) + last * count(one) + count(nn.layerNorm({ width: d })), total);
    }
  });

  it("BERT: (V + P + 2) d + 2 d + L (12 d² + 13 d); MiniLM-L6 without pooler", () => {
    const d = 384;
    assert.equal(count(nn.bertLayer({ width: d, heads: 12 })), 12 * d * d + 13 * d);
    const table = (rows: number) => nn.embedding({ count: rows, width: d });
    assert.equal(count(table(30522), table(512), table(2), nn.layerNorm({ width: d }), ...many(6, () => nn.bertLayer({ width: d, heads: 12 }))), 22_565_376);
  });

  it("uses the names of the original checkpoints", () => {
    assert.deepEqual(Object.keys(nn.beitBlock({ width: 8, heads: 2, layerScale: 0.1 }).parameters()), ["gamma_1", "gamma_2", "norm1.weight", "norm1.bias", "attn.qkv.weight",
      "attn.q_bias", "attn.v_bias", "attn.proj.weight", "attn.proj.bias", "norm2.weight", "norm2.bias", "mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias"]);
    assert.deepEqual(Object.keys(nn.llamaLayer({ width: 8, heads: 2, hidden: 8 }).parameters()), [..."qkvo"].map((p) => `self_attn.${p}_proj.weight`)
      .concat(["gate", "up", "down"].map((p) => `mlp.${p}_proj.weight`), "input_layernorm.weight", "post_attention_layernorm.weight"));
    const own = (experts: "image-text" | "vision-language") => Object.keys(nn.multiwayBlock({ width: 8, heads: 2, experts }).parameters()).filter((name) => /norm2|mlp/.test(name));
    const expert = (e: string) => [`norm2_${e}.weight`, `norm2_${e}.bias`, `mlp_${e}.fc1.weight`, `mlp_${e}.fc1.bias`, `mlp_${e}.fc2.weight`, `mlp_${e}.fc2.bias`];
    assert.deepEqual(own("image-text"), [...expert("imag"), ...expert("text")]);
    assert.deepEqual(own("vision-language"), expert("vl"));
    const both = (name: string) => [`${name}.weight`, `${name}.bias`];
    assert.deepEqual(Object.keys(nn.bertLayer({ width: 8, heads: 2 }).parameters()), ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
      "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"].flatMap(both));
  });

  it("starts deep projections smaller: divided by sqrt(2 index)", () => {
    const parameters = nn.beitBlock({ width: 8, heads: 2, index: 3 }).parameters();
    for (const name of ["attn.proj.weight", "mlp.fc2.weight"]) assert.deepEqual(parameters[name].init, { kind: "truncated-normal", std: 0.02, divide: Math.sqrt(6) });
    for (const name of ["attn.qkv.weight", "mlp.fc1.weight"]) assert.deepEqual(parameters[name].init, { kind: "truncated-normal", std: 0.02 });
  });
});

describe("ropeFrequencies", () => {
  const near = (got: number, expected: number) => assert.ok(Math.abs(got / expected - 1) < 1e-12, `${got} against ${expected}`);
  // Llama-3 (theta 5e5, head width 128) and its 3.1 scaling (8, 1, 4, 8192), computed by the original code in f64.
  it("are powers of theta", () => {
    const f = nn.ropeFrequencies64({ headDim: 128, theta: 5e5 });
    assert.equal(f.length, 64);
    for (const [i, value] of [[0, 1], [1, 0.8146172338565447], [16, 0.03760603093086393], [32, 0.001414213562373095], [63, 2.455140791131609e-6]]) near(f[i], value);
  });
  it("are kept, blended and divided by the llama3 rule", () => {
    const plain = nn.ropeFrequencies64({ headDim: 128, theta: 5e5 });
    const f = nn.ropeFrequencies64({ headDim: 128, theta: 5e5, scaling: { type: "llama3", factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalPositions: 8192 } });
    for (let i = 0; i <= 28; i++) assert.equal(f[i], plain[i]);
    for (let i = 35; i < 64; i++) assert.equal(f[i], plain[i] / 8);
    for (const [i, value] of [[29, 0.002166570763503359], [32, 0.0005248461609929547], [34, 0.00017850781276799638], [63, 3.068925988914511e-7]]) near(f[i], value);
  });
  it("are divided by a linear factor, and stretched by theta when a sequence is long", () => {
    const plain = nn.ropeFrequencies64({ headDim: 8, theta: 1e4 });
    assert.deepEqual(nn.ropeFrequencies64({ headDim: 8, theta: 1e4, scaling: { type: "linear", factor: 4 } }), plain.map((f) => f / 4));
    const dynamic = (length: number) => nn.ropeFrequencies64({ headDim: 8, theta: 1e4, scaling: { type: "dynamic", factor: 2, originalPositions: 100, length } });
    assert.deepEqual(dynamic(100), plain);
    near(dynamic(200)[1], (1e4 * 3 ** (8 / 6)) ** (-2 / 8)); // (2 * 200 / 100) - 1 = 3
  });
});
