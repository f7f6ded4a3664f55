/**
 * Masked language modelling: what was under the mask, read at the masked position itself (no shift), given text and page.
 * The logits are tied to the text encoder's embedding table. Source: Devlin et al. 2019; span masking of LayoutLMv3 (Huang et al. 2022).
 * `L = weight * sum of CE over masked tokens / masked tokens of the whole batch`; no masked token gives 0. `accuracy` is the share of masked
 * tokens whose word is ranked first.
 */
import { z } from "zod";
import { definePlugin, gelu, nn, port, reshape } from "../../runtime/index.ts";
import { labelledRows } from "./labelled-rows.ts";
import { meanWeight } from "./mean-weight.ts";
import { textStates } from "./memory-parts.ts";

export const mlm = definePlugin({
  kind: "objective", name: "mlm", version: "1.1.0",
  about: "Masked language modelling over the fused memory, tied to the text encoder's table.",
  options: z.strictObject({
    width: z.int().positive().default(96),
    text_width: z.int().positive().default(96),
    vocabulary: z.int().positive().default(2048),
    grid: z.int().positive().default(8),
    weight: z.number().nonnegative().default(1),
  }),
  counts: ["mlm_tokens"],
  ports: ({ width, text_width, vocabulary }) => ({
    in: {
      memory: port(["B", "M", width]), embedding: port([vocabulary, text_width]),
      // Either the labels of all tokens (-100: not predicted), or the flat positions b * T + t of the labelled ones and their targets.
      labels: port(["B", "T"], { dtype: "i32", optional: true }),
      mlm_index: port(["Nm"], { dtype: "i32", optional: true }), mlm_targets: port(["Nm"], { dtype: "i32", optional: true }),
    },
    out: { loss: port([1]), accuracy: port([1], { gradient: false }) },
  }),
  tensor: ({ vocabulary }) => ({ divides: { vocabulary } }),
  create({ width, text_width, vocabulary, grid, weight }) {
    const dense = nn.linear({ in: width, out: text_width });
    const norm = nn.layerNorm({ width: text_width, eps: 1e-5 });
    const bias = new nn.Parameter([vocabulary], { kind: "zeros" });
    const parameters = nn.collect({ "head.mlm.dense": dense, "head.mlm.ln": norm, "head.mlm.bias": bias });
    return {
      parameters: () => parameters,
      // memory (B, M, D), embedding (V, Dt), Nm labelled tokens -> loss, accuracy (1)
      forward: ({ memory, embedding, labels, mlm_index, mlm_targets }, { counts, members }) => {
        const { rows, targets } = labelledRows("objective/mlm", textStates(memory, grid),
          { labels, index: mlm_index, targets: mlm_targets }, ["labels", "mlm_index", "mlm_targets"]);
        const words = nn.vocabularyHead(members), logits = words.logits(norm.forward(gelu(dense.forward(rows))), embedding, bias.value);
        const share = meanWeight(counts, "mlm_tokens");
        return { loss: words.crossEntropy(logits, targets, { weight: weight * share }), accuracy: words.correct(logits, targets, share) };
      },
      targets: ({ labels, mlm_targets }) => mlm_targets ?? reshape(labels, [labels.size]),
    };
  },
});
