/** Llama and Mistral (identical names): Hugging Face's, those of the bare inner model (LLM2Vec), Meta's originals. */
import { type Config, type Family, fromTable, number, type Rule, same, type Setting, settings } from "./family.ts";

const attention = ["q_proj", "k_proj", "v_proj", "o_proj"], feedForward = ["gate_proj", "up_proj", "down_proj"];
const layer = (name: string): string => `layers.{i}.${name}`;

const inner: Rule[] = [
  ...same(["embed_tokens.weight"], { resize: "vocabulary" }),
  ...same(attention.map((name) => layer(`self_attn.${name}.weight`))),
  ...same(attention.map((name) => layer(`self_attn.${name}.bias`))),
  ...same(feedForward.map((name) => layer(`mlp.${name}.weight`))),
  ...same([layer("input_layernorm.weight"), layer("post_attention_layernorm.weight"), "norm.weight"]),
];
const head: Rule = { ours: "lm_head.weight", theirs: "lm_head.weight", resize: "vocabulary" };

/** Meta's rotary pairs lie side by side; ours, as Hugging Face's, half a head apart. */
const meta: Rule[] = [
  { ours: "embed_tokens.weight", theirs: "tok_embeddings.weight", resize: "vocabulary" },
  { ours: layer("self_attn.q_proj.weight"), theirs: layer("attention.wq.weight"), move: "halves-of-heads" },
  { ours: layer("self_attn.k_proj.weight"), theirs: layer("attention.wk.weight"), move: "halves-of-kv-heads" },
  { ours: layer("self_attn.v_proj.weight"), theirs: layer("attention.wv.weight") },
  { ours: layer("self_attn.o_proj.weight"), theirs: layer("attention.wo.weight") },
  { ours: layer("mlp.gate_proj.weight"), theirs: layer("feed_forward.w1.weight") },
  { ours: layer("mlp.down_proj.weight"), theirs: layer("feed_forward.w2.weight") },
  { ours: layer("mlp.up_proj.weight"), theirs: layer("feed_forward.w3.weight") },
  { ours: layer("input_layernorm.weight"), theirs: layer("attention_norm.weight") },
  { ours: layer("post_attention_layernorm.weight"), theirs: layer("ffn_norm.weight") },
  { ours: "norm.weight", theirs: "norm.weight" },
  { ours: "lm_head.weight", theirs: "output.weight", resize: "vocabulary" },
];

export const llama: Family = {
  name: "llama",
  targets: { "text-encoder/llama": "text.", "decoder/llama": "decoder." },
  dialects: [
    { name: "hugging-face", prefixes: ["model.", ""], rules: [...inner, { ...head, bare: true }] },
    { name: "inner", prefixes: [""], rules: inner },
    { name: "meta", prefixes: [""], rules: meta },
  ],
  ignored: [/rotary_emb\.inv_freq$/, /^rope\.freqs$/],
  mustBeTold: ["heads", "kv_heads"],
  fromConfig,
  fromShapes: (shape) => fromTable({
    vocabulary: shape("embed_tokens.weight")?.[0], width: shape("embed_tokens.weight")?.[1], hidden: shape("layers.0.mlp.gate_proj.weight")?.[0],
  }),
  toConfig: (o, dtype) => ({
    architectures: [o.window ? "MistralForCausalLM" : "LlamaForCausalLM"], model_type: o.window ? "mistral" : "llama", hidden_act: "silu",
    hidden_size: o.width, intermediate_size: o.hidden, num_hidden_layers: o.layers, num_attention_heads: o.heads, num_key_value_heads: o.kv_heads,
    head_dim: o.head_dim ?? Number(o.width) / Number(o.heads), rms_norm_eps: o.eps, rope_theta: o.rope_theta, rope_scaling: o.rope_scaling ?? null,
    vocab_size: o.vocabulary, tie_word_embeddings: o.tied ?? (o.lm_head ?? "none") === "none", attention_bias: false,
    ...(o.window ? { sliding_window: o.window } : {}), torch_dtype: { F32: "float32", BF16: "bfloat16", F16: "float16" }[dtype as string] ?? "float32",
  }),
};

function fromConfig(config: Config, use: string): Setting[] {
  if (config.dim !== undefined && config.hidden_size === undefined) return fromParams(config);
  // newer files nest theta and scaling
  const nested = (config.rope_parameters ?? {}) as Config;
  const theta = number(config, "rope_theta") ?? number(nested, "rope_theta");
  const heads = number(config, "num_attention_heads"), width = number(config, "hidden_size");
  const scaling = ropeScaling((config.rope_scaling ?? nested) as Config);
  return [
    ...settings(config, { vocabulary: "vocab_size", width: "hidden_size", hidden: "intermediate_size", layers: "num_hidden_layers", heads: "num_attention_heads", eps: "rms_norm_eps" }),
    ...settings({ num_key_value_heads: heads, head_dim: heads && width && width / heads, rope_theta: theta, ...dropNull(config) }, { kv_heads: "num_key_value_heads", head_dim: "head_dim", rope_theta: "rope_theta" }),
    { option: "rope_scaling", value: scaling, neutral: null, from: "config.json rope_scaling" },
    // an encoder reads the whole page: the window of the language model is not used there
    ...(use.startsWith("decoder/") ? [
      { option: "window", value: config.sliding_window ?? null, neutral: null, from: "config.json sliding_window" },
      { option: "tied", value: config.tie_word_embeddings ?? false, neutral: true, from: "config.json tie_word_embeddings" },
    ] : []),
    { option: "attention_bias", value: config.attention_bias ?? false, neutral: false, from: "config.json attention_bias" },
  ];
}

/** Meta's params.json: the width of the feed-forward and, mostly, the vocabulary are told by shapes. */
function fromParams(config: Config): Setting[] {
  const heads = number(config, "n_heads"), width = number(config, "dim");
  return settings({ n_kv_heads: heads, head_dim: heads && width && width / heads, ...dropNull(config) },
    { width: "dim", layers: "n_layers", heads: "n_heads", kv_heads: "n_kv_heads", head_dim: "head_dim", eps: "norm_eps", rope_theta: "rope_theta" })
    .map((setting) => ({ ...setting, from: setting.from.replace("config.json", "params.json") }));
}

/** null where positions are not scaled; the type under one name, `type`. */
function ropeScaling(scaling: Config): Config | null {
  const { rope_type, type = rope_type, rope_theta: _theta, ...rest } = scaling;
  return type === undefined || type === "default" ? null : { type, ...rest };
}

const dropNull = (config: Config): Config => Object.fromEntries(Object.entries(config).filter(([, value]) => value !== null && value !== undefined));
