/**
 * Where things are on the page: learnable Fourier features of boxes, for text tokens and for image patches alike.
 * Source: Li et al. 2021, "Learnable Fourier Features for Multi-Dimensional Spatial Positional Encoding", eq. 2-4.
 *
 *   f = [cos(X Wr^T), sin(X Wr^T)] / sqrt(F)      cosines first, no bias, no 2 pi, so |f|^2 = 1/2
 *   Y = Linear(GELU(Linear(f)))                    the same weights for both corners of a box
 *   position = [Y(x0, y0), Y(x1, y1)]
 *
 * Coordinates in [0, 1] are multiplied by `coord_scale` first, so that frequencies of N(0, 1/gamma^2) span a page.
 * A token without a box (specials, padding) gets one learned vector instead.
 */
import { z } from "zod";
import {
  cast, concat, cos, definePlugin, fromArray, full, gelu, linear, maskRows, nn, port, reshape, scale, sin, sub, toPrecision,
  type Precision, type Tensor,
} from "../../runtime/index.ts";

const corners = 2;

export const fourier = definePlugin({
  kind: "position", name: "fourier", version: "1.0.0",
  about: "Learnable Fourier features of boxes (Li et al. 2021).",
  options: z.strictObject({
    width: z.int().positive().multipleOf(corners).default(96),
    features: z.int().positive().multipleOf(2).default(64),
    hidden: z.int().positive().default(32),
    gamma: z.number().positive().default(1),
    coord_scale: z.number().positive().default(10),
    grid: z.int().positive().default(8),
  }),
  ports: ({ width, grid }) => ({
    in: { text_boxes: port(["B", "T", 4], { gradient: false }), has_box: port(["B", "T"], { dtype: "u8" }) },
    out: { image: port([1 + grid * grid, width]), text: port(["B", "T", width]) },
  }),
  tensor: () => ({}), // small
  create({ width, features, hidden, gamma, coord_scale, grid }) {
    const frequencies = new nn.Parameter([features / 2, 2], { kind: "normal", std: 1 / gamma }, { decay: false });
    // Uniform in +-1 / sqrt(inputs): a normal start of std 0.02 would leave positions a hundred times smaller than what they mark.
    const expand = nn.linear({ in: features, out: hidden, init: { kind: "uniform", bound: features ** -0.5 } });
    const project = nn.linear({ in: hidden, out: width / corners, init: { kind: "uniform", bound: hidden ** -0.5 } });
    const noBox = new nn.Parameter([width], { kind: "zeros" }, { decay: false });
    const parameters = nn.collect({
      "lff.Wr.weight": frequencies, "lff.mlp.0": expand, "lff.mlp.2": project, "lff.no_box": noBox,
    });

    // boxes (..., 4) in [0, 1] -> (..., D). Angles and their features keep f32: bf16 would move a box by pixels.
    function encode(boxes: Tensor, precision: Precision): Tensor {
      const leading = boxes.shape.slice(0, -1);
      const points = scale(reshape(boxes, [...leading, corners, 2]), coord_scale);
      const angles = linear(points, frequencies.value);
      const fourierFeatures = scale(concat([cos(angles), sin(angles)], angles.shape.length - 1), 1 / Math.sqrt(features));
      return reshape(project.forward(gelu(expand.forward(toPrecision(fourierFeatures, precision)))), [...leading, width]);
    }

    return {
      parameters: () => parameters,
      // text_boxes (B, T, 4), has_box (B, T) -> image (1 + P, D), text (B, T, D)
      forward: ({ text_boxes, has_box }, { precision }) => {
        const withoutBox = invert(has_box);
        return {
          image: encode(fromArray(patchBoxes(grid), [1 + grid * grid, 4], text_boxes.dtype), precision),
          text: maskRows(encode(text_boxes, precision), withoutBox, noBox.value),
        };
      },
    };
  },
});

/** The boxes of CLS (the whole page) and of the patches, row by row. */
export function patchBoxes(grid: number): Float64Array {
  const boxes = [0, 0, 1, 1];
  for (let row = 0; row < grid; row++) {
    for (let column = 0; column < grid; column++) boxes.push(column / grid, row / grid, (column + 1) / grid, (row + 1) / grid);
  }
  return Float64Array.from(boxes);
}

/** mask u8 -> 1 - mask. */
function invert(mask: Tensor): Tensor {
  return cast(sub(full([1], 1), cast(mask, "f32")), "u8");
}
