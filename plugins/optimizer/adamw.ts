import { z } from "zod";
import { adamw, definePlugin, warmupCosine } from "../../runtime/index.ts";

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
  }),
  create: ({ lr, warmup, final, weight_decay, betas, eps }) => ({
    create: () => adamw({ betas, eps, weightDecay: weight_decay }),
    learningRate: (step0, totalSteps) => warmupCosine({ peak: lr, final, warmup: Math.min(warmup, totalSteps), total: totalSteps })(step0),
  }),
});
