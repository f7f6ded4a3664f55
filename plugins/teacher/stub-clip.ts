/**
 * A frozen CLIP vision tower that nobody trained: random weights from one seed. It gives every patch a fixed, content-dependent
 * target of the right shape, so that masked image modelling can be built, tested and ablated without downloaded weights.
 * Source: Radford et al. 2021 (tower and its initialisation); the targets `ln_post(x)[:, 1:] @ proj` are those of BEiT v2
 * (Peng et al. 2022).
 *
 * TE-1: the weights depend on the option `seed` alone, not on the seed of the run: every run and every arm of a study sees
 *       the same teacher.
 * TE-2: nothing here is trained and no gradient leaves.
 */
import { z } from "zod";
import {
  add, attention, concat, definePlugin, fnv1a32, fromArray, layerNorm, linear, matmul, mul, nn, patchify, Philox, port,
  quickGelu, relu, reshape, slice, split, sub, toPrecision, zeros, type Tensor,
} from "../../runtime/index.ts";

/** Pages arrive normalised for the student; the teacher wants its own mean and deviation. Source: the two models' releases. */
const student = { mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] };
const teacher = { mean: [0.48145466, 0.4578275, 0.40821073], deviation: [0.26862954, 0.26130258, 0.27577711] };
const eps = 1e-5;

export const stubClip = definePlugin({
  kind: "teacher", name: "stub-clip", version: "1.0.0",
  about: "Frozen, randomly initialised CLIP vision tower (Radford et al. 2021): fixed targets without downloads.",
  options: z.strictObject({
    image: z.int().positive().default(128),
    patch: z.int().positive().default(16),
    width: z.int().positive().default(64),
    layers: z.int().positive().default(2),
    heads: z.int().positive().default(4),
    targets: z.int().positive().default(64),
    seed: z.int().nonnegative().default(0),
    /** `student`: pixels normalised for the image encoder, converted here. `none`: pixels used as they come. */
    pixels: z.enum(["student", "none"]).default("student"),
  }).refine((o) => o.image % o.patch === 0, { error: "image must be a multiple of patch", path: ["patch"] })
    .refine((o) => o.width % o.heads === 0, { error: "width must be a multiple of heads", path: ["heads"] }),
  ports: ({ image, patch, targets }) => ({
    in: { pixels: port(["B", 3, image, image], { gradient: false }) },
    out: { targets: port(["B", (image / patch) ** 2, targets], { gradient: false }) },
  }),
  create({ image, patch, width, layers, heads, targets, seed, pixels: normalisation }) {
    const patches = (image / patch) ** 2;
    const random = (name: string, shape: number[], std: number) =>
      new nn.Parameter(shape, drawn(`teacher.${name}`, shape, std, seed), { trainable: false });
    const perWidth = width ** -0.5;
    const convolution = random("conv1.weight", [width, 3, patch, patch], (3 * patch * patch) ** -0.5);
    const classEmbedding = random("class_embedding", [width], perWidth);
    const positions = random("positional_embedding", [patches + 1, width], perWidth);
    const blocks = Array.from({ length: layers }, (_, index) => residualBlock({ width, layers, heads, index, random }));
    const [before, after] = [frozenLayerNorm(width), frozenLayerNorm(width)];
    const projection = random("proj", [width, targets], perWidth);
    const parameters = nn.collect({
      "teacher.conv1.weight": convolution, "teacher.class_embedding": classEmbedding, "teacher.positional_embedding": positions,
      "teacher.ln_pre": before, "teacher.ln_post": after, "teacher.proj": projection,
      "teacher.transformer.resblocks": blocks,
    });

    return {
      frozen: true,
      parameters: () => parameters,
      // pixels (B, 3, S, S) -> targets (B, P, Tw)
      forward: ({ pixels }, { precision }) => {
        const batch = pixels.shape[0];
        const seen = toPrecision(normalisation === "student" ? renormalise(pixels) : pixels, precision);
        const embedded = linear(patchify(seen, patch), reshape(convolution.value, [width, 3 * patch * patch]));
        const cls = add(zeros([batch, 1, width], seen.dtype), classEmbedding.value);
        let states = before.forward(add(concat([cls, embedded], 1), positions.value));
        for (const block of blocks) states = block.forward(states);
        const patchStates = reshape(slice(after.forward(states), 1, 1, patches), [batch * patches, width]);
        return { targets: reshape(matmul(patchStates, projection.value), [batch, patches, targets]) };
      },
    };
  },
});

type Random = (name: string, shape: number[], std: number) => nn.Parameter;

/** x + attention(ln_1(x)), then x + mlp(ln_2(x)), QuickGELU between the two layers of the mlp. Names of the released towers. */
function residualBlock({ width, layers, heads, index, random }:
  { width: number; layers: number; heads: number; index: number; random: Random }): nn.Module & { forward(x: Tensor): Tensor } {
  const name = `transformer.resblocks.${index}`;
  const residualStd = width ** -0.5 * (2 * layers) ** -0.5;
  const bias = (size: number) => new nn.Parameter([size], { kind: "zeros" }, { trainable: false });
  const inWeight = random(`${name}.attn.in_proj_weight`, [3 * width, width], width ** -0.5);
  const outWeight = random(`${name}.attn.out_proj.weight`, [width, width], residualStd);
  const fcWeight = random(`${name}.mlp.c_fc.weight`, [4 * width, width], (2 * width) ** -0.5);
  const projWeight = random(`${name}.mlp.c_proj.weight`, [width, 4 * width], residualStd);
  const [inBias, outBias, fcBias, projBias] = [bias(3 * width), bias(width), bias(4 * width), bias(width)];
  const [norm1, norm2] = [frozenLayerNorm(width), frozenLayerNorm(width)];
  const parameters = nn.collect({
    "attn.in_proj_weight": inWeight, "attn.in_proj_bias": inBias, "attn.out_proj.weight": outWeight, "attn.out_proj.bias": outBias,
    ln_1: norm1, ln_2: norm2,
    "mlp.c_fc.weight": fcWeight, "mlp.c_fc.bias": fcBias, "mlp.c_proj.weight": projWeight, "mlp.c_proj.bias": projBias,
  });
  return {
    parameters: () => parameters,
    forward(x) {
      const [q, k, v] = split(linear(norm1.forward(x), inWeight.value, inBias.value), 2, [width, width, width]);
      const attended = add(x, linear(attention({ q, k, v, heads }), outWeight.value, outBias.value));
      const hidden = quickGelu(linear(norm2.forward(attended), fcWeight.value, fcBias.value));
      return add(attended, linear(hidden, projWeight.value, projBias.value));
    },
  };
}

function frozenLayerNorm(width: number): nn.Layer {
  const weight = new nn.Parameter([width], { kind: "ones" }, { trainable: false });
  const bias = new nn.Parameter([width], { kind: "zeros" }, { trainable: false });
  return { parameters: () => nn.collect({ weight, bias }), forward: (x) => layerNorm(x, weight.value, bias.value, { eps }) };
}

/** Normal numbers from a Philox stream of the parameter's own name (TE-1). */
function drawn(name: string, shape: readonly number[], std: number, seed: number): nn.Initializer {
  return {
    kind: "data",
    data: () => {
      const random = new Philox(seed, fnv1a32(name));
      return Float64Array.from({ length: shape.reduce((product, dim) => product * dim, 1) }, () => std * random.normal());
    },
  };
}

/** Student's normalisation -> [0, 1], clamped -> the teacher's normalisation. pixels (B, 3, S, S). */
function renormalise(pixels: Tensor): Tensor {
  const channels = (values: readonly number[]) => fromArray(values, [1, 3, 1, 1], pixels.dtype);
  const unit = add(mul(pixels, channels(student.deviation)), channels(student.mean));
  const clamped = sub(relu(unit), relu(sub(unit, fromArray([1], [1], pixels.dtype))));
  return add(mul(clamped, channels(teacher.deviation.map((d) => 1 / d))), channels(teacher.mean.map((m, c) => -m / teacher.deviation[c])));
}
