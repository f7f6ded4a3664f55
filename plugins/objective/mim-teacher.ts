/**
 * Masked image modelling against a teacher: from a masked patch's fused state, predict the teacher's feature of that patch.
 * `L = weight * sum over masked patches of (1 - cos(prediction, target)) / masked patches of the whole batch`; none gives 0.
 * Source: BEiT v2 (Peng et al. 2022), in the regression form that predicts the teacher's features directly.
 */
import { z } from "zod";
import { cosineLoss, definePlugin, gatherRows, nn, port, reshape, type Tensor } from "../../runtime/index.ts";
import { meanWeight } from "./mean-weight.ts";
import { patchStates } from "./memory-parts.ts";

export const mimTeacher = definePlugin({
  kind: "objective", name: "mim-teacher", version: "1.0.0",
  about: "Masked image modelling: regress the teacher's patch features by cosine.",
  options: z.strictObject({
    width: z.int().positive().default(96),
    targets: z.int().positive().default(64),
    grid: z.int().positive().default(8),
    weight: z.number().nonnegative().default(1),
  }),
  counts: ["mim_patches"],
  ports: ({ width, targets, grid }) => ({
    in: {
      memory: port(["B", "M", width]), targets: port(["B", grid * grid, targets], { gradient: false }),
      // Flat positions b * P + p of the masked patches.
      mim_index: port(["Np"], { dtype: "i32" }),
    },
    out: { loss: port([1]) },
  }),
  create({ width, targets: targetWidth, grid, weight }) {
    const out = nn.linear({ in: width, out: targetWidth });
    const parameters = nn.collect({ "head.mim.out": out });
    const flat = (states: Tensor) => reshape(states, [states.shape[0] * states.shape[1], states.shape[2]]);
    return {
      parameters: () => parameters,
      // memory (B, M, D), targets (B, P, Tw), Np masked patches -> loss (1)
      forward: ({ memory, targets, mim_index }, { counts }) => {
        const predictions = out.forward(gatherRows(flat(patchStates(memory, grid)), mim_index));
        const wanted = gatherRows(flat(targets), mim_index);
        return { loss: cosineLoss(predictions, wanted, { weight: meanWeight(counts, "mim_patches", weight) }) };
      },
    };
  },
});
