/**
 * Masked image modelling against a teacher: from a masked patch's state, predict the teacher's feature of that patch.
 * `cosine`: L = weight * sum over masked patches of (1 - cos(prediction, target)) / masked patches of the whole batch; none gives 0.
 * `mse`: the mean squared difference of the two as unit vectors, which is 2 (1 - cos) / Tw. With the encoder's second branch (`cls_pt`)
 * the two losses are added. The scalar `mse` is that of the main branch, whatever the loss.
 * Source: BEiT v2 (Peng et al. 2022), in the regression form that predicts the teacher's features directly.
 */
import { z } from "zod";
import { add, cosineLoss, definePlugin, l2Normalize, port, squaredError, withoutRecording, type Tensor } from "../../runtime/index.ts";
import { branchPorts, maskedPatches, maskedPatchesOptions, maskedPatchesPorts, ofMaskedCells, patchesOf } from "./masked-patches.ts";
import { meanWeight } from "./mean-weight.ts";

export const mimTeacher = definePlugin({
  kind: "objective", name: "mim-teacher", version: "1.1.0",
  about: "Masked image modelling: regress the teacher's patch features, by cosine or squared difference.",
  options: z.strictObject({
    ...maskedPatchesOptions,
    /** Width of the teacher's features. */
    targets: z.int().positive().default(64),
    loss: z.enum(["cosine", "mse"]).default("cosine"),
  }),
  counts: ["mim_patches"],
  ports: (o) => ({
    in: { ...maskedPatchesPorts(o), targets: port(["B", patchesOf(o), o.targets], { gradient: false }) },
    out: { loss: port([1]), mse: port([1], { gradient: false }), ...branchPorts(o) },
  }),
  tensor: () => ({}),
  create({ targets: width, weight, loss: kind, ...o }) {
    const heads = maskedPatches(o, width);
    const meanSquare = (predictions: Tensor, wanted: Tensor, share: number) =>
      squaredError(l2Normalize(predictions), l2Normalize(wanted), { weight: share / width });
    return {
      parameters: () => heads.parameters(),
      // memory (B, M, D), targets (B, P, Tw), Np masked cells, cls_pt_states (B, 1 + grid², D) -> loss, mse (1)
      forward: (inputs, { counts }): Record<string, Tensor> => {
        const wanted = ofMaskedCells(inputs.targets, inputs.mim_index, o), share = meanWeight(counts, "mim_patches", weight);
        const predictions = heads.answers(inputs);
        const losses = predictions.map((each) => (kind === "mse" ? meanSquare(each, wanted, share) : cosineLoss(each, wanted, { weight: share })));
        const mse = withoutRecording(() => meanSquare(predictions[0], wanted, meanWeight(counts, "mim_patches")));
        const [main, branch] = losses;
        return branch ? { loss: add(main, branch), mse, main_loss: main, cls_pt_loss: branch } : { loss: main, mse };
      },
    };
  },
});
