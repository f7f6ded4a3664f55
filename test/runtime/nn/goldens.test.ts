import assert from "node:assert/strict";
import * as nn from "../../../runtime/nn/index.ts";
import * as ops from "../../../runtime/ops/index.ts";
import { type Tensor, fromArray } from "../../../runtime/tensor/index.ts";
import { assertClose, flags, goldenFill, goldenParameter, ids, noLeaks, withScope } from "../numbers.ts";

// Small models with every tensor filled by goldenFill under its original name; the expected numbers came from running the
// original modules (BEiT v2's unilm code, VLMo) or an independent float64 implementation (Llama, BERT).

const input = (name: string, shape: number[]): Tensor => fromArray(goldenFill(name, shape.reduce((a, b) => a * b), 1, 0), shape);

async function withModel<T>(parameters: nn.Parameters, namePrefix: string, work: () => Promise<T>): Promise<T> {
  nn.materialise(parameters, { seed: 0, prefix: "", dtype: "f64", load: (name, p) => goldenParameter(namePrefix + name, p.size) });
  try {
    return await work();
  } finally {
    nn.release(parameters);
  }
}

async function assertSums(tensor: Tensor, expected: { sum: number; abs?: number; first?: number }): Promise<void> {
  const values = Array.from(await tensor.read() as Float64Array);
  const got = { sum: values.reduce((a, b) => a + b, 0), abs: values.reduce((a, b) => a + Math.abs(b), 0), first: values[0] };
  for (const key of Object.keys(expected) as (keyof typeof expected)[]) {
    assert.ok(Math.abs(got[key] - expected[key]!) < 1e-8, `${key} is ${got[key]} instead of ${expected[key]}`);
  }
}

describe("golden numbers", () => {
  noLeaks();

  it("BEiT: 32 x 32 image, patches of 8, width 16, 2 blocks, shared relative bias, masked patches", () => withScope(async (scope) => {
    const width = 16, heads = 2;
    const cls_token = new nn.Parameter([1, 1, width], { kind: "zeros" }), mask_token = new nn.Parameter([1, 1, width], { kind: "zeros" });
    const projection = new nn.Parameter([width, 3, 8, 8], { kind: "zeros" }), projectionBias = new nn.Parameter([width], { kind: "zeros" });
    const table = nn.relativeBiasTable([4, 4], heads);
    const blocks = [1, 2].map((index) => nn.beitBlock({ width, heads, layerScale: 0.1, index }));
    const norm = nn.layerNorm({ width }), lm_head = nn.linear({ in: width, out: 11 });
    const parameters = {
      ...nn.collect({ cls_token, mask_token, blocks, norm, lm_head }),
      "patch_embed.proj.weight": projection, "patch_embed.proj.bias": projectionBias, "rel_pos_bias.relative_position_bias_table": table,
    };
    await withModel(parameters, "", async () => {
      const logits = (masked: readonly number[]) => scope.enter(() => {
        const patches = ops.linear(ops.patchify(input("image", [1, 3, 32, 32]), 8), ops.reshape(projection.value, [width, -1]), projectionBias.value);
        const mask = flags(Array.from({ length: 16 }, (_, i) => Number(masked.includes(i))), [1, 16]);
        let x = ops.concat([cls_token.value, ops.maskRows(patches, mask, ops.reshape(mask_token.value, [-1]))], 1);
        for (const block of blocks) x = block.forward(x, { biasTable: table.value, grid: [4, 4] });
        return lm_head.forward(ops.slice(norm.forward(x), 1, 1, 16));
      });
      await assertSums(logits([1, 2, 5, 6, 9, 10]), { sum: 17.4482583818, abs: 74.8434923332, first: 0.4565687521 });
      await assertSums(logits([]), { sum: 6.1865110664 });
    });
  }));

  it("Llama: vocabulary 23, width 16, 4 heads, 2 key heads, 2 layers, causal and bidirectional", () => withScope(async (scope) => {
    const embed_tokens = nn.embedding({ count: 23, width: 16 }), lm_head = nn.linear({ in: 16, out: 23, bias: false });
    const layers = [0, 1].map(() => nn.llamaLayer({ width: 16, heads: 4, kvHeads: 2, headDim: 4, hidden: 24 }));
    const norm = nn.rmsNorm({ width: 16 });
    const parameters = nn.collect({ "model.embed_tokens": embed_tokens, "model.layers": layers, "model.norm": norm, lm_head });
    assert.equal(nn.countParameters(parameters), 4656);
    await withModel(parameters, "", async () => {
      const tokens = [1, 5, 7, 2, 9, 11, 3, 4];
      const logits = (causal: boolean, groups?: ops.AttentionGroups) => scope.enter(() => {
        const invFreq = fromArray(nn.ropeFrequencies64({ headDim: 4, theta: 1e4 }), [2]), positions = ids(tokens.map((_, i) => i), [1, 8]);
        let x = embed_tokens.forward(ids(tokens, [1, 8]));
        for (const layer of layers) x = layer.forward(x, { positions, invFreq, causal, groups });
        return lm_head.forward(norm.forward(x));
      });
      await assertSums(logits(true), { sum: -0.0652154189, abs: 72.8180882487, first: 0.2193065701 });
      await assertSums(logits(false), { sum: 13.0101653156, abs: 84.5694352091, first: 0.0144161748 });
      await assertSums(logits(false, { size: 4 }), { sum: 8.2486902844, abs: 74.8150133342 }); // S2-Attn, split
      const loss = scope.enter(() => ops.crossEntropy(logits(true), ids([...tokens.slice(1), -100], [1, 8]), { weight: 1 / 7 }));
      await assertSums(loss, { sum: 3.1189071069 });
    });
  }));

  it("multiway: one block with two experts, one with a shared expert, a padded text token", () => withScope(async (scope) => {
    const blocks = (["image-text", "vision-language"] as const).map((experts) => nn.multiwayBlock({ width: 16, heads: 2, experts }));
    const norm = nn.layerNorm({ width: 16 });
    const parameters = nn.collect({ blocks, norm });
    assert.equal(nn.countParameters(parameters), 8784);
    await withModel(parameters, "", async () => {
      const [first, final] = scope.enter(() => {
        const keyMask = flags([1, 1, 1, 1, 1, 1, 1, 1, 0], [1, 9]);
        const first = blocks[0].forward(ops.concat([input("mw.vision", [1, 5, 16]), input("mw.text", [1, 4, 16])], 1), { imageTokens: 5, keyMask });
        return [first, norm.forward(blocks[1].forward(first, { imageTokens: 5, keyMask }))];
      });
      await assertSums(first, { sum: 4.5774540506 });
      await assertSums(final, { sum: 2.0743747474, abs: 120.7539355303 });
      await assertSums(scope.enter(() => ops.slice(final, 1, 0, 8)), { sum: 1.716145836 });
    });
  }));

  it("BERT: vocabulary 17, width 12, 2 heads, 1 layer, one padded token", () => withScope(async (scope) => {
    const table = (count: number) => nn.embedding({ count, width: 12 });
    const words = table(17), places = table(16), kinds = table(2), norm = nn.layerNorm({ width: 12, eps: 1e-12 });
    const layer = nn.bertLayer({ width: 12, heads: 2, hidden: 24 });
    const parameters = nn.collect({
      "embeddings.word_embeddings": words, "embeddings.position_embeddings": places, "embeddings.token_type_embeddings": kinds, "embeddings.LayerNorm": norm, "encoder.layer": [layer],
    });
    await withModel(parameters, "", async () => {
      const [tokens, mean] = scope.enter(() => {
        const keyMask = flags([1, 1, 1, 1, 0], [1, 5]);
        const x = ops.add(ops.add(words.forward(ids([1, 5, 9, 2, 0], [1, 5])), places.forward(ids([0, 1, 2, 3, 4], [1, 5]))), kinds.forward(ids([0, 0, 0, 0, 0], [1, 5])));
        const y = layer.forward(norm.forward(x), { keyMask });
        return [ops.slice(y, 1, 0, 4), ops.maskedMean(y, keyMask)];
      });
      await assertSums(tokens, { sum: -1.370665011, abs: 39.7919304072 });
      assertClose((await mean.read()).slice(0, 3), [-0.5936804257, -0.1047114585, 0.4877546377], 1e-8);
    });
  }));
});
