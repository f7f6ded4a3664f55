/**
 * Masked next-token prediction: a hidden token, from the state before it, which looks both ways by now. The head of the causal model stays of
 * use that way; reading at the hidden place itself (as `objective/mlm` does) would discard it.
 * `L = weight * sum of CE over hidden tokens / their number in the whole batch`; none gives 0. `accuracy` has the same shift.
 * Source: BehnamGhader et al. 2024 (LLM2Vec), section 2.
 */
import { z } from "zod";
import { definePlugin, nn, port, reshape, slice } from "../../runtime/index.ts";
import { meanWeight } from "./mean-weight.ts";
import { askedBefore, headPorts } from "./next-token.ts";

export const mntp = definePlugin({
  kind: "objective", name: "mntp", version: "1.0.0",
  about: "Masked next-token prediction: a hidden token from the state before it (LLM2Vec).",
  options: z.strictObject({
    width: z.int().positive().default(96),
    vocabulary: z.int().positive().default(2048),
    weight: z.number().nonnegative().default(1),
  }),
  counts: ["mntp_tokens"],
  ports: (o) => ({
    in: {
      ...headPorts(o),
      // Either the labels of all tokens (-100: not hidden), or the flat positions b * T + t - 1 before the hidden ones and what stood there.
      labels: port(["B", "T"], { dtype: "i32", optional: true }),
      mntp_index: port(["Nm"], { dtype: "i32", optional: true }), mntp_targets: port(["Nm"], { dtype: "i32", optional: true }),
    },
    out: { loss: port([1]), accuracy: port([1], { gradient: false }) },
  }),
  tensor: ({ vocabulary }) => ({ divides: { vocabulary } }),
  create: ({ weight }) => ({
    parameters: () => ({}),
    // states (B, T, D), head (V, D) -> loss, accuracy (1)
    forward: ({ states, head, labels, mntp_index: index, mntp_targets }, { counts, members }) => {
      const { rows, targets } = askedBefore("objective/mntp", states, { labels, index, targets: mntp_targets }, ["labels", "mntp_index", "mntp_targets"]);
      const words = nn.vocabularyHead(members), logits = words.logits(rows, head), share = meanWeight(counts, "mntp_tokens");
      return { loss: words.crossEntropy(logits, targets, { weight: weight * share }), accuracy: words.correct(logits, targets, share) };
    },
    targets: ({ labels, mntp_targets }) => mntp_targets ?? reshape(slice(labels, 1, 1, labels.shape[1] - 1), [labels.size - labels.shape[0]]),
  }),
});
