/** A handful of plugins with ports like the real ones and no arithmetic, and a recipe that wires them rightly. */
import { z } from "zod";
import { Parameter } from "../../../runtime/nn/index.ts";
import { createRegistry, definePlugin, port } from "../../../runtime/plugin/index.ts";
import type { Components, Kind, Plugin, Ports, Registry } from "../../../runtime/plugin/index.ts";

const weight = (shape: readonly number[]): Parameter => new Parameter(shape, { kind: "zeros" });

/** A component that is only checked, never run. */
function inert(parameters: Record<string, Parameter>, frozen = false): Components["fusion"] {
  return { parameters: () => parameters, frozen, forward: () => { throw new Error("the small world never computes"); } };
}

const ids = { dtype: "i32" } as const;
const mask = { dtype: "u8" } as const;

export const pages = definePlugin({
  kind: "data-loader", name: "pages", version: "1.0.0",
  options: z.strictObject({ image: z.int().default(16), patches: z.int().default(4), longest_text: z.int().min(8).multipleOf(8).default(32) }),
  ports: ({ image, patches }) => ({ in: {}, out: {
    pixels: port(["B", 3, image, image], { gradient: false }), patch_mask: port(["B", patches], mask),
    text_ids: port(["B", "T"], ids), text_mask: port(["B", "T"], mask), labels: port(["B", "T"], ids),
  } }),
  counts: ["text_tokens", "patches"],
  maxDims: ({ longest_text }) => ({ T: longest_text }),
  create: () => ({}) as Components["data-loader"],
});

export const image = definePlugin({
  kind: "image-encoder", name: "patches", version: "1.2.0",
  options: z.strictObject({ image: z.int().default(16), patches: z.int().default(4), width: z.int().min(1).default(8), heads: z.int().default(2) })
    .refine(({ width, heads }) => width % heads === 0, { message: "heads divide width", path: ["heads"] }),
  ports: (o) => ({
    in: { pixels: port(["B", 3, o.image, o.image], { gradient: false }), patch_mask: port(["B", o.patches], { ...mask, optional: true }) },
    out: { states: port(["B", 1 + o.patches, o.width]) },
  }),
  create: ({ width }) => inert({ "vision.weight": weight([width, 12]), "vision.bias": weight([width]) }),
});

export const text = definePlugin({
  kind: "text-encoder", name: "words", version: "1.0.0",
  options: z.strictObject({ width: z.int().default(8), vocabulary: z.int().default(50), activation: z.enum(["silu", "gelu"]).default("silu"), layers: z.union([z.literal("all"), z.int().min(1)]).default("all") }),
  ports: ({ width, vocabulary }) => ({
    in: { text_ids: port(["B", "T"], ids), text_mask: port(["B", "T"], mask) },
    out: { states: port(["B", "T", width]), embedding: port([vocabulary, width]) },
  }),
  create: ({ width, vocabulary }) => inert({ "text.embedding": weight([vocabulary, width]) }),
});

export const join = definePlugin({
  kind: "fusion", name: "join", version: "1.0.0",
  options: z.strictObject({ width: z.int().default(8), patches: z.int().default(4), text_width: z.int().default(8) }),
  ports: ({ width, patches, text_width }) => ({
    in: {
      image: port(["B", 1 + patches, width]), text: port(["B", "T", text_width]), text_mask: port(["B", "T"], mask),
      text_position: port(["B", "T", width], { optional: true }),
    },
    out: { memory: port(["B", "M", width]), memory_mask: port(["B", "M"], mask) },
  }),
  maxDims: ({ patches }, { T }): Record<string, number> => (T === undefined ? {} : { M: 1 + patches + T }),
  create: ({ width }) => inert({ "fusion.weight": weight([width, width]) }),
});

export const position = definePlugin({
  kind: "position", name: "waves", version: "1.0.0", options: z.strictObject({ width: z.int().default(8) }),
  ports: ({ width }) => ({ in: { text_mask: port(["B", "T"], mask) }, out: { text: port(["B", "T", width]) } }),
  create: ({ width }) => inert({ "lff.weight": weight([width]) }),
});

export const teacher = definePlugin({
  kind: "teacher", name: "stub", version: "1.0.0", options: z.strictObject({ image: z.int().default(16), width: z.int().default(8) }),
  ports: ({ image: side, width }) => ({ in: { pixels: port(["B", 3, side, side], { gradient: false }) }, out: { targets: port(["B", 4, width], { gradient: false }) } }),
  create: ({ width }) => inert({ "teacher.weight": weight([width, 3]) }, true),
});

export const tokens = definePlugin({
  kind: "objective", name: "tokens", version: "1.0.0", options: z.strictObject({ width: z.int().default(8), vocabulary: z.int().default(50) }),
  counts: ["text_tokens"],
  ports: ({ width, vocabulary }) => ({ in: { memory: port(["B", "M", width]), labels: port(["B", "T"], ids), embedding: port([vocabulary, width]) }, out: { loss: port([1]) } }),
  create: () => inert({}),
});

export const imitate = definePlugin({
  kind: "objective", name: "imitate", version: "1.0.0", options: z.strictObject({ width: z.int().default(8) }),
  counts: ["patches"],
  ports: ({ width }) => ({ in: { memory: port(["B", "M", width]), targets: port(["B", 4, width], { gradient: false }) }, out: { loss: port([1]) } }),
  create: ({ width }) => inert({ "mim.head": weight([width, width]) }),
});

export const contrast = definePlugin({
  kind: "objective", name: "contrast", version: "1.0.0", options: z.strictObject({}), separable: false,
  ports: () => ({ in: { states: port(["B", "T", 8]) }, out: { loss: port([1]) } }),
  create: () => inert({}),
});

/** A fusion with any ports, for graphs that the others cannot make. */
export const custom = (name: string, ports: Ports, parameters: Record<string, Parameter> = {}, kind: Kind = "fusion"): Plugin =>
  definePlugin({ kind, name, version: "1.0.0", options: z.strictObject({}), ports: () => ports, create: () => inert(parameters) as never });

const never = (): never => { throw new Error("never stepped"); };
export const optimizer = definePlugin({
  kind: "optimizer", name: "adamw", version: "1.0.0", options: z.strictObject({ lr: z.number().positive().default(1e-3), betas: z.tuple([z.number(), z.number()]).default([0.9, 0.98]) }),
  create: () => ({ create: () => ({ stateNames: ["m", "v"], step: never, state: never, load: never, dispose: () => {} }), learningRate: () => 0 }),
});
export const tracker = definePlugin({
  kind: "tracker", name: "console", version: "1.0.0", options: z.strictObject({ every: z.int().default(1) }),
  create: () => { throw new Error("a check creates no tracker"); },
});

export const world = [pages, image, text, join, position, teacher, tokens, imitate, contrast, optimizer, tracker];
export const registry = (...more: Plugin[]): Registry => createRegistry([...world, ...more]);

export const recipeText = `name: small
components:
  pages: { use: data-loader/pages }
  image:
    use: image-encoder/patches
    in: { pixels: pages.pixels, patch_mask: pages.patch_mask }
  text:
    use: text-encoder/words
    in: { text_ids: pages.text_ids, text_mask: pages.text_mask }
  teacher: { use: teacher/stub, in: { pixels: pages.pixels } }
  place: { use: position/waves, in: { text_mask: pages.text_mask } }
  fusion:
    use: fusion/join
    in:
      image: image.states
      text: text.states
      text_mask: pages.text_mask
      text_position: place.text
  mlm: { use: objective/tokens, in: { memory: fusion.memory, labels: pages.labels, embedding: text.embedding } }
  mim: { use: objective/imitate, in: { memory: fusion.memory, targets: teacher.targets } }
stages:
  pages: [pages]
  image: [image, teacher]
  text: [text]
  fusion: [place, fusion, mlm, mim]
train:
  steps: 3
  batch: 8
  microbatches: 4
trackers: [{ use: tracker/console }]
`;

/** The recipe with one text replaced by another; the first must be there. */
export function edited(from: string, to: string, base = recipeText): string {
  if (!base.includes(from)) throw new Error(`the recipe has no ${JSON.stringify(from)}`);
  return base.replace(from, to);
}
