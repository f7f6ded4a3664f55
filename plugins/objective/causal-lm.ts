/**
 * Language modelling: every token from those before it. `L = weight * sum of CE over tokens that have one before them / their number in the
 * whole batch`; none gives 0. `labels` are the tokens themselves, -100 where one is not asked; the shift is made here. The logits are
 * never held at once. An evaluation adds `perplexity`, exp of the mean loss per token. LongLoRA extends contexts with it (Chen et al. 2023).
 */
import { z } from "zod";
import { definePlugin, nn, port } from "../../runtime/index.ts";
import { meanWeight } from "./mean-weight.ts";
import { beforeEach, headPorts } from "./next-token.ts";

export const causalLm = definePlugin({
  kind: "objective", name: "causal-lm", version: "1.0.0",
  about: "Next-token prediction over packed text.",
  options: z.strictObject({
    width: z.int().positive().default(96),
    vocabulary: z.int().positive().default(2048),
    weight: z.number().nonnegative().default(1),
  }),
  counts: ["lm_tokens"],
  ports: (o) => ({ in: { ...headPorts(o), labels: port(["B", "T"], { dtype: "i32" }) }, out: { loss: port([1]) } }),
  tensor: ({ vocabulary }) => ({ divides: { vocabulary } }),
  create: ({ weight }) => ({
    parameters: () => ({}),
    // states (B, T, D), head (V, D), labels (B, T) -> loss (1)
    forward: ({ states, head, labels }, { counts, members }) => {
      const { rows, targets } = beforeEach(states, labels);
      return { loss: nn.linearCrossEntropy(rows, head, targets, { weight: meanWeight(counts, "lm_tokens", weight), members }) };
    },
    judge: ({ means }): Record<string, number> => (weight === 0 ? {} : { perplexity: Math.exp(means.loss / weight) }),
  }),
});
