/**
 * Sentences as vectors: a text finds itself, seen through another dropout, among all texts of the batch.
 * `L = weight / B * sum over i of CE(cos(q_i, d_j) / temperature, i)`, one direction. `accuracy`: texts that rank themselves first.
 * Source: Gao et al. 2021 (SimCSE, unsupervised), with LLM2Vec's pooling.
 *
 * SC-1: not separable: texts are told apart from all others of the batch.
 */
import { z } from "zod";
import { definePlugin, fromArray, infoNce, l2Normalize, matmul, port, widen, withoutRecording } from "../../runtime/index.ts";
import { correct } from "./correct.ts";

export const simcse = definePlugin({
  kind: "objective", name: "simcse", version: "1.0.0",
  about: "SimCSE: a text and itself under another dropout, against the other texts of the batch.",
  separable: false,
  options: z.strictObject({
    width: z.int().positive().default(96),
    temperature: z.number().positive().default(0.05),
    weight: z.number().nonnegative().default(1),
  }),
  ports: ({ width }) => ({
    in: { queries: port(["B", width]), documents: port(["B", width]) },
    out: { loss: port([1]), accuracy: port([1], { gradient: false }) },
  }),
  tensor: () => ({}),
  create: ({ temperature, weight }) => ({
    parameters: () => ({}),
    // queries, documents (B, D) -> loss, accuracy (1)
    forward: ({ queries, documents }) => {
      const [q, d] = [widen(queries), widen(documents)], count = q.shape[0];
      const cosines = withoutRecording(() => matmul(l2Normalize(q), l2Normalize(d), { transB: true }));
      const own = fromArray(Int32Array.from({ length: count }, (_, i) => i), [count]);
      return { loss: infoNce(q, d, { temperature, weight: weight / count }), accuracy: correct(cosines, own, 1 / count) };
    },
  }),
});
