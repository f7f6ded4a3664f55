/**
 * A page in the words of a visual vocabulary: every patch becomes the number of its nearest code. These are the labels that BEiT v2
 * predicts under the mask. Here is what labelling needs, the encoder and the codebook; the decoder that a teacher's features train
 * them through, and the moving averages of the codebook, belong to that training and are not part of it.
 * Source: Peng et al. 2022 (BEiT v2), section 2.2; van den Oord et al. 2017 (the nearest code).
 *
 * VT-1: fresh weights depend on the option `seed` alone, not on the seed of the run: every run and every arm of a study reads the
 *       same codes.
 *       Nor does the precision of the run change them: everything here is f32, since bf16 would move patches to a neighbouring code.
 * VT-2: nothing here is trained and no gradient leaves.
 * VT-3: rows of a fresh codebook have unit length, and codes do not change when the encoder's output is scaled by a positive number.
 *
 * Fresh weights read the page without knowing it: on 64 pages of the example data they use 32 to 36 of the 256 codes, and one of them
 * for 75 to 93 % of the patches, because an untrained encoder sends all patches into one narrow cone and nothing has moved the codebook
 * there. That is enough to build, test and time with; labels worth learning need trained weights.
 *
 * Parameter names are those of the released checkpoints under `tokenizer.`.
 */
import { z } from "zod";
import { add, definePlugin, fromArray, gatherRows, mul, nearestCode, nn, port, relu, scale, sub, type Tensor } from "../../runtime/index.ts";
import { vqKdEncoder, type Frozen } from "./encoder.ts";

/** Pages arrive normalised for the student. Source: the image encoder's release. */
const student = { mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] };

export const vqKd = definePlugin({
  kind: "visual-tokenizer", name: "vq-kd", version: "1.0.0",
  about: "Frozen VQ-KD encoder and codebook (Peng et al. 2022): the code of every patch.",
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
    seed: z.int().nonnegative().default(0),
    /** `student`: pixels normalised for the image encoder, converted here. `none`: pixels used as they come, in [-1, 1]. */
    pixels: z.enum(["student", "none"]).default("student"),
  }).refine((o) => o.image % o.patch === 0, { error: "image must be a multiple of patch", path: ["patch"] })
    .refine((o) => o.width % o.heads === 0, { error: "width must be a multiple of heads", path: ["heads"] }),
  ports: ({ image, patch, dim }) => {
    const patches = (image / patch) ** 2;
    return {
      in: { pixels: port(["B", 3, image, image], { gradient: false }) },
      out: {
        codes: port(["B", patches], { dtype: "i32" }),
        z_q: port(["B", patches, dim], { gradient: false }),
      },
    };
  },
  create({ codes: count, seed, pixels: normalisation, ...shape }) {
    const frozen: Frozen = (name, dims, init) =>
      new nn.Parameter(dims, seeded(`tokenizer.${name}`, dims, init, seed), { trainable: false });
    const encoder = vqKdEncoder(shape, frozen);
    const codebookName = "tokenizer.quantize.embedding.weight";
    const codebook = new nn.Parameter([count, shape.dim], unitRows(codebookName, count, shape.dim, seed), { trainable: false });
    const parameters = nn.collect({ tokenizer: encoder, [codebookName]: codebook });
    return {
      frozen: true,
      parameters: () => parameters,
      // pixels (B, 3, S, S) -> codes (B, P), z_q (B, P, D)
      forward: ({ pixels }) => {
        const latent = encoder.forward(normalisation === "student" ? symmetric(pixels) : pixels);
        const codes = nearestCode(latent, codebook.value);
        return { codes, z_q: gatherRows(codebook.value, codes) };
      },
    };
  },
});

/** The values that `init` gives under another seed than the run's (VT-1). */
function seeded(name: string, shape: readonly number[], init: nn.Initializer, seed: number): nn.Initializer {
  const size = shape.reduce((product, dim) => product * dim, 1);
  return { kind: "data", data: () => Float64Array.from(nn.initialValues(init, size, seed, name)) };
}

/** Directions drawn evenly from the sphere (VT-3). */
function unitRows(name: string, count: number, dim: number, seed: number): nn.Initializer {
  return {
    kind: "data",
    data: () => {
      const values = Float64Array.from(nn.initialValues(nn.normal(1), count * dim, seed, name));
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
  const one = fromArray([1], [1], pixels.dtype);
  const unit = add(mul(pixels, channels(student.deviation)), channels(student.mean));
  const clamped = sub(relu(unit), relu(sub(unit, one)));
  return sub(scale(clamped, 2), one);
}
