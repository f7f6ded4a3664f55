/** CLIP: OpenAI's names, which are ours, and Hugging Face's, whose projections are transposed. */
import { affine, type Config, type Family, fromTable, number, type Rule, same, type Setting } from "./family.ts";

const parts = ["weight", "bias"] as const;
const block = [...["ln_1", "ln_2", "attn.out_proj", "mlp.c_fc", "mlp.c_proj"].flatMap((name) => parts.map((part) => `${name}.${part}`)), ...parts.map((part) => `attn.in_proj_${part}`)];
const resblock = (tower: string): string => `${tower}transformer.resblocks.{i}`;

const openai: Rule[] = [
  ...same(["visual.conv1.weight", "visual.class_embedding"]), ...same(["visual.positional_embedding"], { resize: "positions" }),
  ...affine("visual.ln_pre", "visual.ln_pre"), ...affine("visual.ln_post", "visual.ln_post"), ...same(["visual.proj"]),
  ...same(block.map((name) => `${resblock("visual.")}.${name}`)), ...same(block.map((name) => `${resblock("")}.${name}`)),
  ...same(["token_embedding.weight", "positional_embedding", "text_projection", "logit_scale"]), ...affine("ln_final", "ln_final"),
];

function tower(ours: string, theirs: string): Rule[] {
  const [mine, yours] = [resblock(ours), `${theirs}.encoder.layers.{i}`];
  return [
    ...parts.map((part) => ({ ours: `${mine}.attn.in_proj_${part}`, theirs: ["q", "k", "v"].map((name) => `${yours}.self_attn.${name}_proj.${part}`) })),
    ...affine(`${mine}.attn.out_proj`, `${yours}.self_attn.out_proj`),
    ...affine(`${mine}.ln_1`, `${yours}.layer_norm1`), ...affine(`${mine}.ln_2`, `${yours}.layer_norm2`),
    ...affine(`${mine}.mlp.c_fc`, `${yours}.mlp.fc1`), ...affine(`${mine}.mlp.c_proj`, `${yours}.mlp.fc2`),
  ];
}

const huggingFace: Rule[] = [
  { ours: "visual.conv1.weight", theirs: "vision_model.embeddings.patch_embedding.weight" },
  { ours: "visual.class_embedding", theirs: "vision_model.embeddings.class_embedding" },
  { ours: "visual.positional_embedding", theirs: "vision_model.embeddings.position_embedding.weight", resize: "positions" },
  ...affine("visual.ln_pre", "vision_model.pre_layrnorm"), // the spelling is theirs
  ...affine("visual.ln_post", "vision_model.post_layernorm"),
  { ours: "visual.proj", theirs: "visual_projection.weight", move: "transpose" },
  ...tower("visual.", "vision_model"), ...tower("", "text_model"),
  { ours: "token_embedding.weight", theirs: "text_model.embeddings.token_embedding.weight" },
  { ours: "positional_embedding", theirs: "text_model.embeddings.position_embedding.weight" },
  ...affine("ln_final", "text_model.final_layer_norm"),
  { ours: "text_projection", theirs: "text_projection.weight", move: "transpose" },
  { ours: "logit_scale", theirs: "logit_scale" },
];

export const clip: Family = {
  name: "clip",
  targets: { "teacher/clip": "teacher.", "teacher/mini-clip": "teacher." },
  dialects: [{ name: "openai", prefixes: [""], rules: openai }, { name: "hugging-face", prefixes: [""], rules: huggingFace }],
  ignored: [/position_ids$/, /^(input_resolution|context_length|vocab_size)$/],
  mustBeTold: [],
  fromConfig(config, _use) {
    const vision = (config.vision_config ?? {}) as Config, text = (config.text_config ?? {}) as Config, act = vision.hidden_act ?? "quick_gelu";
    return [
      ...told(vision, { image: "image_size", patch: "patch_size", width: "hidden_size", layers: "num_hidden_layers", heads: "num_attention_heads" }, "vision_config."),
      ...told(config, { targets: "projection_dim" }, ""),
      ...told(text, { "text.vocabulary": "vocab_size", "text.context": "max_position_embeddings", "text.width": "hidden_size", "text.layers": "num_hidden_layers", "text.heads": "num_attention_heads" }, "text_config."),
      { option: "activation", value: act, neutral: "quick_gelu", from: "config.json vision_config.hidden_act" },
    ];
  },
  fromShapes(shape, _layers) {
    const words = shape("token_embedding.weight"), width = shape("visual.class_embedding")?.[0], patch = shape("visual.conv1.weight")?.[2], places = shape("visual.positional_embedding")?.[0];
    // released towers have heads of 64
    return fromTable({
      width, patch, heads: width && width / 64, image: places && patch && Math.sqrt(places - 1) * patch, targets: shape("visual.proj")?.[1], layers: depth(shape, "visual."),
      "text.vocabulary": words?.[0], "text.width": words?.[1], "text.heads": words && words[1] / 64, "text.context": shape("positional_embedding")?.[0], "text.layers": words && depth(shape, ""),
    });
  },
  toConfig(o) {
    const text = o.text as Config | undefined;
    return {
      architectures: ["CLIPModel"], model_type: "clip", projection_dim: o.targets, logit_scale_init_value: Math.log(1 / 0.07),
      vision_config: towerConfig(o, { image_size: o.image, patch_size: o.patch }),
      ...(text && { text_config: towerConfig(text, { vocab_size: text.vocabulary, max_position_embeddings: text.context }) }),
    };
  },
};

const towerConfig = (o: Config, more: Config): Config => ({
  hidden_size: o.width, intermediate_size: 4 * Number(o.width), num_hidden_layers: o.layers, num_attention_heads: o.heads, hidden_act: "quick_gelu", layer_norm_eps: 1e-5, ...more,
});

function told(config: Config, keys: Record<string, string>, within: string): Setting[] {
  return Object.entries(keys).flatMap(([option, key]) => (number(config, key) === undefined ? [] : [{ option, value: config[key], from: `config.json ${within}${key}` }]));
}

/** Layers of one tower: both have blocks. */
function depth(shape: (ours: string) => readonly number[] | undefined, tower: string): number {
  let layers = 0;
  while (shape(`${tower}transformer.resblocks.${layers}.ln_1.weight`)) layers++;
  return layers;
}
