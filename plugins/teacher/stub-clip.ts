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
import { definePlugin, fnv1a32, nn, Philox, port, slice, toPrecision } from "../../runtime/index.ts";
import { pixelsOption, renormalise } from "./pixels.ts";
import { visionTower } from "./towers.ts";

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
    pixels: pixelsOption,
  }).refine((o) => o.image % o.patch === 0, { error: "image must be a multiple of patch", path: ["patch"] })
    .refine((o) => o.width % o.heads === 0, { error: "width must be a multiple of heads", path: ["heads"] }),
  ports: ({ image, patch, targets }) => ({
    in: { pixels: port(["B", 3, image, image], { gradient: false }) },
    out: { targets: port(["B", (image / patch) ** 2, targets], { gradient: false }) },
  }),
  tensor: () => ({}),
  create({ seed, pixels: normalisation, ...shape }) {
    const tower = visionTower({ ...shape, start: (name, dims, std) => drawn(`teacher.${name}`, dims, std, seed) });
    const parameters = nn.freeze(nn.collect({ teacher: tower }));
    const patches = (shape.image / shape.patch) ** 2;
    return {
      frozen: true,
      parameters: () => parameters,
      // pixels (B, 3, S, S) -> targets (B, P, Tw)
      forward: ({ pixels }, { precision }) => {
        const seen = toPrecision(normalisation === "student" ? renormalise(pixels) : pixels, precision);
        return { targets: slice(tower.forward(seen), 1, 1, patches) };
      },
    };
  },
});

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
