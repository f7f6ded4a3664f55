/** VQ-KD, the visual tokenizer of BEiT v2: the original names, which are ours. */
import { affine, type Family, fromTable, type Rule, same } from "./family.ts";
import { blockAttention, blockFeedForward, blockNorms, inBlocks } from "./vit.ts";

const transformer = (name: string): Rule[] => [
  ...same([`${name}.cls_token`]), ...same([`${name}.pos_embed`], { resize: "positions" }),
  ...affine(`${name}.patch_embed.proj`, `${name}.patch_embed.proj`), ...affine(`${name}.fc_norm`, `${name}.fc_norm`),
  ...same(inBlocks(`${name}.blocks`, [...blockNorms, ...blockAttention, ...blockFeedForward])),
];

export const vqKd: Family = {
  name: "vq-kd",
  targets: { "visual-tokenizer/vq-kd": "tokenizer." },
  dialects: [{
    name: "unilm", prefixes: [""],
    rules: [
      ...transformer("encoder"), ...transformer("decoder"),
      ...["encode_task_layer.0", "encode_task_layer.2", "decode_task_layer.0", "decode_task_layer.2"].flatMap((name) => affine(name, name)),
      ...same(["quantize.embedding.weight"]), ...same(["quantize.cluster_size"], { optional: true }),
    ],
  }],
  ignored: [/^(teacher|scaling|loss)/, /^quantize\.embedding\.(cluster_size|embed_avg|initted)$/, /\.initted$/],
  mustBeTold: ["heads"],
  fromConfig: () => [],
  fromShapes(shape) {
    const width = shape("encoder.cls_token")?.[2], patch = shape("encoder.patch_embed.proj.weight")?.[2], places = shape("encoder.pos_embed")?.[1];
    const layersOf = (name: string): number | undefined => {
      let layers = 0;
      while (shape(`${name}.blocks.${layers}.norm1.weight`)) layers++;
      return layers || undefined;
    };
    return fromTable({
      width, patch, image: places && patch && Math.sqrt(places - 1) * patch, layers: layersOf("encoder"),
      decoder_layers: layersOf("decoder"), targets: shape("decode_task_layer.2.weight")?.[0],
      codes: shape("quantize.embedding.weight")?.[0], dim: shape("quantize.embedding.weight")?.[1],
    });
  },
  toConfig: (o) => ({ model_type: "vq-kd", ...o }),
};
