/**
 * Which text belongs to which page: every page finds its own text among those of the batch, and every text its page.
 * `L = weight * (CE(s I Tᵀ, i) + CE(s T Iᵀ, i)) / 2`, rows of I and T of unit length, s = exp(logit_scale), at most 100.
 * `source: embeddings`: two vectors per page and the scale come from a model that owns them (`teacher/mini-clip`). `source: memory`: the fused
 * memory is read at its class token and as the mean of its text, through a head each. `accuracy`: pages that rank their text first.
 * Source: Radford et al. 2021 (CLIP), van den Oord et al. 2018 (InfoNCE).
 *
 * CO-1: not separable: pages are told apart from all others of the batch.
 * CO-2: `logit_scale` is kept as a logarithm; owned here, it is at most ln 100 after every step.
 */
import { z } from "zod";
import {
  add, assign, clamp, crossEntropy, definePlugin, exp, fromArray, l2Normalize, maskedMean, matmul, mul, nn, port, reshape, slice, widen, type Ports, type Tensor,
} from "../../runtime/index.ts";
import { correct } from "./correct.ts";
import { textStates } from "./memory-parts.ts";

const largest = Math.log(100);

export const contrastive = definePlugin({
  kind: "objective", name: "contrastive", version: "1.0.0",
  about: "Symmetric InfoNCE between pages and their texts, with a learned scale (Radford et al. 2021).",
  separable: false,
  options: z.strictObject({
    source: z.enum(["embeddings", "memory"]).default("embeddings"),
    width: z.int().positive().default(64),
    /** Of the memory: patches before its text, as cells per side. */
    grid: z.int().positive().default(8),
    weight: z.number().nonnegative().default(1),
  }),
  ports: ({ source, width }): Ports => ({
    in: source === "memory"
      ? { memory: port(["B", "M", width]), text_mask: port(["B", "T"], { dtype: "u8" }) }
      : { image: port(["B", width]), text: port(["B", width]), logit_scale: port([1]) },
    out: { loss: port([1]), accuracy: port([1], { gradient: false }) },
  }),
  tensor: () => ({}),
  create({ source, width, grid, weight }) {
    if (source === "embeddings") {
      return { parameters: () => ({}), forward: ({ image, text, logit_scale }) => symmetric(image, text, logit_scale, weight) };
    }
    const [image, text] = ["image", "text"].map(() => nn.linear({ in: width, out: width, bias: false, init: nn.truncatedNormal() }));
    const logitScale = new nn.Parameter([], { kind: "constant", value: Math.log(1 / 0.07) });
    const parameters = nn.collect({ "head.itc_image": image, "head.itc_text": text, "head.logit_scale": logitScale });
    return {
      parameters: () => parameters,
      // memory (B, M, D), text_mask (B, T) -> loss, accuracy (1)
      forward: ({ memory, text_mask }) => {
        const page = reshape(slice(memory, 1, 0, 1), [memory.shape[0], width]);
        const words = maskedMean(textStates(memory, grid), text_mask);
        return symmetric(image.forward(page), text.forward(words), reshape(logitScale.value, [1]), weight);
      },
      afterStep: () => assign(clamp(logitScale.value, -Infinity, largest), logitScale.value),
    };
  },
});

/** image, text (B, C), logit_scale (1) -> loss and accuracy (1). */
function symmetric(image: Tensor, text: Tensor, logitScale: Tensor, weight: number): Record<string, Tensor> {
  const count = image.shape[0];
  const own = fromArray(Int32Array.from({ length: count }, (_, i) => i), [count]);
  const factor = exp(clamp(logitScale, -Infinity, largest));
  const [i, t] = [l2Normalize(widen(image)), l2Normalize(widen(text))];
  const cosines = (a: Tensor, b: Tensor) => mul(matmul(a, b, { transB: true }), factor);
  const byPage = cosines(i, t), half = { weight: weight / (2 * count) };
  return { loss: add(crossEntropy(byPage, own, half), crossEntropy(cosines(t, i), own, half)), accuracy: correct(byPage, own, 1 / count) };
}
