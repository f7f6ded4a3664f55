/** How many numbers the text side, the fusion, the prompt encoder and the decoder have in every preset and in released models. Nothing is allocated. */
import assert from "node:assert/strict";
import { memory, nn, type Plugin } from "../../../runtime/index.ts";
import { llamaDecoder } from "../../../plugins/decoder/llama.ts";
import { multiway } from "../../../plugins/fusion/multiway.ts";
import { beit } from "../../../plugins/image-encoder/beit.ts";
import { answer } from "../../../plugins/objective/answer.ts";
import { mimCodes } from "../../../plugins/objective/mim-codes.ts";
import { mlm } from "../../../plugins/objective/mlm.ts";
import { wpa } from "../../../plugins/objective/wpa.ts";
import { fourier } from "../../../plugins/position/fourier.ts";
import { bert } from "../../../plugins/prompt-encoder/bert.ts";
import { pointEncoding } from "../../../plugins/prompt-encoder/points.ts";
import { llamaEncoder } from "../../../plugins/text-encoder/llama.ts";
import { build } from "./harness.ts";

/** Trained numbers, those whose name `which` takes. */
const count = (plugin: Plugin, options: Record<string, unknown>, which: (name: string) => boolean = () => true) =>
  Object.entries(build(plugin, options).parameters()).filter(([name, { trainable }]) => trainable && which(name)).reduce((total, [, { size }]) => total + size, 0);

const llama3 = { width: 4096, layers: 32, heads: 32, kv_heads: 8, head_dim: 128, hidden: 14336 };
/** Sizes of the five presets: tiny, small, base, paper-A (Llama-3), paper-B (Mistral). */
const presets = {
  vision: [{}, { image: 256, width: 256, layers: 8, heads: 8 }, { image: 512, width: 768, layers: 12, heads: 12 }, { image: 1024, width: 768, layers: 12, heads: 12 },
    { image: 1024, width: 1024, layers: 24, heads: 16 }],
  text: [{}, { vocabulary: 8192, width: 256, layers: 8, heads: 8, kv_heads: 4, head_dim: 32, hidden: 704 }, { vocabulary: 24576, width: 768, layers: 8, heads: 12, kv_heads: 4, head_dim: 64, hidden: 2048 },
    { vocabulary: 128256 + 1040, ...llama3 }, { vocabulary: 32000 + 1040, ...llama3 }],
  fusion: [{ image_width: 96, text_width: 96 }, { image_width: 256, text_width: 256, width: 256, layers: 6, heads: 8, vision_language_layers: 2, grid: 16 },
    { image_width: 768, text_width: 768, width: 768, layers: 4, heads: 12, vision_language_layers: 1, grid: 32 },
    ...[768, 1024].map((image_width) => ({ image_width, text_width: 4096, width: 1024, layers: 12, heads: 16, vision_language_layers: 3, grid: 32, merge: 2 }))],
  position: [{}, { width: 256, features: 256 }, ...[768, 1024, 1024].map((width) => ({ width, features: 768 }))],
  prompt: [{}, { vocabulary: 8192, width: 192, layers: 3, heads: 6, hidden: 768, positions: 128, memory_width: 256 },
    ...[768, 1024, 1024].map((memory_width) => ({ vocabulary: 30522, width: 384, layers: 6, heads: 12, hidden: 1536, positions: 512, memory_width }))],
  decoder: [{}, { memory_width: 256, vocabulary: 8192, width: 256, layers: 8, heads: 8, kv_heads: 4, hidden: 704 },
    { memory_width: 768, vocabulary: 24576, width: 768, layers: 6, heads: 12, kv_heads: 4, hidden: 2048 },
    ...[129296, 33040].map((vocabulary) => ({ memory_width: 1024, vocabulary, ...llama3, tied: false }))],
};
const heads = [[96, 96, 128, 2048, 256, 1], [256, 256, 256, 8192, 2048, 1], [768, 768, 768, 24576, 8192, 1], [1024, 4096, 4096, 129296, 8192, 2], [1024, 4096, 4096, 33040, 8192, 2]]
  .map(([width, text_width, decoder, vocabulary, codes, merge]) => count(mlm, { width, text_width, vocabulary }) + count(mimCodes, { width, codes, merge }) + count(wpa, { width })
    + count(answer, { width: decoder, vocabulary }));

describe("parameter counts of the whole model in five presets", () => {
  const of = (plugin: Plugin, sizes: Record<string, unknown>[], prefix = "") => sizes.map((each) => count(plugin, each, (name) => name.startsWith(prefix)));
  const blocks = {
    vision: of(beit, presets.vision), text: of(llamaEncoder, presets.text), projections: of(multiway, presets.fusion, "proj."), positions: of(fourier, presets.position),
    fusion: of(multiway, presets.fusion, "fusion."), prompt: of(bert, presets.prompt), decoder: of(llamaDecoder, presets.decoder), heads,
  };
  const published: Record<keyof typeof blocks, number[]> = {
    vision: [410_928, 6_525_728, 85_705_008, 85_850_928, 303_383_616],
    text: [501_408, 7_999_744, 69_219_072, 7_509_184_512, 7_114_919_936],
    projections: [18_624, 131_584, 1_181_184, 7_342_080, 8_390_656],
    positions: [3_824, 12_960, 38_816, 43_296, 43_296],
    fusion: [484_992, 6_845_440, 42_529_536, 226_733_056, 226_733_056],
    prompt: [241_952, 2_983_168, 22_862_976, 22_961_536, 22_961_536],
    decoder: [828_416, 8_065_536, 57_223_680, 8_042_979_328, 7_254_450_176],
    heads: [79_333, 799_493, 8_691_973, 72_552_725, 72_456_469],
  };
  for (const name of Object.keys(published) as (keyof typeof blocks)[]) it(name, () => assert.deepEqual(blocks[name], published[name]));

  it("in all", () => {
    const totals = [0, 1, 2, 3, 4].map((preset) => Object.values(blocks).reduce((sum, sizes) => sum + sizes[preset], 0));
    assert.deepEqual(totals, [2_569_477, 33_363_653, 287_452_245, 15_967_647_461, 15_003_338_741]);
  });

  it("a shared base takes table, layers and norm away from the decoder", () => {
    const own = count(llamaDecoder, { ...presets.decoder[0] }), shared = count(llamaDecoder, { ...presets.decoder[0], share_base_with_text: true });
    assert.equal(own - shared, llamaDecoder.ports(llamaDecoder.options.parse({ share_base_with_text: true })).in.base.dims[0]);
    assert.equal(shared, 96 * 128 + 128, "the memory's projection");
  });
});

describe("parameter counts of released language models", () => {
  const encoder = (options: Record<string, unknown>, head = true) => count(llamaEncoder, { ...options, lm_head: head ? "trained" : "none" });
  const decoder = (options: Record<string, unknown>, tied: boolean) => count(llamaDecoder, { ...options, tied }, (name) => name.startsWith("decoder."));
  const models: [name: string, options: Record<string, unknown>, total: number, tied?: boolean][] = [
    ["Llama-3-8B", { vocabulary: 128256, ...llama3 }, 8_030_261_248],
    ["Mistral-7B", { vocabulary: 32000, ...llama3 }, 7_241_732_096],
    ["Llama-2-7B", { vocabulary: 32000, ...llama3, kv_heads: 32, hidden: 11008 }, 6_738_415_616],
    ["Llama-3.2-1B, tied", { vocabulary: 128256, width: 2048, layers: 16, heads: 32, kv_heads: 8, head_dim: 64, hidden: 8192 }, 1_235_814_400, true],
    ["Sheared-LLaMA-1.3B", { vocabulary: 32000, width: 2048, layers: 24, heads: 16, kv_heads: 16, head_dim: 128, hidden: 5504 }, 1_345_423_360],
    ["TinyLlama-1.1B", { vocabulary: 32000, width: 2048, layers: 22, heads: 32, kv_heads: 4, head_dim: 64, hidden: 5632 }, 1_100_048_384],
  ];
  for (const [name, options, total, tied = false] of models) {
    it(`${name}: ${total.toLocaleString("en")}, as encoder and as decoder`, () => {
      assert.equal(encoder(options, !tied), total);
      assert.equal(decoder(options, tied), total);
    });
  }

  it("Llama-3-8B without its head: 7,504,924,672", () => assert.equal(encoder({ vocabulary: 128256, ...llama3 }, false), 7_504_924_672));

  it("BERT-base and MiniLM-L6-H384, without the pooler (width² + width)", () => {
    const inner = (options: Record<string, unknown>) => count(bert, options, (name) => name.startsWith("prompt.bert."));
    const base = inner({ vocabulary: 30522, width: 768, layers: 12, heads: 12, hidden: 3072, positions: 512 }), mini = inner(presets.prompt[2]);
    assert.deepEqual([base, mini, base + 768 ** 2 + 768, mini + 384 ** 2 + 384], [108_891_648, 22_565_376, 109_482_240, 22_713_216]);
  });

  it("SAM's prompt encoder: points and padding of width 256; the rest of its 6,220 are of masks", () => {
    const { pe_gaussian, ...trained } = pointEncoding(256).parameters();
    // 4 + 1 vectors; masks: no_mask_embed 256 and convolutions 1 -> 4 -> 16 -> 256 with two norms, 2 x 2 x 4 + 4, 8, 4 x 16 x 4 + 16, 32, 16 x 256 + 256
    assert.equal(nn.countParameters(trained) + 256 + (16 + 4) + 8 + (256 + 16) + 32 + (4096 + 256), 6_220);
    assert.equal(pe_gaussian.trainable, false);
  });

  it("adapters on Llama-3-8B: four maps with r 8, seven with r 16", () => {
    const learned = (lora: Record<string, unknown>) => count(llamaEncoder, { vocabulary: 128256, ...llama3, lora });
    assert.equal(learned({ r: 8, alpha: 16, targets: ["q_proj", "k_proj", "v_proj", "o_proj"] }), 6_815_744);
    assert.equal(learned({ r: 16, alpha: 32 }), 41_943_040);
  });

  it("allocates nothing", () => {
    const before = memory();
    count(llamaDecoder, presets.decoder[3]);
    assert.deepEqual(memory(), before);
  });
});
