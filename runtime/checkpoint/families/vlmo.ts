/** VLMo: the fusion transformer. Names are ours; what our vision-language blocks do not have is of no use here. */
import { affine, type Family, fromTable, same } from "./family.ts";
import { blockAttention, gammas, inBlocks, pair } from "./vit.ts";

const experts = ["imag", "text", "vl"].flatMap((kind) => [...pair(`norm2_${kind}`), ...pair(`mlp_${kind}.fc1`), ...pair(`mlp_${kind}.fc2`)]);

export const vlmo: Family = {
  name: "vlmo",
  targets: { "fusion/multiway": "fusion." },
  dialects: [{
    name: "vlmo", prefixes: ["transformer.", ""],
    rules: [...same(inBlocks("blocks", [...gammas, ...pair("norm1"), ...blockAttention, ...experts])), ...affine("norm", "norm")],
  }],
  // it keeps one relative bias for all layers and its own embeddings; our fusion has neither
  ignored: [/relative_position/, /^(transformer\.)?(cls_token|mask_token|pos_embed|patch_embed\.)/, /^(text_embeddings|token_type_embeddings|pooler|mlm_score|itm_score|itc_|logit_)/],
  mustBeTold: ["heads"],
  fromConfig: () => [],
  fromShapes: (shape, layers) => fromTable({ width: shape("norm.weight")?.[0], layers }),
  toConfig: (o) => ({ model_type: "vlmo", ...o }),
};
