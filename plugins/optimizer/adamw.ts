import { z } from "zod";
import { adamw, definePlugin, learningScale, warmupCosine } from "../../runtime/index.ts";

/** AdamW with a linear warm-up and a cosine. Source: Loshchilov and Hutter 2019; schedule of BEiT. */
export const adamwOptimizer = definePlugin({
  kind: "optimizer",
  name: "adamw",
  version: "1.0.0",
  about: "Adam with decoupled weight decay, warm-up and cosine (Loshchilov and Hutter 2019)",
  options: z.strictObject({
    /** Peak learning rate. */
    lr: z.number().positive().default(1e-3),
    /** Steps from 0 to the peak. */
    warmup: z.int().min(0).default(10),
    /** Learning rate at the end. */
    final: z.number().min(0).default(1e-5),
    weight_decay: z.number().min(0).default(0.05),
    betas: z.tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)]).default([0.9, 0.98]),
    eps: z.number().positive().default(1e-8),
    /** Fine-tuning a ViT: deeper layers learn faster. `layers`: its blocks; `prefix`: how its parameters' names begin. */
    layer_decay: z.strictObject({ rate: z.number().positive().max(1), layers: z.int().positive(), prefix: z.string().default("vision.") }).optional(),
    /** Factors on the learning rate by the beginning of names: { fusion.: 0.1, lff.: 0.1 }. */
    rates: z.record(z.string(), z.number().nonnegative()).default({}),
  }),
  create: ({ lr, warmup, final, weight_decay, betas, eps, layer_decay, rates }) => ({
    create: () => adamw({ betas, eps, weightDecay: weight_decay, learningScale: learningScale({ layerDecay: layer_decay, parts: rates }) }),
    learningRate: (step0, totalSteps) => warmupCosine({ peak: lr, final, warmup: Math.min(warmup, totalSteps), total: totalSteps })(step0),
  }),
});
