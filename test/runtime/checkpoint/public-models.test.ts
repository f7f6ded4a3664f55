import assert from "node:assert/strict";
import { llamaDecoder } from "../../../plugins/decoder/llama.ts";
import { beit } from "../../../plugins/image-encoder/beit.ts";
import { bert } from "../../../plugins/prompt-encoder/bert.ts";
import { clip } from "../../../plugins/teacher/clip.ts";
import { llamaEncoder } from "../../../plugins/text-encoder/llama.ts";
import { type Plugin, type StoredEntry, type TensorComponent, type TensorSource, elements, importProblems, planExport, planImport } from "../../../runtime/index.ts";

/** Names and shapes of a full-size model, and no data: planning an import reads none. */
function outline(entries: ReadonlyMap<string, StoredEntry>): TensorSource {
  const refuse = (): never => { throw new Error("data was asked for"); };
  return { format: "outline", path: "outline", metadata: {}, names: [...entries.keys()], bytesRead: 0, entry: (name) => entries.get(name), bytes: refuse, close: () => {} };
}

const host = { resolvePath: (path: string) => path, build: () => { throw new Error("nothing is built inside"); }, seed: 1 };
const llama3 = { vocabulary: 128256, width: 4096, layers: 32, heads: 32, kv_heads: 8, head_dim: 128, hidden: 14336 };
const base = { width: 768, layers: 12, heads: 12 };

/** Sizes by hand, config.json as the release has it, and the public number of parameters. */
const models: { name: string; plugin: Plugin; options: Record<string, unknown>; config: Record<string, unknown>; given?: Record<string, unknown>; dialect?: string; total: number }[] = [
  {
    name: "Llama-3-8B without its head", plugin: llamaEncoder, options: llama3, total: 7_504_924_672,
    config: { hidden_size: 4096, intermediate_size: 14336, max_position_embeddings: 8192, num_attention_heads: 32, num_hidden_layers: 32, num_key_value_heads: 8, rms_norm_eps: 1e-5, rope_scaling: null, rope_theta: 500000.0, tie_word_embeddings: false, vocab_size: 128256, attention_bias: false },
  },
  {
    name: "Mistral-7B without its head; its window is for causal use", plugin: llamaEncoder, options: { ...llama3, vocabulary: 32000 }, total: 7_241_732_096 - 32000 * 4096,
    config: { hidden_size: 4096, intermediate_size: 14336, max_position_embeddings: 32768, num_attention_heads: 32, num_hidden_layers: 32, num_key_value_heads: 8, rms_norm_eps: 1e-5, rope_theta: 10000.0, sliding_window: 4096, tie_word_embeddings: false, vocab_size: 32000 },
  },
  {
    name: "Mistral-7B as a decoder, with its head and window", plugin: llamaDecoder, options: { ...llama3, vocabulary: 32000, tied: false, window: 4096 }, total: 7_241_732_096,
    config: { hidden_size: 4096, intermediate_size: 14336, max_position_embeddings: 32768, num_attention_heads: 32, num_hidden_layers: 32, num_key_value_heads: 8, rms_norm_eps: 1e-5, rope_theta: 10000.0, sliding_window: 4096, tie_word_embeddings: false, vocab_size: 32000 },
  },
  {
    name: "Llama-2-7B without its head, no number of key heads", plugin: llamaEncoder, options: { vocabulary: 32000, width: 4096, layers: 32, heads: 32, kv_heads: 32, head_dim: 128, hidden: 11008 }, total: 6_738_415_616 - 32000 * 4096,
    config: { hidden_size: 4096, intermediate_size: 11008, num_attention_heads: 32, num_hidden_layers: 32, rms_norm_eps: 1e-5, vocab_size: 32000 },
  },
  {
    name: "BERT-base without pooler", plugin: bert, options: { vocabulary: 30522, ...base, hidden: 3072, positions: 512 }, total: 108_891_648,
    config: { hidden_act: "gelu", hidden_size: 768, intermediate_size: 3072, layer_norm_eps: 1e-12, max_position_embeddings: 512, num_attention_heads: 12, num_hidden_layers: 12, type_vocab_size: 2, vocab_size: 30522 },
  },
  {
    name: "MiniLM-L6-H384 without pooler, 12 heads", plugin: bert, options: { vocabulary: 30522, width: 384, layers: 6, heads: 12, hidden: 1536, positions: 512 }, total: 22_565_376,
    config: { hidden_act: "gelu", hidden_size: 384, intermediate_size: 1536, layer_norm_eps: 1e-12, max_position_embeddings: 512, num_attention_heads: 12, num_hidden_layers: 6, type_vocab_size: 2, vocab_size: 30522 },
  },
  {
    name: "BEiT v2 base before fine-tuning, without its head", plugin: beit, options: { image: 224, patch: 16, ...base }, dialect: "unilm", config: {}, total: 91_965_776 - (8192 * 768 + 8192),
  },
  {
    name: "BEiT v2 base with the second branch, without its head", plugin: beit, options: { image: 224, patch: 16, ...base, cls_pt: { early_layers: 9, head_layers: 2 } }, dialect: "unilm", config: {},
    given: { cls_pt: { early_layers: 9, head_layers: 2 } }, total: 106_143_056 - (8192 * 768 + 8192),
  },
  {
    // fine-tuned: one table per block, no mask token, 1000 classes; its fc_norm is our norm
    name: "BEiT base fine-tuned, without its classes", plugin: beit, options: { image: 224, patch: 16, ...base, rel_pos_bias: "per_layer" }, total: 86_530_984 - (1000 * 768 + 1000) + 768,
    config: { hidden_act: "gelu", hidden_size: 768, image_size: 224, patch_size: 16, num_attention_heads: 12, num_hidden_layers: 12, layer_norm_eps: 1e-12, use_relative_position_bias: true, use_shared_relative_position_bias: false, use_absolute_position_embeddings: false },
  },
  {
    name: "CLIP ViT-B/16 with its text tower", plugin: clip, given: { text: {} }, total: 149_620_737,
    options: { image: 224, patch: 16, ...base, targets: 512, text: { vocabulary: 49408, context: 77, width: 512, layers: 12, heads: 8 } },
    config: {
      projection_dim: 512, vision_config: { hidden_size: 768, image_size: 224, num_attention_heads: 12, num_hidden_layers: 12, patch_size: 16, hidden_act: "quick_gelu" },
      text_config: { hidden_size: 512, num_attention_heads: 8, num_hidden_layers: 12, vocab_size: 49408, max_position_embeddings: 77 },
    },
  },
];

describe("released models in full size", () => {
  for (const { name, plugin, options, config, given, dialect, total } of models) {
    it(`${name}: ${total.toLocaleString("en")} parameters, every one with a place`, () => {
      const parameters = (plugin.create(plugin.options.parse(options), host) as TensorComponent).parameters();
      const ours = outline(new Map(Object.entries(parameters).map(([key, { shape }]) => [key, { dtype: "BF16" as const, shape }])));
      const released = planExport({ source: ours, use: plugin.id, options, dialect });
      const plan = planImport({ source: outline(released.tensors), plugin, config: Object.keys(config).length > 0 ? config : undefined, options: given });
      assert.equal(importProblems(plan), undefined);
      assert.deepEqual([plan.unexpected, plan.unused, plan.resized], [[], [], []]);
      assert.equal([...plan.tensors.values()].reduce((sum, { shape }) => sum + elements(shape), 0), total);
      for (const [key, value] of Object.entries(options)) if (typeof value === "number") assert.equal(plan.options[key], value, key);
    });
  }

  it("takes eps from config.json, where classes have another default", () => {
    const { options, config } = models.find(({ name }) => name.startsWith("BEiT base fine-tuned"))!;
    const parameters = (beit.create(beit.options.parse(options), host) as TensorComponent).parameters();
    const released = planExport({ source: outline(new Map(Object.entries(parameters).map(([key, { shape }]) => [key, { dtype: "F32" as const, shape }]))), use: "image-encoder/beit", options });
    const eps = (from: Record<string, unknown> | undefined) => planImport({ source: outline(released.tensors), plugin: beit, config: from }).options.eps;
    assert.deepEqual([eps(config), eps({ ...config, layer_norm_eps: 1e-6 }), eps(undefined)], [1e-12, 1e-6, 1e-6]);
  });
});
