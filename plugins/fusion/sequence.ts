/**
 * How both modalities come into one sequence: each projected to the memory's width, marked by what it is, placed on the page.
 * Order: image class token, image patches row by row, text tokens. Owns `proj.*` and `fusion.type_embed`.
 */
import { z } from "zod";
import { add, concat, expandTo, full, nn, permute, port, reshape, slice, zeros, type Ports, type Tensor } from "../../runtime/index.ts";

/** Options that every fusion has. */
export const sequenceOptions = {
  image_width: z.int().positive().default(96),
  text_width: z.int().positive().default(96),
  width: z.int().positive().default(96),
  /** Cells per side of the page in the memory, and patches per side of a cell: large pages have fewer cells than patches. */
  grid: z.int().positive().default(8),
  merge: z.int().positive().default(1),
  /** What there is: pages with their words, or one of the two alone. */
  modalities: z.enum(["both", "image", "text"]).default("both"),
};

export interface SequenceOptions { image_width: number; text_width: number; width: number; grid: number; merge: number; modalities: "both" | "image" | "text" }

export function sequencePorts({ image_width, text_width, width, grid, merge, modalities }: SequenceOptions): Ports {
  return {
    in: {
      ...(modalities !== "text" && { image: port(["B", 1 + (grid * merge) ** 2, image_width]), image_position: port([1 + grid * grid, width], { optional: true }) }),
      ...(modalities !== "image" && {
        text: port(["B", "T", text_width]), text_mask: port(["B", "T"], { dtype: "u8" }), text_position: port(["B", "T", width], { optional: true }),
      }),
    },
    // M = 1 + cells + T, or one of the two alone
    out: { memory: port(["B", "M", width]), memory_mask: port(["B", "M"], { dtype: "u8" }) },
  };
}

/** Largest memory, once a loader has said how long a text can be. */
export function sequenceMaxDims({ grid, modalities }: { grid: number; modalities?: "both" | "image" | "text" }, { T }: Readonly<Record<string, number>>): Record<string, number> {
  const cells = modalities === "text" ? 0 : 1 + grid * grid, words = modalities === "image" ? 0 : T;
  return words === undefined ? {} : { M: cells + words };
}

export interface Joined {
  /** (B, M, D) */
  tokens: Tensor;
  /** u8 (B, M) */
  mask: Tensor;
  imageTokens: number;
  /** (B, M, D), where they were kept apart from the tokens and there are any. */
  positions?: Tensor;
}

export interface Sequence extends nn.Module {
  join(inputs: Record<string, Tensor>): Joined;
}

/** `positions: "apart"`: not added to the tokens. */
export function sequence({ image_width, text_width, width, grid, merge, modalities }: SequenceOptions, { positions = "added" }: { positions?: "added" | "apart" } = {}): Sequence {
  const init = nn.truncatedNormal();
  const vision = modalities === "text" ? undefined : nn.linear({ in: merge * merge * image_width, out: width, init });
  const text = modalities === "image" ? undefined : nn.linear({ in: text_width, out: width, init });
  const types = nn.embedding({ count: 2, width, init });

  function mark(states: Tensor, type: 0 | 1, position: Tensor | undefined): Tensor {
    const marked = add(states, slice(types.weight.value, 0, type, 1));
    return position && positions === "added" ? add(marked, position) : marked;
  }
  const joined = (parts: readonly Tensor[]): Tensor => (parts.length === 1 ? parts[0] : concat(parts, 1));

  return {
    parameters: () => nn.collect({ "proj.vision": vision, "proj.text": text, "fusion.type_embed": types }),
    join(inputs) {
      const tokens: Tensor[] = [], masks: Tensor[] = [], apart: (Tensor | undefined)[] = [];
      if (vision) {
        tokens.push(mark(vision.forward(merge === 1 ? inputs.image : mergeCells(inputs.image, grid, merge)), 0, inputs.image_position));
        masks.push(full([inputs.image.shape[0], 1 + grid * grid], 1, "u8"));
        apart.push(inputs.image_position);
      }
      if (text) {
        tokens.push(mark(text.forward(inputs.text), 1, inputs.text_position));
        masks.push(inputs.text_mask);
        apart.push(inputs.text_position);
      }
      const kept = positions === "apart" && apart.some(Boolean)
        ? joined(apart.map((position, i) => (position ? expandTo(position, tokens[i].shape) : zeros(tokens[i].shape, tokens[i].dtype)))) : undefined;
      return { tokens: joined(tokens), mask: joined(masks), imageTokens: vision ? 1 + grid * grid : 0, positions: kept };
    },
  };
}

/**
 * Patches of a cell side by side, row by row; the class token as often, so that one projection serves both:
 * (B, 1 + (grid merge)², D) -> (B, 1 + grid², merge² D).
 */
function mergeCells(image: Tensor, grid: number, merge: number): Tensor {
  const [batch, , width] = image.shape, times = merge * merge;
  const cls = slice(image, 1, 0, 1);
  const patches = reshape(slice(image, 1, 1, grid * grid * times), [batch * grid, merge, grid, merge * width]);
  const cells = reshape(permute(patches, [0, 2, 1, 3]), [batch, grid * grid, times * width]);
  return concat([concat(new Array<Tensor>(times).fill(cls), 2), cells], 1);
}
