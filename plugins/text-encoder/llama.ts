/**
 * What the words say: a Llama or Mistral stack, looking both ways over documents, only back while it learns as a language model.
 * Sources: Touvron et al. 2023 (Llama), Jiang et al. 2023 (Mistral's window), Su et al. 2021 (RoPE), Ainslie et al. 2023 (GQA), Chen et al. 2023
 * (LongLoRA: S2-Attn), BehnamGhader et al. 2024 (LLM2Vec: bidirectional use, pooling), Gao et al. 2021 (SimCSE: two passes), Hu et al. 2021 (LoRA).
 *
 * TE-1: text is padded on the right, so positions are 0 .. T-1; padding never changes the state of a real token.
 * TE-2: `attention: s2` is for training; elsewhere the same component attends in full.
 * TE-3: names are those of released checkpoints under `text.`, without their `model.` prefix; of adapters, PEFT's (nn.LoraOptions).
 */
import { z } from "zod";
import {
  adaptersFrom, concat, definePlugin, fromArray, loraOption, nn, pad, port, reshape, ropeScalingFrom, ropeScalingOption, slice, toPrecision, widened, zeros,
  type ForwardContext, type Ports, type Tensor, type TensorComponent,
} from "../../runtime/index.ts";
import { pooled, poolings } from "./pooling.ts";

const options = z.strictObject({
  vocabulary: z.int().positive().default(2048),
  width: z.int().positive().default(96),
  layers: z.int().positive().default(3),
  heads: z.int().positive().default(4),
  kv_heads: z.int().positive().default(2),
  head_dim: z.int().positive().multipleOf(2).default(24),
  hidden: z.int().positive().default(256),
  rope_theta: z.number().positive().default(10_000),
  rope_scaling: ropeScalingOption.nullish(),
  eps: z.number().positive().default(1e-5),
  /** Documents are read in both directions; `causal` is how a language model was trained; `s2` reads in shifted groups (see `s2`). */
  attention: z.enum(["bidirectional", "causal", "s2"]).default("bidirectional"),
  s2: z.strictObject({
    causal: z.boolean().default(false),
    /** `roll` joins the end and the beginning of the text, and so looks ahead where it is causal. */
    wrap: z.enum(["split", "roll"]).default("split"),
    /** Groups as a share of the padded text: 1/2, 1/3, 1/4 ... */
    ratio: z.number().positive().max(1).default(0.25),
    /** Tokens per group, in place of the ratio. */
    group: z.int().positive().multipleOf(2).optional(),
  }).refine(({ ratio }) => Math.abs(1 / ratio - Math.round(1 / ratio)) < 1e-6, { error: "ratio must be 1, 1/2, 1/3, 1/4 ...", path: ["ratio"] }).prefault({}),
  /** Mistral's sliding window; causal attention alone heeds it. */
  window: z.int().positive().nullish(),
  /** Of the weights of attention, while training. */
  attention_dropout: z.number().min(0).lt(1).default(0),
  /** Adds the output `pooled`, of `pool_mask` where it is connected, else of all real tokens. */
  pooling: z.enum(poolings).optional(),
  /** 2: the same texts once more with dropout of their own, as `pooled_again` (SimCSE). */
  passes: z.union([z.literal(1), z.literal(2)]).default(1),
  /** A table of its own for next-token logits, as the output `head`; without one the embedding is both. */
  lm_head: z.enum(["none", "trained", "frozen"]).default("none"),
  lora: loraOption.optional(),
  /** Adds the output `base`: table, layers and norm end to end, for a decoder that has the same ones. */
  share_base: z.boolean().default(false),
}).refine((o) => o.heads % o.kv_heads === 0, { error: "heads must be a multiple of kv_heads", path: ["kv_heads"] })
  .refine((o) => o.attention !== "s2" || o.heads % 2 === 0, { error: "heads must be even: half of them have displaced groups", path: ["heads"] })
  .refine((o) => o.passes === 1 || o.pooling !== undefined, { error: "passes: 2 needs a pooling", path: ["pooling"] })
  .refine((o) => o.passes === 1 || o.attention_dropout > 0 || (o.lora?.dropout ?? 0) > 0, {
    error: "passes: 2 needs attention_dropout or lora.dropout: without any the two passes are the same", path: ["attention_dropout"] });

export const llamaEncoder = definePlugin({
  kind: "text-encoder", name: "llama", version: "1.0.0",
  about: "Llama or Mistral stack over padded text, bidirectional (LLM2Vec), causal or in shifted groups, with LoRA.",
  options,
  ports: ({ vocabulary, width, pooling, passes, lm_head, share_base, ...o }): Ports => ({
    in: {
      text_ids: port(["B", "T"], { dtype: "i32" }), text_mask: port(["B", "T"], { dtype: "u8" }),
      ...(pooling && { pool_mask: port(["B", "T"], { dtype: "u8", optional: true }) }),
    },
    // The table itself leaves too, so that an objective can share it while it has one owner.
    out: {
      states: port(["B", "T", width]), embedding: port([vocabulary, width]),
      ...(lm_head !== "none" && { head: port([vocabulary, width]) }),
      ...(pooling && { pooled: port(["B", width]) }), ...(passes === 2 && { pooled_again: port(["B", width]) }),
      ...(share_base && { base: port([nn.llamaStackSize({ vocabulary, width, kvHeads: o.kv_heads, headDim: o.head_dim, ...o })]) }),
    },
  }),
  tensor: ({ heads, kv_heads, hidden, vocabulary, attention, share_base, lm_head }) => {
    if (attention === "s2") return { refused: { option: "attention: s2", because: "half of the heads have displaced groups, and which is known to all heads together only" } };
    if (share_base) return { refused: { option: "share_base", because: "the base leaves as one tensor, which no member has" } };
    return { ...nn.llamaTensorPlan("text.layers.*"), vocabulary: ["text.embed_tokens", ...(lm_head === "none" ? [] : ["text.lm_head"])], divides: { heads, kv_heads, hidden, vocabulary } };
  },
  context: ({ attention, window, attention_dropout, lora }) => {
    const because = "it speaks of places in the whole text";
    if (attention === "s2") return { refused: { option: "attention: s2", because } };
    if (attention === "causal" && window) return { refused: { option: "window", because } };
    if (attention_dropout > 0) return { refused: { option: "attention_dropout", because } };
    return (lora?.dropout ?? 0) > 0 ? { refused: { option: "lora.dropout", because } } : {};
  },
  create(o): TensorComponent & { adapters: nn.AdapterSet } {
    const table = nn.embedding({ count: o.vocabulary, width: o.width });
    const layers = Array.from({ length: o.layers }, (_, i) => nn.llamaLayer({
      width: o.width, heads: o.heads, kvHeads: o.kv_heads, headDim: o.head_dim, hidden: o.hidden, eps: o.eps,
      dropout: { p: o.attention_dropout, name: `text.layers.${i}` },
    }));
    const norm = nn.rmsNorm({ width: o.width, eps: o.eps });
    const lmHead = o.lm_head === "none" ? undefined : nn.linear({ in: o.width, out: o.vocabulary, bias: false });
    const adapters = new nn.AdapterSet(nn.llamaParts(table, layers), "text.");
    if (o.lora) for (const each of adaptersFrom(o.lora)) adapters.attach(each);
    const parameters = nn.collect({ "text.embed_tokens": table, "text.layers": layers, "text.norm": norm, "text.lm_head": lmHead });
    if (o.lora) nn.freezeBase(parameters, o.lora.train);
    if (o.lm_head === "frozen") lmHead!.weight.freeze();

    const base = Object.values(nn.baseOf(nn.collect({ embed_tokens: table, layers, norm })));

    const frequenciesFor = (length: number) => nn.ropeFrequencies64({ headDim: o.head_dim, theta: o.rope_theta, scaling: ropeScalingFrom(o.rope_scaling, length) });
    const fixed = frequenciesFor(0);

    /** One pass: ids, mask (B, T) -> states (B, T, D). */
    function encode(ids: Tensor, mask: Tensor, context: ForwardContext): Tensor {
      const [batch, length] = ids.shape;
      const groups = o.attention === "s2" && context.training ? groupsOf(o.s2, length) : undefined;
      const padded = groups?.length ?? length;
      const embedded = toPrecision(table.forward(ids), context.precision);
      const x = padded === length ? embedded : pad(embedded, 1, 0, padded - length);
      const keyMask = padded === length ? mask : concat([mask, zeros([batch, padded - length], "u8")], 1);
      const positions = fromArray(Int32Array.from({ length: batch * padded }, (_, i) => i % padded), [batch, padded]);
      const frequencies = o.rope_scaling?.type === "dynamic" ? frequenciesFor(length) : fixed;
      const invFreq = fromArray(frequencies, [o.head_dim / 2], widened(embedded.dtype));
      const causal = o.attention === "causal" || (o.attention === "s2" && o.s2.causal);
      const window = causal && !groups ? o.window ?? undefined : undefined;
      const { tokens: share } = context;
      const states = nn.overTokens(share, { x, positions, keyMask }, (own) => {
        const input = { positions: own.positions, keyMask: own.keyMask, invFreq, causal, window, groups: groups?.rule, keys: context, share };
        return nn.throughStack(context, own.x, (all) =>
          layers.reduce((h, layer) => nn.throughBlock(context, () => nn.entering(share, layer.parameters(), () => layer.forward(h, input))), all));
      });
      return norm.forward(padded === length ? states : slice(states, 1, 0, length));
    }

    return {
      parameters: () => parameters,
      /** By name: activate, merge into the weights, unmerge. */
      adapters,
      // text_ids, text_mask (B, T) -> states (B, T, D), embedding (V, D), and what the options add
      forward: ({ text_ids, text_mask, pool_mask = text_mask }, context) => {
        const states = encode(text_ids, text_mask, context);
        const outputs: Record<string, Tensor> = { states, embedding: table.table() };
        if (lmHead) outputs.head = nn.wholeOf(lmHead.weight, lmHead.weight.value);
        if (o.pooling) outputs.pooled = pooled(states, pool_mask, o.pooling);
        if (o.share_base) outputs.base = concat(base.map(({ value, size }) => reshape(value, [size])), 0);
        if (o.passes === 2) outputs.pooled_again = pooled(encode(text_ids, text_mask, secondPass(context)), pool_mask, o.pooling!);
        return outputs;
      },
    };
  },
});

/** How long the text becomes, and in which groups its tokens see each other. */
function groupsOf({ ratio, group, wrap }: { ratio: number; group?: number; wrap: "split" | "roll" }, length: number): { length: number; rule: { size: number; wrap: "split" | "roll" } } {
  if (group !== undefined) return { length: group * Math.ceil(length / group), rule: { size: group, wrap } };
  const count = Math.round(1 / ratio), unit = 2 * count; // groups of an even size
  const padded = unit * Math.ceil(length / unit);
  return { length: padded, rule: { size: padded / count, wrap } };
}

/** The same step with dropout of its own: a choice of its own for every place. Nothing else is read from the context here, so that it can still be compiled. */
function secondPass(context: ForwardContext): ForwardContext {
  return Object.create(context, { seed: { value: (context.seed ^ 0x5ec0) >>> 0 } }) as ForwardContext;
}
