/**
 * What the words say: a Llama stack that looks both ways. Only padded keys are hidden.
 * Sources: Touvron et al. 2023 (Llama), Su et al. 2021 (RoPE), Ainslie et al. 2023 (GQA), BehnamGhader et al. 2024 (bidirectional use).
 *
 * Text is padded on the right, so positions are 0 .. T-1. Parameter names are those of the released checkpoints under `text.`,
 * without their `model.` prefix.
 */
import { z } from "zod";
import { definePlugin, fromArray, nn, port, toPrecision, widened } from "../../runtime/index.ts";

export const llamaEncoder = definePlugin({
  kind: "text-encoder", name: "llama", version: "1.0.0",
  about: "Llama stack run bidirectionally over padded text (LLM2Vec).",
  options: z.strictObject({
    vocabulary: z.int().positive().default(2048),
    width: z.int().positive().default(96),
    layers: z.int().positive().default(3),
    heads: z.int().positive().default(4),
    kv_heads: z.int().positive().default(2),
    head_dim: z.int().positive().multipleOf(2).default(24),
    hidden: z.int().positive().default(256),
    rope_theta: z.number().positive().default(10_000),
    eps: z.number().positive().default(1e-5),
    /** `causal` is how a language model was trained; documents are read in both directions. */
    attention: z.enum(["bidirectional", "causal"]).default("bidirectional"),
  }).refine((o) => o.heads % o.kv_heads === 0, { error: "heads must be a multiple of kv_heads", path: ["kv_heads"] }),
  ports: ({ vocabulary, width }) => ({
    in: { text_ids: port(["B", "T"], { dtype: "i32" }), text_mask: port(["B", "T"], { dtype: "u8" }) },
    // The table itself leaves too, so that an objective can share it while it has one owner.
    out: { states: port(["B", "T", width]), embedding: port([vocabulary, width]) },
  }),
  create(o) {
    const table = nn.embedding({ count: o.vocabulary, width: o.width });
    const layers = Array.from({ length: o.layers }, () => nn.llamaLayer({
      width: o.width, heads: o.heads, kvHeads: o.kv_heads, headDim: o.head_dim, hidden: o.hidden, eps: o.eps }));
    const norm = nn.rmsNorm({ width: o.width, eps: o.eps });
    const parameters = nn.collect({ "text.embed_tokens": table, "text.layers": layers, "text.norm": norm });
    const frequencies = nn.ropeFrequencies64({ headDim: o.head_dim, theta: o.rope_theta });
    const causal = o.attention === "causal";

    return {
      parameters: () => parameters,
      // text_ids (B, T), text_mask (B, T) -> states (B, T, D), embedding (V, D)
      forward: ({ text_ids, text_mask }, { precision }) => {
        const [batch, length] = text_ids.shape;
        const embedded = toPrecision(table.forward(text_ids), precision);
        const positions = fromArray(Int32Array.from({ length: batch * length }, (_, i) => i % length), [batch, length]);
        const invFreq = fromArray(frequencies, [o.head_dim / 2], widened(embedded.dtype));
        const states = layers.reduce((x, layer) => layer.forward(x, { positions, invFreq, keyMask: text_mask, causal }), embedded);
        return { states: norm.forward(states), embedding: table.weight.value };
      },
    };
  },
});
