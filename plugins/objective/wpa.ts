/**
 * Word-patch alignment: is the place of this word on the page masked (0) or visible (1)? Teaches which patch a word lies on.
 * `L = weight * sum of BCE over labelled tokens / labelled tokens of the whole batch`; none gives 0.
 * Source: LayoutLMv3 (Huang et al. 2022), section 3.3.
 */
import { z } from "zod";
import { binaryCrossEntropy, definePlugin, gelu, nn, port, reshape } from "../../runtime/index.ts";
import { meanWeight } from "./mean-weight.ts";
import { textStates } from "./memory-parts.ts";

export const wpa = definePlugin({
  kind: "objective", name: "wpa", version: "1.0.0",
  about: "Word-patch alignment: tell words under masked patches from visible ones (LayoutLMv3).",
  options: z.strictObject({
    width: z.int().positive().default(96),
    grid: z.int().positive().default(8),
    weight: z.number().nonnegative().default(1),
  }),
  counts: ["wpa_tokens"],
  ports: ({ width }) => ({
    // labels: 1 aligned, 0 not, -100 not asked
    in: { memory: port(["B", "M", width]), labels: port(["B", "T"], { dtype: "i32" }) },
    out: { loss: port([1]) },
  }),
  tensor: () => ({}),
  create({ width, grid, weight }) {
    const dense = nn.linear({ in: width, out: width });
    const out = nn.linear({ in: width, out: 1 });
    const parameters = nn.collect({ "head.wpa.0": dense, "head.wpa.2": out });
    return {
      parameters: () => parameters,
      // memory (B, M, D), labels (B, T) -> loss (1)
      forward: ({ memory, labels }, { counts }) => {
        const logits = out.forward(gelu(dense.forward(textStates(memory, grid))));
        const tokens = labels.shape[0] * labels.shape[1];
        return {
          loss: binaryCrossEntropy(reshape(logits, [tokens]), reshape(labels, [tokens]), { weight: meanWeight(counts, "wpa_tokens", weight) }),
        };
      },
    };
  },
});
