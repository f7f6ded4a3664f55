/**
 * Masked image modelling over codes: from a masked patch's fused state, predict the code that a visual tokenizer gave that patch.
 * `L = weight * sum over masked patches of CE(logits, code) / masked patches of the whole batch`; none gives 0.
 * Source: BEiT (Bao et al. 2021), BEiT v2 (Peng et al. 2022).
 */
import { z } from "zod";
import { cast, crossEntropy, definePlugin, gatherRows, nn, port, reshape, type Tensor } from "../../runtime/index.ts";
import { meanWeight } from "./mean-weight.ts";
import { patchStates } from "./memory-parts.ts";

export const mimCodes = definePlugin({
  kind: "objective", name: "mim-codes", version: "1.0.0",
  about: "Masked image modelling: classify masked patches into a visual tokenizer's codes.",
  options: z.strictObject({
    width: z.int().positive().default(96),
    codes: z.int().positive().default(256),
    grid: z.int().positive().default(8),
    weight: z.number().nonnegative().default(1),
  }),
  counts: ["mim_patches"],
  ports: ({ width, grid }) => ({
    in: {
      memory: port(["B", "M", width]), codes: port(["B", grid * grid], { dtype: "i32" }),
      // Flat positions b * P + p of the masked patches.
      mim_index: port(["Np"], { dtype: "i32" }),
    },
    out: { loss: port([1]) },
  }),
  create({ width, codes: count, grid, weight }) {
    const out = nn.linear({ in: width, out: count });
    const parameters = nn.collect({ "head.mim.out": out });
    return {
      parameters: () => parameters,
      // memory (B, M, D), codes (B, P), Np masked patches -> loss (1)
      forward: ({ memory, codes, mim_index }, { counts }) => {
        const states = patchStates(memory, grid);
        const logits = out.forward(gatherRows(reshape(states, [states.shape[0] * states.shape[1], width]), mim_index));
        return { loss: crossEntropy(logits, picked(codes, mim_index), { weight: meanWeight(counts, "mim_patches", weight) }) };
      },
    };
  },
});

/** Labels i32 (B, P) at flat positions (Np) -> (Np). Rows are gathered in f32, in which codes, integers below 2^24, are exact. */
function picked(codes: Tensor, index: Tensor): Tensor {
  const rows = gatherRows(reshape(cast(codes, "f32"), [codes.size, 1]), index);
  return cast(reshape(rows, [index.size]), "i32");
}
