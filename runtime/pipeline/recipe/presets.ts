/**
 * The sizes of the document model: one table of five presets, and what each means for the options of every component plugin.
 *
 * PS-1: `preset: small` in a recipe gives every component these options; what the recipe itself says wins.
 * PS-2: the tiny preset is what the plugins' own defaults are.
 */

export const presetNames = ["tiny", "small", "base", "paper-A", "paper-B"] as const;
export type PresetName = (typeof presetNames)[number];

interface Stack { width: number; layers: number; heads: number }
interface Llama extends Stack { kv: number; head: number; hidden: number; theta: number }

/** `side`: of the page in pixels; patches have 16. `merge`: patches per side of a cell of the memory. `text`, `prompt`: longest, in tokens. */
export interface PresetSizes {
  page: { side: number; merge: number; text: number; prompt: number };
  vision: Stack & { layerScale: number };
  /** Layers before the second branch of masked pre-training starts, and its own layers. */
  clsPt: { early: number; head: number };
  vocabulary: number;
  locations: { base: number; bins: number };
  text: Llama;
  fusion: Stack & { visionLanguage: number };
  position: { features: number; hidden: number };
  prompt: Stack & { vocabulary: number; hidden: number; positions: number };
  decoder: Llama & { tied: boolean };
  visualTokenizer: Stack & { image: number; decoderLayers: number; codes: number; dim: number };
  teacher: Stack & { targets: number };
}

const llama3: Llama = { width: 4096, layers: 32, heads: 32, kv: 8, head: 128, hidden: 14336, theta: 500_000 };
const mistral: Llama = { ...llama3, theta: 1_000_000 };
const beitBase: PresetSizes["vision"] = { width: 768, layers: 12, heads: 12, layerScale: 0.1 };
const beitLarge: PresetSizes["vision"] = { width: 1024, layers: 24, heads: 16, layerScale: 1e-5 };
/** MiniLM-L6-H384. */
const miniLm: PresetSizes["prompt"] = { vocabulary: 30522, width: 384, layers: 6, heads: 12, hidden: 1536, positions: 512 };
/** CLIP ViT-B/16. */
const clipBase: PresetSizes["teacher"] = { width: 768, layers: 12, heads: 12, targets: 512 };

const paper = {
  page: { side: 1024, merge: 2, text: 8192, prompt: 512 },
  fusion: { width: 1024, layers: 12, heads: 16, visionLanguage: 3 },
  position: { features: 768, hidden: 32 },
  prompt: miniLm,
  // as released: trained on images of 224 pixels
  visualTokenizer: { image: 224, width: 768, layers: 12, heads: 12, decoderLayers: 3, codes: 8192, dim: 32 },
  teacher: clipBase,
} satisfies Partial<PresetSizes>;

export const presets: Readonly<Record<PresetName, PresetSizes>> = {
  tiny: {
    page: { side: 128, merge: 1, text: 128, prompt: 64 },
    vision: { width: 96, layers: 3, heads: 4, layerScale: 0.1 }, clsPt: { early: 2, head: 1 },
    vocabulary: 2048, locations: { base: 16, bins: 128 },
    text: { width: 96, layers: 3, heads: 4, kv: 2, head: 24, hidden: 256, theta: 10_000 },
    fusion: { width: 96, layers: 3, heads: 4, visionLanguage: 1 }, position: { features: 64, hidden: 32 },
    prompt: { vocabulary: 2048, width: 64, layers: 2, heads: 4, hidden: 256, positions: 64 },
    decoder: { width: 128, layers: 3, heads: 4, kv: 2, head: 32, hidden: 352, theta: 10_000, tied: true },
    visualTokenizer: { image: 128, width: 64, layers: 2, heads: 4, decoderLayers: 1, codes: 256, dim: 16 },
    teacher: { width: 64, layers: 2, heads: 4, targets: 64 },
  },
  small: {
    page: { side: 256, merge: 1, text: 512, prompt: 128 },
    vision: { width: 256, layers: 8, heads: 8, layerScale: 0.1 }, clsPt: { early: 6, head: 2 },
    vocabulary: 8192, locations: { base: 16, bins: 1024 },
    text: { width: 256, layers: 8, heads: 8, kv: 4, head: 32, hidden: 704, theta: 10_000 },
    fusion: { width: 256, layers: 6, heads: 8, visionLanguage: 2 }, position: { features: 256, hidden: 32 },
    prompt: { vocabulary: 8192, width: 192, layers: 3, heads: 6, hidden: 768, positions: 128 },
    decoder: { width: 256, layers: 8, heads: 8, kv: 4, head: 32, hidden: 704, theta: 10_000, tied: true },
    visualTokenizer: { image: 256, width: 192, layers: 6, heads: 6, decoderLayers: 2, codes: 2048, dim: 32 },
    teacher: { width: 256, layers: 4, heads: 4, targets: 512 },
  },
  base: {
    page: { side: 512, merge: 1, text: 1024, prompt: 512 },
    vision: beitBase, clsPt: { early: 9, head: 2 },
    vocabulary: 24576, locations: { base: 16, bins: 1024 },
    text: { width: 768, layers: 8, heads: 12, kv: 4, head: 64, hidden: 2048, theta: 500_000 },
    fusion: { width: 768, layers: 4, heads: 12, visionLanguage: 1 }, position: { features: 768, hidden: 32 },
    prompt: miniLm,
    decoder: { width: 768, layers: 6, heads: 12, kv: 4, head: 64, hidden: 2048, theta: 500_000, tied: true },
    visualTokenizer: { image: 512, width: 384, layers: 12, heads: 6, decoderLayers: 3, codes: 8192, dim: 32 },
    teacher: clipBase,
  },
  // 16 reserved and 1024 location tokens stand behind the released vocabulary
  "paper-A": {
    ...paper, vision: beitBase, clsPt: { early: 9, head: 2 },
    vocabulary: 128_256 + 16 + 1024, locations: { base: 128_256 + 16, bins: 1024 }, text: llama3, decoder: { ...llama3, tied: false },
  },
  "paper-B": {
    ...paper, vision: beitLarge, clsPt: { early: 21, head: 2 },
    vocabulary: 32_000 + 16 + 1024, locations: { base: 32_000 + 16, bins: 1024 }, text: mistral, decoder: { ...mistral, tied: false },
  },
};

const patch = 16;
/** Reserved tokens before the locations; the first is `<pad>`, id 0 in vocabularies of our own. */
const specials = 16;

/** Options by `use`. What a preset leaves open keeps the plugin's default. */
export function presetOptions(name: PresetName): Readonly<Record<string, Readonly<Record<string, unknown>>>> {
  const { page, vision, vocabulary, locations, text, fusion, position, prompt, decoder, visualTokenizer, teacher } = presets[name];
  const grid = page.side / patch / page.merge, { width } = fusion;
  const llama = ({ width, layers, heads, kv, head, hidden, theta }: Llama): Record<string, number> =>
    ({ vocabulary, width, layers, heads, kv_heads: kv, head_dim: head, hidden, rope_theta: theta });
  const sequence = { image_width: vision.width, text_width: text.width, width, grid, merge: page.merge };
  const { decoderLayers, ...encoder } = visualTokenizer;
  return {
    "data-loader/shards": { image_size: page.side, patch_size: patch, merge: page.merge, max_text: page.text, max_prompt: page.prompt },
    "image-encoder/beit": { image: page.side, patch, width: vision.width, layers: vision.layers, heads: vision.heads, layer_scale: vision.layerScale },
    "text-encoder/llama": llama(text),
    "position/fourier": { ...position, width, grid },
    "fusion/multiway": { ...sequence, layers: fusion.layers, heads: fusion.heads, vision_language_layers: fusion.visionLanguage },
    "fusion/co-attention": { ...sequence, layers: fusion.layers, heads: fusion.heads },
    "fusion/concatenation": sequence,
    "prompt-encoder/bert": { ...prompt, memory_width: width },
    "decoder/llama": { ...llama(decoder), ...(decoder.tied ? {} : { tied: false }), ...(locations.base > specials && { pad_id: locations.base - specials }), memory_width: width },
    "objective/mlm": { width, text_width: text.width, vocabulary, grid },
    "objective/mim-codes": { width, grid, merge: page.merge, codes: encoder.codes },
    "objective/mim-teacher": { width, grid, merge: page.merge, targets: teacher.targets },
    "objective/wpa": { width, grid },
    "objective/answer": { width: decoder.width, vocabulary, location_base: locations.base, location_bins: locations.bins },
    "objective/vq-kd": { patches: (encoder.image / patch) ** 2, dim: encoder.dim, codes: encoder.codes, targets: teacher.targets },
    "visual-tokenizer/vq-kd": { ...encoder, patch, decoder_layers: decoderLayers, targets: teacher.targets },
    "teacher/stub-clip": { image: page.side, patch, ...teacher },
  };
}

export interface PresetComponent { name: string; use: string; options: Readonly<Record<string, unknown>> }

/** The whole model, joint pre-training and fine-tuning together, component by component; and what only earlier stages have. */
export function presetComponents(name: PresetName): { model: PresetComponent[]; stages: PresetComponent[] } {
  const options = presetOptions(name), { clsPt, vision, page } = presets[name];
  const of = (component: string, use: string, more: Record<string, unknown> = {}): PresetComponent => ({ name: component, use, options: { ...options[use], ...more } });
  return {
    model: [
      of("image", "image-encoder/beit"), of("text", "text-encoder/llama"), of("position", "position/fourier"), of("fusion", "fusion/multiway"),
      of("prompt", "prompt-encoder/bert"), of("decoder", "decoder/llama"), of("mlm", "objective/mlm"), of("mim", "objective/mim-codes"),
      of("wpa", "objective/wpa"), of("answer", "objective/answer"),
    ],
    stages: [
      of("codes", "visual-tokenizer/vq-kd", { train: true }),
      of("masked-image", "image-encoder/beit", { cls_pt: { early_layers: clsPt.early, head_layers: clsPt.head } }),
      of("masked-image-head", "objective/mim-codes", { width: vision.width, grid: page.side / patch, merge: 1, states: "vision", cls_pt: true }),
    ],
  };
}

/** Tokens per page: text and prompt at their longest, question and answer together as in fine-tuning. */
export function presetTokens(name: PresetName): { T: number; Q: number; A: number } {
  const { text, prompt } = presets[name].page;
  return { T: text, Q: prompt, A: 96 };
}
