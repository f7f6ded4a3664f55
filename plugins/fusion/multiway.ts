/**
 * Page and words read each other: one attention over both, then a feed-forward expert per modality in the lower layers and one
 * for both in the last. Source: Bao et al. 2022 (VLMo); the names of its layers.
 *
 * FU-1: padded text never changes the memory of real tokens.
 * FU-2: text tokens have no order here but their boxes: permuting tokens with their boxes permutes the memory.
 */
import { z } from "zod";
import { definePlugin, nn } from "../../runtime/index.ts";
import { sequence, sequenceOptions, sequenceMaxDims, sequencePorts } from "./sequence.ts";

export const multiway = definePlugin({
  kind: "fusion", name: "multiway", version: "1.0.0",
  about: "Shared attention with image, text and image-text experts (VLMo, Bao et al. 2022).",
  options: z.strictObject({
    ...sequenceOptions,
    layers: z.int().positive().default(3),
    heads: z.int().positive().default(4),
    /** How many of the last layers have one expert for both modalities. */
    vision_language_layers: z.int().nonnegative().default(1),
    layer_scale: z.number().default(0.1),
    /** Positions enter the queries and keys of every layer, in place of the tokens once. */
    position_per_layer: z.boolean().default(false),
    /** Rate at which the last layer drops whole pages of a branch; it rises evenly from 0 for the first. */
    drop_path: z.number().min(0).lt(1).default(0),
    eps: z.number().positive().default(1e-6),
  }).refine((o) => o.vision_language_layers <= o.layers, { error: "vision_language_layers must not exceed layers", path: ["vision_language_layers"] })
    .refine((o) => o.width % o.heads === 0, { error: "width must be a multiple of heads", path: ["heads"] }),
  ports: sequencePorts,
  maxDims: sequenceMaxDims,
  tensor: ({ layers, vision_language_layers: joint, heads, width }) => {
    const experts = [...(joint > 0 ? ["mlp_vl"] : []), ...(joint < layers ? ["mlp_imag", "mlp_text"] : [])];
    const each = (...parts: string[]) => parts.map((part) => `fusion.blocks.*.${part}`), fc = (layer: string) => experts.map((expert) => `${expert}.${layer}`);
    return {
      column: each("attn.qkv", ...fc("fc1")), row: each("attn.proj", ...fc("fc2")), packed: { "fusion.blocks.*.attn.qkv": 3 },
      along: { "fusion.blocks.*.attn.q_bias": 0, "fusion.blocks.*.attn.v_bias": 0 }, divides: { heads, hidden: 4 * width },
    };
  },
  create(o) {
    const joined = sequence(o, { positions: o.position_per_layer ? "apart" : "added" });
    const blocks = Array.from({ length: o.layers }, (_, i) => nn.multiwayBlock({
      width: o.width, heads: o.heads, layerScale: o.layer_scale, eps: o.eps,
      experts: i < o.layers - o.vision_language_layers ? "image-text" : "vision-language",
    }));
    const norm = nn.layerNorm({ width: o.width, eps: o.eps });
    const rates = nn.dropPathRates(o.drop_path, o.layers);
    const parameters = { ...joined.parameters(), ...nn.collect({ "fusion.blocks": blocks, "fusion.norm": norm }) };

    return {
      parameters: () => parameters,
      // image (B, 1 + P, Dv), text (B, T, Dt) -> memory (B, M, D), memory_mask (B, M)
      forward: (inputs, context) => {
        const { tokens, mask, imageTokens, positions } = joined.join(inputs);
        const states = blocks.reduce((x, block, i) => nn.throughBlock(context, () => block.forward(x, {
          imageTokens, keyMask: mask, positional: positions, drop: nn.dropBranches(`fusion.blocks.${i}`, rates[i], context),
        })), tokens);
        return { memory: norm.forward(states), memory_mask: mask };
      },
    };
  },
});
