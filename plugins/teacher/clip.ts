/**
 * CLIP: an image tower and a text tower that meet in one space. As `teacher/clip` it is frozen and waits for released weights; its
 * projected patch features are what VQ-KD decodes to and what masked patches may be regressed on. As `teacher/mini-clip` it is small,
 * and learns on pages and their own text with `objective/contrastive`, for whoever has no released weights.
 * Sources: Radford et al. 2021; Peng et al. 2022 (the targets `ln_post(x)[:, 1:] @ proj`).
 *
 * CL-1: frozen, nothing is trained and no gradient leaves.
 * CL-2: `logit_scale` is kept as a logarithm, at most ln 100 after every step.
 *
 * Parameter names are OpenAI's under `teacher.`: `visual.*`, `transformer.resblocks.*`, `token_embedding.weight`, `text_projection` ...
 */
import { z } from "zod";
import { assign, clamp, definePlugin, nn, port, reshape, slice, toPrecision, type ForwardContext, type Ports, type Tensor } from "../../runtime/index.ts";
import { pixelsOption, renormalise } from "./pixels.ts";
import { textTower, visionTower } from "./towers.ts";

interface Sizes { image: number; patch: number; width: number; layers: number; heads: number; targets: number; pixels: "student" | "none" }
interface TextSizes { vocabulary: number; context: number; width: number; layers: number; heads: number }

const count = (size: number) => z.int().positive().default(size);
const vision = (o: { image: number; patch: number; width: number; layers: number; heads: number; targets: number }) => ({
  image: count(o.image), patch: count(o.patch), width: count(o.width), layers: count(o.layers), heads: count(o.heads),
  /** Width of the common space. */
  targets: count(o.targets),
  pixels: pixelsOption,
});
const text = (o: TextSizes) => z.strictObject({
  vocabulary: count(o.vocabulary),
  /** Longest text; what is beyond it is not read. */
  context: count(o.context),
  width: count(o.width), layers: count(o.layers), heads: count(o.heads),
});
const fits = (o: Pick<Sizes, "image" | "patch" | "width" | "heads">) => o.image % o.patch === 0 && o.width % o.heads === 0;
const misfit = { error: "image must be a multiple of patch, and width of heads", path: ["image"] };

export const clip = definePlugin({
  kind: "teacher", name: "clip", version: "1.0.0",
  about: "CLIP with released weights (Radford et al. 2021), frozen: patch features, and optionally page and text embeddings.",
  options: z.strictObject({
    ...vision({ image: 224, patch: 16, width: 768, layers: 12, heads: 12, targets: 512 }),
    /** The text tower, for retrieval; `{}` is that of ViT-B/16. */
    text: text({ vocabulary: 49408, context: 77, width: 512, layers: 12, heads: 8 }).optional(),
  }).refine(fits, misfit),
  ports: (o) => ports(o, { embeds: o.text !== undefined, masked: false, gradient: false }),
  tensor: () => ({}),
  create: (o) => towers(o, o.text, { train: false, masked: false }),
});

export const miniClip = definePlugin({
  kind: "teacher", name: "mini-clip", version: "1.0.0",
  about: "A small CLIP of one's own: learns pages against their text (Radford et al. 2021), then teaches.",
  options: z.strictObject({
    ...vision({ image: 128, patch: 16, width: 64, layers: 2, heads: 4, targets: 64 }),
    text: text({ vocabulary: 2048, context: 320, width: 64, layers: 2, heads: 4 }).prefault({}),
    /** Learn both towers; false: the image tower alone, frozen, as a teacher. */
    train: z.boolean().default(true),
  }).refine(fits, misfit),
  ports: (o) => ports(o, { embeds: o.train, masked: true, gradient: o.train }),
  tensor: () => ({}),
  create: (o) => towers(o, o.train ? o.text : undefined, { train: o.train, masked: true }),
});

/** `masked`: texts come with a mask and end at their last real token. */
function ports({ image, patch, targets }: Sizes, { embeds, masked, gradient }: { embeds: boolean; masked: boolean; gradient: boolean }): Ports {
  return {
    in: {
      pixels: port(["B", 3, image, image], { gradient: false }),
      ...(embeds && { text_ids: port(["B", "T"], { dtype: "i32" }) }),
      ...(embeds && masked && { text_mask: port(["B", "T"], { dtype: "u8" }) }),
    },
    out: {
      targets: port(["B", (image / patch) ** 2, targets], { gradient: false }),
      ...(embeds && {
        image_embedding: port(["B", targets], { gradient }), text_embedding: port(["B", targets], { gradient }), logit_scale: port([1], { gradient }),
      }),
    },
  };
}

function towers({ pixels: normalisation, ...shape }: Sizes, textShape: TextSizes | undefined, { train, masked }: { train: boolean; masked: boolean }) {
  const visual = visionTower(shape);
  const words = textShape && textTower({ ...textShape, targets: shape.targets });
  const logitScale = textShape && new nn.Parameter([], { kind: "constant", value: Math.log(1 / 0.07) });
  const parameters = { ...nn.collect({ "teacher.visual": visual, "teacher.logit_scale": logitScale }), ...(words && nn.collect({ teacher: words })) };
  if (!train) nn.freeze(parameters);
  const patches = (shape.image / shape.patch) ** 2;
  return {
    frozen: !train,
    parameters: () => parameters,
    // pixels (B, 3, S, S), text_ids (B, T), text_mask (B, T) -> targets (B, P, Tw); embeddings (B, Tw), logit_scale (1)
    forward: ({ pixels, text_ids, text_mask }: Record<string, Tensor>, { precision }: ForwardContext): Record<string, Tensor> => {
      const tokens = visual.forward(toPrecision(normalisation === "student" ? renormalise(pixels) : pixels, precision));
      const targets = slice(tokens, 1, 1, patches);
      if (!words || !logitScale) return { targets };
      return {
        targets, image_embedding: reshape(slice(tokens, 1, 0, 1), [tokens.shape[0], shape.targets]),
        text_embedding: words.forward(text_ids, { mask: masked ? text_mask : undefined, precision }), logit_scale: reshape(logitScale.value, [1]),
      };
    },
    afterStep: () => { if (train && logitScale) assign(clamp(logitScale.value, -Infinity, Math.log(100)), logitScale.value); },
  };
}
