/**
 * What is asked, as one vector: a BERT-style post-norm encoder over the prompt's tokens, and over points and boxes that the
 * user pointed at, averaged over all real tokens and projected to the memory's width.
 * Sources: Devlin et al. 2019 (BERT), Wang et al. 2020 (MiniLM), Kirillov et al. 2023 (SAM's encoding of points and boxes).
 *
 * PR-1: padding never changes the embedding; a prompt without any token gives the projection's bias.
 */
import { z } from "zod";
import {
  add, concat, definePlugin, fromArray, maskedMean, nn, port, ShapeError, slice, toPrecision, type Tensor,
} from "../../runtime/index.ts";
import { pointEncoding, pointTokens } from "./points.ts";

const textType = 0;
const pointType = 1;

export const bert = definePlugin({
  kind: "prompt-encoder", name: "bert", version: "1.0.0",
  about: "BERT-style prompt encoder with SAM's points and boxes, pooled to one vector.",
  options: z.strictObject({
    vocabulary: z.int().positive().default(2048),
    width: z.int().positive().multipleOf(2).default(64),
    layers: z.int().positive().default(2),
    heads: z.int().positive().default(4),
    hidden: z.int().positive().default(256),
    /** Longest prompt in tokens. */
    positions: z.int().positive().default(64),
    memory_width: z.int().positive().default(96),
    eps: z.number().positive().default(1e-12),
    /** SAM's habit: a prompt with points and no box has one more token, which is no point. Without it padding is masked and that is all. */
    sam_pad: z.boolean().default(false),
  }).refine((o) => o.width % o.heads === 0, { error: "width must be a multiple of heads", path: ["heads"] }),
  ports: ({ memory_width }) => ({
    in: {
      prompt_ids: port(["B", "Q"], { dtype: "i32" }), prompt_mask: port(["B", "Q"], { dtype: "u8" }),
      // G points (x, y) in [0, 1]; kinds 0 negative point, 1 positive point, 2 box top-left, 3 box bottom-right. A box is two points.
      prompt_points: port(["B", "G", 2], { gradient: false, optional: true }),
      prompt_kinds: port(["B", "G"], { dtype: "i32", optional: true }),
      prompt_points_mask: port(["B", "G"], { dtype: "u8", optional: true }),
      // R boxes, corners in [0, 1]; the same as two points each.
      prompt_boxes: port(["B", "R", 4], { gradient: false, optional: true }), prompt_boxes_mask: port(["B", "R"], { dtype: "u8", optional: true }),
    },
    out: { embedding: port(["B", memory_width]) },
  }),
  tensor: ({ heads, hidden, vocabulary }) => {
    const each = (...parts: string[]) => parts.map((part) => `prompt.bert.encoder.layer.*.${part}`);
    return {
      column: each("attention.self.query", "attention.self.key", "attention.self.value", "intermediate.dense"), row: each("attention.output.dense", "output.dense"),
      vocabulary: ["prompt.bert.embeddings.word_embeddings"], divides: { heads, hidden, vocabulary },
    };
  },
  create({ vocabulary, width, layers: depth, heads, hidden, positions, memory_width, eps, sam_pad }) {
    const table = (count: number) => nn.embedding({ count, width });
    const words = table(vocabulary), places = table(positions), types = table(2);
    const norm = nn.layerNorm({ width, eps });
    const layers = Array.from({ length: depth }, () => nn.bertLayer({ width, heads, hidden, eps }));
    const projection = nn.linear({ in: width, out: memory_width });
    const points = pointEncoding(width);
    const parameters = nn.collect({
      "prompt.bert.embeddings.word_embeddings": words, "prompt.bert.embeddings.position_embeddings": places,
      "prompt.bert.embeddings.token_type_embeddings": types, "prompt.bert.embeddings.LayerNorm": norm,
      "prompt.bert.encoder.layer": layers, "prompt.proj": projection, prompt: points,
    });

    const typed = (states: Tensor, type: number) => add(states, slice(types.weight.value, 0, type, 1));

    /** prompt_ids (B, Q) -> (B, Q, Dp) before the norm */
    function embedText(ids: Tensor): Tensor {
      const length = ids.shape[1];
      if (length > positions) {
        throw new ShapeError({ op: "prompt-encoder/bert", operand: "prompt_ids", expected: `at most ${positions} tokens per prompt`, got: ids.shape,
          fix: "Shorten the prompts, or raise the option `positions`." });
      }
      const order = fromArray(Int32Array.from({ length }, (_, i) => i), [length]);
      return typed(add(words.forward(ids), places.forward(order)), textType);
    }

    return {
      parameters: () => parameters,
      // prompt_ids (B, Q), points (B, G, 2), boxes (B, R, 4) -> embedding (B, D)
      forward: ({ prompt_ids, prompt_mask, ...pointed }, context) => {
        const start = (embedded: Tensor) => norm.forward(toPrecision(embedded, context.precision));
        const geometry = pointTokens(pointed, { samPad: sam_pad });
        const text = start(embedText(prompt_ids));
        const [tokens, keyMask] = geometry
          ? [concat([text, start(typed(points.forward(geometry.points, geometry.kinds), pointType))], 1), concat([prompt_mask, geometry.mask], 1)] : [text, prompt_mask];
        const states = nn.throughStack(context, tokens, (all) => layers.reduce((x, layer) => nn.throughBlock(context, () => layer.forward(x, { keyMask })), all));
        return { embedding: projection.forward(maskedMean(states, keyMask)) };
      },
    };
  },
});
