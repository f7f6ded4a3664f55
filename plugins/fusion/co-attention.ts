/**
 * Page and words ask each other: in every layer each token looks at the other modality alone, then passes its modality's feed-forward. The
 * baseline between no attention (`fusion/concatenation`) and one attention over all (`fusion/multiway`). Source: Lu et al. 2019 (ViLBERT), without
 * its layers within a modality: the encoders are those.
 *
 * CA-1: padded text never changes the memory of real tokens; a page without words keeps its image as the feed-forwards leave it.
 * CA-2: text tokens have no order here but their boxes.
 */
import { z } from "zod";
import { add, attention, concat, definePlugin, nn, slice, type Tensor } from "../../runtime/index.ts";
import { sequence, sequenceMaxDims, sequenceOptions, sequencePorts } from "./sequence.ts";

const { modalities: _both, ...shared } = sequenceOptions;

export const coAttention = definePlugin({
  kind: "fusion", name: "co-attention", version: "1.0.0",
  about: "Image and text attend to each other, layer by layer (ViLBERT, Lu et al. 2019).",
  options: z.strictObject({
    ...shared,
    layers: z.int().positive().default(3),
    heads: z.int().positive().default(4),
    eps: z.number().positive().default(1e-6),
  }).refine((o) => o.width % o.heads === 0, { error: "width must be a multiple of heads", path: ["heads"] }),
  ports: (o) => sequencePorts({ ...o, modalities: "both" }),
  maxDims: sequenceMaxDims,
  tensor: ({ heads, width }) => {
    const each = (...parts: string[]) => parts.map((part) => `fusion.blocks.*.*.${part}`);
    return { column: each("q", "k", "v", "mlp.fc1"), row: each("proj", "mlp.fc2"), divides: { heads, hidden: 4 * width } };
  },
  create(o) {
    const joined = sequence({ ...o, modalities: "both" });
    const blocks = Array.from({ length: o.layers }, () => ({ image: side(o), text: side(o) }));
    const norm = nn.layerNorm({ width: o.width, eps: o.eps });
    const parameters = {
      ...joined.parameters(),
      ...nn.collect({ ...Object.fromEntries(blocks.flatMap(({ image, text }, i) => [[`fusion.blocks.${i}.image`, image], [`fusion.blocks.${i}.text`, text]])), "fusion.norm": norm }),
    };
    return {
      parameters: () => parameters,
      // image (B, 1 + P, Dv), text (B, T, Dt) -> memory (B, M, D), memory_mask (B, M)
      forward: (inputs, context) => {
        const { tokens, mask, imageTokens } = joined.join(inputs);
        const [image, text] = blocks.reduce(([page, words], block) => nn.throughBlock(context, () =>
          [block.image.forward(page, words, inputs.text_mask), block.text.forward(words, page)]), [slice(tokens, 1, 0, imageTokens), slice(tokens, 1, imageTokens, tokens.shape[1] - imageTokens)]);
        return { memory: norm.forward(concat([image, text], 1)), memory_mask: mask };
      },
    };
  },
});

interface Side extends nn.Module {
  /** x (B, N, D) looks at other (B, K, D), mask u8 (B, K) -> (B, N, D). */
  forward(x: Tensor, other: Tensor, mask?: Tensor): Tensor;
}

/**
 * x += proj(attention(norm(x), norm(other))); x += mlp(norm(x)). Names: norm1.*, norm_other.*, q.*, k.weight, v.*, proj.*,
 * norm2.*, mlp.*; keys have no bias, softmax would not notice one.
 */
function side({ width, heads, eps }: { width: number; heads: number; eps: number }): Side {
  const init = nn.truncatedNormal(), norm = () => nn.layerNorm({ width, eps });
  const parts = {
    norm1: norm(), norm_other: norm(), norm2: norm(), q: nn.linear({ in: width, out: width, init }), k: nn.linear({ in: width, out: width, bias: false, init }),
    v: nn.linear({ in: width, out: width, init }), proj: nn.linear({ in: width, out: width, init }), mlp: nn.mlp({ width, hidden: 4 * width, init }),
  };
  return {
    parameters: () => nn.collect(parts),
    forward(x, other, mask) {
      const seen = parts.norm_other.forward(other);
      const found = attention({ q: parts.q.forward(parts.norm1.forward(x)), k: parts.k.forward(seen), v: parts.v.forward(seen), keyMask: mask, heads: nn.headsOf(heads, parts.q.weight.split).heads });
      const asked = add(x, parts.proj.forward(found));
      return add(asked, parts.mlp.forward(parts.norm2.forward(asked)));
    },
  };
}
