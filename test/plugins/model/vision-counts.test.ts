/** How many numbers the vision side has in every preset and in the released models. Nothing is allocated: shapes alone are counted. */
import assert from "node:assert/strict";
import { memory, type Plugin } from "../../../runtime/index.ts";
import { concatenation } from "../../../plugins/fusion/concatenation.ts";
import { beit } from "../../../plugins/image-encoder/beit.ts";
import { mimCodes } from "../../../plugins/objective/mim-codes.ts";
import { clip } from "../../../plugins/teacher/clip.ts";
import { vqKd } from "../../../plugins/visual-tokenizer/vq-kd.ts";
import { build } from "./harness.ts";

const count = (plugin: Plugin, options: Record<string, unknown>, which: (name: string, trainable: boolean) => boolean = () => true) =>
  Object.entries(build(plugin, options).parameters()).filter(([name, p]) => which(name, p.trainable)).reduce((total, [, { size }]) => total + size, 0);

const tiny = { image: 128, width: 96, layers: 3, heads: 4 };
const small = { image: 256, width: 256, layers: 8, heads: 8 };
const base = { image: 512, width: 768, layers: 12, heads: 12 };
const large = { width: 1024, layers: 24, heads: 16 };

describe("parameter counts of the vision side", () => {
  it("image-encoder/beit in the five presets, pages of 128 to 1024 pixels", () => {
    assert.deepEqual([tiny, small, base, { ...base, image: 1024 }, { ...large, image: 1024 }].map((options) => count(beit, options)),
      [410_928, 6_525_728, 85_705_008, 85_850_928, 303_383_616]);
  });

  it("the models of masked pre-training: encoder, second branch, head", () => {
    const model = (options: Record<string, unknown>, early_layers: number, head_layers: number, codes: number) =>
      count(beit, { ...options, cls_pt: { early_layers, head_layers } }) + count(mimCodes, { width: options.width, codes, states: "vision", cls_pt: true });
    assert.equal(model(tiny, 2, 1, 256), 547_696);
    assert.equal(model(small, 6, 2, 2048), 8_632_096);
    assert.equal(model(base, 9, 2, 8192), 106_181_936);
    // As released, on images of 224 pixels.
    assert.equal(model({ ...base, image: 224 }, 9, 2, 8192), 106_143_056);
    assert.equal(model({ ...large, image: 224 }, 21, 2, 8192), 336_728_512);
    assert.equal(count(beit, { ...base, image: 224 }) + count(mimCodes, { width: 768, codes: 8192, states: "vision" }), 91_965_776);
  });

  it("a branch with a norm and head of its own has one more of each", () => {
    const options = (shared_head: boolean) => ({ ...tiny, cls_pt: { early_layers: 2, head_layers: 1, shared_head } });
    assert.equal(count(beit, options(false)) - count(beit, options(true)), 2 * 96);
    const head = (shared_head: boolean) => count(mimCodes, { states: "vision", cls_pt: true, shared_head });
    assert.equal(head(false), 2 * head(true));
  });

  it("fine-tuned BEiT v2: one table per block, 1000 classes, no mask token", () => {
    const fineTuned = (options: { width: number }) =>
      count(beit, { ...options, image: 224, rel_pos_bias: "per_layer" }, (name) => name !== "vision.mask_token") + 1000 * options.width + 1000;
    assert.equal(fineTuned(base), 86_530_984);
    assert.equal(fineTuned(large), 304_430_568);
  });

  it("teacher/clip: ViT-B/16 and ViT-L/14, and their vision towers", () => {
    const visual = (name: string) => name.startsWith("teacher.visual.");
    assert.deepEqual([count(clip, { text: {} }), count(clip, { text: {} }, visual), count(clip, {})], [149_620_737, 86_192_640, 86_192_640]);
    const l14 = { patch: 14, width: 1024, layers: 24, heads: 16, targets: 768, text: { width: 768, heads: 12 } };
    assert.deepEqual([count(clip, l14), count(clip, l14, visual)], [427_616_513, 303_966_208]);
  });

  it("visual-tokenizer/vq-kd in the presets, without and with its codebook", () => {
    const tokenizer = (options: Record<string, unknown>) => [
      count(vqKd, { ...options, train: true }, (_, trainable) => trainable),
      count(vqKd, { ...options, train: true }, (name) => name !== "tokenizer.quantize.cluster_size"),
    ];
    assert.deepEqual(tokenizer({ width: 64, layers: 2, heads: 4, codes: 256, dim: 16, decoder_layers: 1, targets: 64 }), [222_288, 226_384]);
    assert.deepEqual(tokenizer({ image: 256, width: 192, layers: 6, heads: 6, codes: 2048, dim: 32, decoder_layers: 2, targets: 512 }), [3_990_304, 4_055_840]);
    assert.deepEqual(tokenizer({ image: 512, width: 384, layers: 12, heads: 6, codes: 8192, dim: 32, decoder_layers: 3, targets: 512 }), [28_213_792, 28_475_936]);
    // As released, on images of 224 pixels: the codebook's counts and averages make up the rest of its 109,361,696 numbers.
    const released = { image: 224, width: 768, layers: 12, heads: 12, codes: 8192, dim: 32, decoder_layers: 3, targets: 512 };
    assert.deepEqual(tokenizer(released), [108_829_216, 109_091_360]);
    assert.equal(tokenizer(released)[1] + 8192 + 8192 * 32, 109_361_696);
  });

  it("the projections into the fusion, at paper scale of cells of 2 x 2 patches", () => {
    const projections = (options: Record<string, unknown>) => count(concatenation, options, (name) => name.startsWith("proj."));
    assert.equal(projections({ image_width: 768, text_width: 768, width: 768 }), 1_181_184);
    assert.equal(projections({ image_width: 768, text_width: 4096, width: 1024, merge: 2 }), 7_342_080);
    assert.equal(projections({ image_width: 1024, text_width: 4096, width: 1024, merge: 2 }), 8_390_656);
  });

  it("frozen, the tokenizer is its encoder and codebook, and trains nothing", () => {
    assert.equal(count(vqKd, {}, (_, trainable) => trainable), 0);
    assert.equal(count(vqKd, {}), 158_608 + 256 * 16); // d + (1+P)d + (3p²+1)d + L(12d²+12d) + 2d + (d+1)d + (d+1)D, and K D
  });

  it("allocates nothing", () => {
    const before = memory();
    count(clip, { text: {} });
    assert.deepEqual(memory(), before);
  });
});
