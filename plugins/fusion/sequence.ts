/**
 * How both modalities come into one sequence: each projected to the memory's width, marked by what it is, placed on the page.
 * Order: image class token, image patches row by row, text tokens. Owns `proj.*` and `fusion.type_embed`.
 */
import { z } from "zod";
import { add, concat, full, nn, port, slice, type Ports, type Tensor } from "../../runtime/index.ts";

/** Options that every fusion has. */
export const sequenceOptions = {
  image_width: z.int().positive().default(96),
  text_width: z.int().positive().default(96),
  width: z.int().positive().default(96),
  /** Patches per side of the page. */
  grid: z.int().positive().default(8),
};

export interface SequenceOptions { image_width: number; text_width: number; width: number; grid: number }

export function sequencePorts({ image_width, text_width, width, grid }: SequenceOptions): Ports {
  const imageTokens = 1 + grid * grid;
  return {
    in: {
      image: port(["B", imageTokens, image_width]), text: port(["B", "T", text_width]), text_mask: port(["B", "T"], { dtype: "u8" }),
      image_position: port([imageTokens, width], { optional: true }), text_position: port(["B", "T", width], { optional: true }),
    },
    // M = 1 + P + T
    out: { memory: port(["B", "M", width]), memory_mask: port(["B", "M"], { dtype: "u8" }) },
  };
}

export interface Sequence extends nn.Module {
  /** -> tokens (B, M, D), mask u8 (B, M), and how many tokens the image has. */
  join(inputs: Record<string, Tensor>): { tokens: Tensor; mask: Tensor; imageTokens: number };
}

export function sequence({ image_width, text_width, width }: SequenceOptions): Sequence {
  const init = nn.truncatedNormal();
  const vision = nn.linear({ in: image_width, out: width, init });
  const text = nn.linear({ in: text_width, out: width, init });
  const types = nn.embedding({ count: 2, width, init });

  function mark(states: Tensor, type: 0 | 1, position: Tensor | undefined): Tensor {
    const marked = add(states, slice(types.weight.value, 0, type, 1));
    return position ? add(marked, position) : marked;
  }

  return {
    parameters: () => nn.collect({ "proj.vision": vision, "proj.text": text, "fusion.type_embed": types }),
    join(inputs) {
      const imageTokens = inputs.image.shape[1];
      const image = mark(vision.forward(inputs.image), 0, inputs.image_position);
      const words = mark(text.forward(inputs.text), 1, inputs.text_position);
      const allReal = full([inputs.image.shape[0], imageTokens], 1, "u8");
      return { tokens: concat([image, words], 1), mask: concat([allReal, inputs.text_mask], 1), imageTokens };
    },
  };
}
