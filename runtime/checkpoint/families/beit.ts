/** BEiT and BEiT v2: the original unilm names, which are ours, and Hugging Face's. */
import { affine, type Config, type Family, fromTable, number, type Rule, same, settings } from "./family.ts";
import { biasTable, blockAttention, blockFeedForward, blockNorms, gammas, gridOfTable, inBlocks } from "./vit.ts";

const shared = `rel_pos_bias.${biasTable}`;
const blockParts = [...gammas, ...blockNorms, ...blockAttention, ...blockFeedForward];

const unilm: Rule[] = [
  ...same(["cls_token"]), ...same(["mask_token"], { optional: true }),
  ...affine("patch_embed.proj", "patch_embed.proj"),
  ...same(["pos_embed"], { resize: "positions" }),
  { ours: shared, theirs: shared, resize: "relative-bias" },
  ...same(inBlocks("blocks", blockParts)),
  { ours: `blocks.{i}.attn.${biasTable}`, theirs: `blocks.{i}.attn.${biasTable}`, orElse: shared, resize: "relative-bias" },
  // fine-tuned checkpoints normalise the mean of the patches and have no `norm`
  ...affine("norm", "norm", { orElse: "fc_norm" }),
  ...affine("fc_norm", "fc_norm"), ...affine("lm_head", "lm_head"), ...affine("head", "head"),
  ...same(inBlocks("cls_pt_layers", blockParts)),
  { ours: `cls_pt_layers.{i}.attn.${biasTable}`, theirs: `cls_pt_layers.{i}.attn.${biasTable}`, orElse: shared, resize: "relative-bias" },
  ...affine("cls_pt_norm", "cls_pt_norm"), ...affine("cls_pt_lm_head", "cls_pt_lm_head"),
];

const at = "encoder.layer.{i}", blocks = "blocks.{i}", inner = `${at}.attention.attention`;
const theirShared = `encoder.relative_position_bias.${biasTable}`;
const huggingFace: (Rule & { bare?: boolean })[] = [
  { ours: "cls_token", theirs: "embeddings.cls_token" }, { ours: "mask_token", theirs: "embeddings.mask_token", optional: true },
  ...affine("patch_embed.proj", "embeddings.patch_embeddings.projection"),
  { ours: "pos_embed", theirs: "embeddings.position_embeddings", resize: "positions" },
  { ours: shared, theirs: theirShared, resize: "relative-bias" },
  { ours: `${blocks}.attn.${biasTable}`, theirs: `${inner}.relative_position_bias.${biasTable}`, orElse: theirShared, resize: "relative-bias" },
  ...affine(`${blocks}.norm1`, `${at}.layernorm_before`), ...affine(`${blocks}.norm2`, `${at}.layernorm_after`),
  { ours: `${blocks}.attn.qkv.weight`, theirs: ["query", "key", "value"].map((name) => `${inner}.${name}.weight`) },
  { ours: `${blocks}.attn.q_bias`, theirs: `${inner}.query.bias` }, { ours: `${blocks}.attn.v_bias`, theirs: `${inner}.value.bias` },
  ...affine(`${blocks}.attn.proj`, `${at}.attention.output.dense`),
  { ours: `${blocks}.gamma_1`, theirs: `${at}.lambda_1` }, { ours: `${blocks}.gamma_2`, theirs: `${at}.lambda_2` },
  ...affine(`${blocks}.mlp.fc1`, `${at}.intermediate.dense`), ...affine(`${blocks}.mlp.fc2`, `${at}.output.dense`),
  ...affine("norm", "layernorm", { orElse: "beit.pooler.layernorm" }).map((rule) => ({ ...rule, bare: true })),
  ...affine("fc_norm", "pooler.layernorm"),
  ...[...affine("lm_head", "lm_head"), ...affine("head", "classifier")].map((rule) => ({ ...rule, bare: true })),
];

export const beit: Family = {
  name: "beit",
  targets: { "image-encoder/beit": "vision." },
  dialects: [
    { name: "unilm", prefixes: [""], rules: unilm },
    { name: "hugging-face", prefixes: ["beit.", ""], rules: huggingFace },
  ],
  ignored: [/relative_position_index/],
  mustBeTold: [],
  fromConfig: (config) => [
    ...settings(config, { image: "image_size", patch: "patch_size", width: "hidden_size", layers: "num_hidden_layers", heads: "num_attention_heads", eps: "layer_norm_eps" }),
    ...(config.use_shared_relative_position_bias || config.use_relative_position_bias
      ? [{ option: "rel_pos_bias", value: config.use_relative_position_bias ? "per_layer" : "shared", neutral: "shared", from: "config.json use_relative_position_bias" }] : []),
    { option: "abs_pos", value: config.use_absolute_position_embeddings ?? false, neutral: false, from: "config.json use_absolute_position_embeddings" },
    // 0 there means none; any other number was only what they started at
    ...(config.layer_scale_init_value === 0 ? [{ option: "layer_scale", value: null, from: "config.json layer_scale_init_value" }] : []),
  ],
  fromShapes(shape, layers) {
    const ownTable = shape(`blocks.0.attn.${biasTable}`), table = ownTable ?? shape(shared), kernel = shape("patch_embed.proj.weight");
    return [
      ...fromTable({ width: shape("cls_token")?.[2], layers, heads: table?.[1], patch: kernel?.[2], image: table && kernel && gridOfTable(table[0]) * kernel[2] }),
      ...(table ? [{ option: "rel_pos_bias", value: ownTable ? "per_layer" : "shared", neutral: "shared", from: "the shapes" }] : []),
      ...(shape("blocks.0.norm1.weight") && !shape("blocks.0.gamma_1") ? [{ option: "layer_scale", value: null, from: "the shapes" }] : []),
      { option: "abs_pos", value: shape("pos_embed") !== undefined, neutral: false, from: "the shapes" },
    ];
  },
  toConfig: (o: Config) => ({
    architectures: ["BeitModel"], model_type: "beit", hidden_act: "gelu", hidden_size: o.width, num_hidden_layers: o.layers, num_attention_heads: o.heads,
    intermediate_size: 4 * Number(o.width), image_size: o.image, patch_size: o.patch, num_channels: 3, layer_norm_eps: o.eps,
    layer_scale_init_value: number(o, "layer_scale") ?? 0, use_mask_token: true, use_absolute_position_embeddings: o.abs_pos ?? false,
    use_relative_position_bias: o.rel_pos_bias === "per_layer", use_shared_relative_position_bias: (o.rel_pos_bias ?? "shared") === "shared", use_mean_pooling: false,
  }),
};
