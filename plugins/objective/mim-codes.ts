/**
 * Masked image modelling over codes: from a masked patch's state, predict the code that a visual tokenizer gave that patch.
 * `L = weight * sum over masked patches of CE(logits, code) / masked patches of the whole batch`; none gives 0. With the encoder's second
 * branch (`cls_pt`) the two losses are added. `accuracy` is the share of masked patches whose code the main branch ranks first.
 * Source: BEiT (Bao et al. 2021), BEiT v2 (Peng et al. 2022, eq. 5 and 6).
 */
import { z } from "zod";
import { add, crossEntropy, definePlugin, port, type Tensor } from "../../runtime/index.ts";
import { correct } from "./correct.ts";
import { branchPorts, codesOfMaskedCells, maskedPatches, maskedPatchesOptions, maskedPatchesPorts, patchesOf } from "./masked-patches.ts";
import { meanWeight } from "./mean-weight.ts";

export const mimCodes = definePlugin({
  kind: "objective", name: "mim-codes", version: "1.1.0",
  about: "Masked image modelling: classify masked patches into a visual tokenizer's codes.",
  options: z.strictObject({ ...maskedPatchesOptions, codes: z.int().positive().default(256) }),
  counts: ["mim_patches"],
  ports: (o) => ({
    in: { ...maskedPatchesPorts(o), codes: port(["B", patchesOf(o)], { dtype: "i32" }) },
    out: { loss: port([1]), accuracy: port([1], { gradient: false }), ...branchPorts(o) },
  }),
  tensor: () => ({}),
  create({ codes: count, weight, ...o }) {
    const heads = maskedPatches(o, count);
    return {
      parameters: () => heads.parameters(),
      // memory (B, M, D), codes (B, P), Np masked cells, cls_pt_states (B, 1 + grid², D) -> loss, accuracy (1)
      forward: (inputs, { counts }): Record<string, Tensor> => {
        const labels = codesOfMaskedCells(inputs.codes, inputs.mim_index, o);
        const logits = heads.answers(inputs);
        const losses = logits.map((each) => crossEntropy(each, labels, { weight: meanWeight(counts, "mim_patches", weight) }));
        const accuracy = correct(logits[0], labels, meanWeight(counts, "mim_patches"));
        const [main, branch] = losses;
        return branch ? { loss: add(main, branch), accuracy, main_loss: main, cls_pt_loss: branch } : { loss: main, accuracy };
      },
      targets: ({ codes, mim_index }) => codesOfMaskedCells(codes, mim_index, o),
    };
  },
});
