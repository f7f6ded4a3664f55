/**
 * A page in the words of a visual vocabulary: every patch becomes the number of its nearest code. These are the labels that BEiT v2
 * predicts under the mask. With `train: true` the vocabulary is learned: codes are decoded to a teacher's features, whose likeness is
 * the loss (`objective/vq-kd`). Source: Peng et al. 2022 (BEiT v2), section 2.2. `codebook.ts` has the promises of the codes.
 *
 * VT-1: frozen and fresh, weights depend on the option `seed` alone, not on the seed of the run: every run and every arm of a study
 *       reads the same codes. Nor does the precision of the run change them: everything is f32, since bf16 would move patches to a
 *       neighbouring code. Training, the transformers follow the run's precision; vectors, codes and features are f32.
 * VT-2: frozen, nothing here is trained and no gradient leaves. Training, everything learns but the codebook, which is a buffer of the
 *       checkpoint, as are its counts.
 * VT-3: rows of a fresh codebook have unit length, and codes do not change when the encoder's output is scaled by a positive number.
 *
 * Fresh weights read the page without knowing it: on 64 pages of the example data they use 32 to 36 of the 256 codes, and one of them
 * for 75 to 93 % of the patches, because an untrained encoder sends all patches into one narrow cone and nothing has moved the codebook
 * there. That is enough to build, test and time with; labels worth learning need trained weights.
 *
 * Parameter names are those of the released checkpoints under `tokenizer.`.
 */
import { z } from "zod";
import { add, clamp, definePlugin, fromArray, mul, nn, port, scale, sub, toPrecision, type ForwardContext, type Precision, type Tensor } from "../../runtime/index.ts";
import { vqKdDecoder, vqKdEncoder } from "./autoencoder.ts";
import { codebook } from "./codebook.ts";

/** Pages arrive normalised for the student. Source: the image encoder's release. */
const student = { mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] };

export const vqKd = definePlugin({
  kind: "visual-tokenizer", name: "vq-kd", version: "1.1.0",
  about: "VQ-KD (Peng et al. 2022): the code of every patch; frozen, or learned from a teacher's features.",
  options: z.strictObject({
    image: z.int().positive().default(128),
    patch: z.int().positive().default(16),
    width: z.int().positive().default(64),
    layers: z.int().positive().default(2),
    heads: z.int().positive().default(4),
    /** How many codes there are, and how wide one is. */
    codes: z.int().positive().default(256),
    dim: z.int().positive().default(16),
    eps: z.number().positive().default(1e-6),
    /** Of a frozen tokenizer's fresh weights (VT-1). */
    seed: z.int().nonnegative().default(0),
    /** `student`: pixels normalised for the image encoder, converted here. `none`: pixels used as they come, in [-1, 1]. */
    pixels: z.enum(["student", "none"]).default("student"),
    /** Learn the vocabulary. What follows speaks of that alone. */
    train: z.boolean().default(false),
    decoder_layers: z.int().positive().default(1),
    /** Width of the teacher's features. */
    targets: z.int().positive().default(64),
    /** How much of a code stays when it moves, per step. */
    decay: z.number().min(0).max(1).default(0.99),
    /** Rounds of k-means on the first batch; 0 starts from random codes. */
    kmeans_rounds: z.int().nonnegative().default(10),
    /** Steps without use after which a code takes over half of a busy one's patches; 0: never, as the original. */
    restart_dead_after: z.int().nonnegative().default(0),
  }).refine((o) => o.image % o.patch === 0, { error: "image must be a multiple of patch", path: ["patch"] })
    .refine((o) => o.width % o.heads === 0, { error: "width must be a multiple of heads", path: ["heads"] }),
  ports: ({ image, patch, dim, train, targets }) => {
    const patches = (image / patch) ** 2;
    return {
      in: { pixels: port(["B", 3, image, image], { gradient: false }) },
      out: {
        codes: port(["B", patches], { dtype: "i32" }),
        z_q: port(["B", patches, dim], { gradient: false }),
        ...(train && { z: port(["B", patches, dim]), rec: port(["B", patches, targets]) }),
      },
    };
  },
  tensor: () => ({}),
  create(o) {
    const { width, heads, eps, dim, train } = o;
    const shape = { patches: (o.image / o.patch) ** 2, width, heads, eps };
    const encoder = vqKdEncoder({ ...shape, patch: o.patch, layers: o.layers, dim });
    const embedding = new nn.Parameter([o.codes, dim], unitRows(o.codes, dim, o.seed), { trainable: false });
    const codes = codebook({ codes: o.codes, dim, decay: o.decay, kmeansRounds: o.kmeans_rounds, restartDeadAfter: o.restart_dead_after }, embedding);
    const see = (pixels: Tensor, precision: Precision, context: ForwardContext) =>
      encoder.forward(toPrecision(o.pixels === "student" ? symmetric(pixels) : pixels, precision), context);

    if (!train) {
      const parameters = nn.freeze(nn.collect({ tokenizer: encoder, "tokenizer.quantize.embedding.weight": embedding }), { seed: o.seed });
      return {
        frozen: true,
        parameters: () => parameters,
        // pixels (B, 3, S, S) -> codes (B, P), z_q (B, P, D)
        forward: ({ pixels }, context) => {
          const { codes: found, nearest } = codes.quantise(see(pixels, "f32", context), { training: false, seed: context.seed, step: 0 });
          return { codes: found, z_q: nearest };
        },
      };
    }
    const decoder = vqKdDecoder({ ...shape, layers: o.decoder_layers, dim, targets: o.targets });
    const parameters = { ...nn.collect({ tokenizer: encoder, "tokenizer.quantize": codes }), ...nn.collect({ tokenizer: decoder }) };
    return {
      parameters: () => parameters,
      // pixels (B, 3, S, S) -> codes (B, P), z_q and z (B, P, D), rec (B, P, Tw)
      forward: ({ pixels }, context) => {
        const { z, codes: found, nearest, straightThrough } = codes.quantise(see(pixels, context.precision, context), context);
        return { codes: found, z_q: nearest, z, rec: decoder.forward(toPrecision(straightThrough, context.precision), context) };
      },
      afterStep: (sums) => codes.afterStep(sums),
    };
  },
});

/** Directions drawn evenly from the sphere (VT-3). */
function unitRows(count: number, dim: number, seed: number): nn.Initializer {
  return {
    kind: "data",
    data: () => {
      const values = Float64Array.from(nn.initialValues(nn.normal(1), count * dim, seed, "tokenizer.quantize.embedding.weight"));
      for (let row = 0; row < values.length; row += dim) {
        const length = Math.hypot(...values.subarray(row, row + dim));
        for (let d = row; d < row + dim; d++) values[d] /= length;
      }
      return values;
    },
  };
}

/** Student's normalisation -> [0, 1], clamped -> [-1, 1]. pixels (B, 3, S, S). */
function symmetric(pixels: Tensor): Tensor {
  const channels = (values: readonly number[]) => fromArray(values, [1, 3, 1, 1], pixels.dtype);
  const unit = add(mul(pixels, channels(student.deviation)), channels(student.mean));
  return sub(scale(clamp(unit, 0, 1), 2), fromArray([1], [1], pixels.dtype));
}
