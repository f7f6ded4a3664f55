/**
 * Learning a visual vocabulary: what the codes decode to shall be like the teacher's features, and the encoder shall stay near its codes.
 * `rec_loss = mean over patches of 1 - cos(rec, target)`, `quant_loss = beta * mean (stopgrad(z_q) - z)²`, both over the patches of the whole
 * batch. `codes_used` is the share of the vocabulary that this batch used; of an evaluation, the share that all held-out pages used.
 * Source: Peng et al. 2022 (BEiT v2), eq. 3; van den Oord et al. 2017 (commitment).
 *
 * Not separable: a codebook starts from one look at the whole batch, and the codes used by parts of a batch are no share of it. Losses and
 * the codebook's moving averages are sums over microbatches all the same.
 */
import { z } from "zod";
import { add, cast, cosineLoss, definePlugin, full, gt, port, reshape, scale, scatterAdd, squaredError, sum, withoutRecording, zeros, type Tensor } from "../../runtime/index.ts";
import { meanWeight } from "./mean-weight.ts";

export const vqKdLoss = definePlugin({
  kind: "objective", name: "vq-kd", version: "1.0.0",
  about: "VQ-KD (Peng et al. 2022): decode codes to a teacher's features, and keep vectors near their codes.",
  separable: false,
  options: z.strictObject({
    patches: z.int().positive().default(64),
    dim: z.int().positive().default(16),
    targets: z.int().positive().default(64),
    codes: z.int().positive().default(256),
    beta: z.number().nonnegative().default(1),
    weight: z.number().nonnegative().default(1),
  }),
  counts: ["pages"],
  ports: ({ patches, dim, targets }) => ({
    in: {
      z: port(["B", patches, dim]), z_q: port(["B", patches, dim], { gradient: false }), codes: port(["B", patches], { dtype: "i32" }),
      rec: port(["B", patches, targets]), targets: port(["B", patches, targets], { gradient: false }),
    },
    out: { loss: port([1]), rec_loss: port([1], { gradient: false }), quant_loss: port([1], { gradient: false }), codes_used: port([1], { gradient: false }) },
  }),
  tensor: () => ({}),
  create: ({ patches, dim, codes: count, beta, weight }) => ({
    parameters: () => ({}),
    // z, z_q (B, P, D), codes (B, P), rec, targets (B, P, Tw) -> loss and its parts (1)
    forward: ({ z: latent, z_q, codes, rec, targets }, { counts }) => {
      const share = meanWeight(counts, "pages", weight / patches);
      const rec_loss = cosineLoss(rec, targets, { weight: share });
      const quant_loss = squaredError(latent, z_q, { weight: (beta * share) / dim });
      return { loss: add(rec_loss, quant_loss), rec_loss, quant_loss, codes_used: withoutRecording(() => shareUsed(codes, count)) };
    },
    targets: ({ codes }) => reshape(codes, [codes.size]),
    judge: ({ uses }) => ({ codes_used: uses.size / count }),
  }),
});

/** codes i32 (B, P) -> how many different ones, divided by `count`: (1). */
function shareUsed(codes: Tensor, count: number): Tensor {
  const flat = reshape(codes, [codes.size]);
  const uses = scatterAdd(full([codes.size, 1], 1, "f32"), flat, count);
  return scale(sum(cast(gt(uses, zeros([1], "f32")), "f32")), 1 / count);
}
