/**
 * How both modalities come into one sequence: each projected to the memory's width, marked by what it is, placed on the page.
 * Order: image class token, image patches row by row, text tokens. Owns `proj.*` and `fusion.type_embed`.
 */
import { z } from "zod";
import { add, concat, full, nn, permute, port, reshape, slice, type Ports, type Tensor } from "../../runtime/index.ts";

/** Options that every fusion has. */
export const sequenceOptions = {
  image_width: z.int().positive().default(96),
  text_width: z.int().positive().default(96),
  width: z.int().positive().default(96),
  /** Cells per side of the page in the memory, and patches per side of a cell: large pages have fewer cells than patches. */
  grid: z.int().positive().default(8),
  merge: z.int().positive().default(1),
};

export interface SequenceOptions { image_width: number; text_width: number; width: number; grid: number; merge: number }

export function sequencePorts({ image_width, text_width, width, grid, merge }: SequenceOptions): Ports {
  const imageTokens = 1 + grid * grid;
  return {
    in: {
      image: port(["B", 1 + (grid * merge) ** 2, image_width]), text: port(["B", "T", text_width]), text_mask: port(["B", "T"], { dtype: "u8" }),
      image_position: port([imageTokens, width], { optional: true }), text_position: port(["B", "T", width], { optional: true }),
    },
    // M = 1 + cells + T
    out: { memory: port(["B", "M", width]), memory_mask: port(["B", "M"], { dtype: "u8" }) },
  };
}

export interface Sequence extends nn.Module {
  /** -> tokens (B, M, D), mask u8 (B, M), and how many tokens the image has. */
  join(inputs: Record<string, Tensor>): { tokens: Tensor; mask: Tensor; imageTokens: number };
}

export function sequence({ image_width, text_width, width, grid, merge }: SequenceOptions): Sequence {
  const init = nn.truncatedNormal();
  const vision = nn.linear({ in: merge * merge * image_width, out: width, init });
  const text = nn.linear({ in: text_width, out: width, init });
  const types = nn.embedding({ count: 2, width, init });

  function mark(states: Tensor, type: 0 | 1, position: Tensor | undefined): Tensor {
    const marked = add(states, slice(types.weight.value, 0, type, 1));
    return position ? add(marked, position) : marked;
  }

  return {
    parameters: () => nn.collect({ "proj.vision": vision, "proj.text": text, "fusion.type_embed": types }),
    join(inputs) {
      const imageTokens = 1 + grid * grid;
      const image = mark(vision.forward(merge === 1 ? inputs.image : mergeCells(inputs.image, grid, merge)), 0, inputs.image_position);
      const words = mark(text.forward(inputs.text), 1, inputs.text_position);
      const allReal = full([inputs.image.shape[0], imageTokens], 1, "u8");
      return { tokens: concat([image, words], 1), mask: concat([allReal, inputs.text_mask], 1), imageTokens };
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
