import { RuntimeError, ShapeError } from "../errors.ts";
import { defineOp } from "../autograd/index.ts";
import { type Tensor, allocate, kernel } from "../tensor/index.ts";
import { needFloat, needShape } from "./check.ts";

const resizeForward = kernel("resize_forward"), resizeBackward = kernel("resize_backward");

export interface ResizeOptions {
  height: number;
  width: number;
  /** Bicubic after Keys 1981 with a = -0.75. */
  mode: "bilinear" | "bicubic";
}

/**
 * Images of another size: x (..., H, W) -> (..., height, width), every plane by itself, pixel centres at (i + 1/2) H / height - 1/2
 * (align_corners = false), the edge repeated beyond itself, no antialiasing. The gradient adds with the same weights.
 * Throws ShapeError for an empty image or a size that is no whole number, ERR_INPUT for an unknown mode.
 */
export function resize(x: Tensor, o: ResizeOptions): Tensor {
  needFloat("resize", "x", x);
  needShape("resize", "x", x, ["...", "H", "W"], "Rows and columns are the last two dimensions; move them there with permute.");
  const [height, width] = x.shape.slice(-2);
  if (height * width === 0 || ![o.height, o.width].every((size) => Number.isInteger(size) && size > 0)) {
    throw new ShapeError({ op: "resize", operand: "x", expected: `(..., H, W) with pixels, to make ${o.height} x ${o.width}`, got: x.shape,
      fix: "Both sizes are whole numbers from 1 on." });
  }
  if (o.mode !== "bilinear" && o.mode !== "bicubic") {
    throw new RuntimeError("ERR_INPUT", `resize: mode expected "bilinear" or "bicubic", got ${JSON.stringify(o.mode)}. Name one of the two.`, { mode: o.mode });
  }
  return resizeOp(x, o);
}

const resizeOp = defineOp({
  name: "resize",
  operands: ["x"],
  forward(x: Tensor, { height, width, mode }: ResizeOptions) {
    const cubic = Number(mode === "bicubic");
    const y = allocate([...x.shape.slice(0, -2), height, width], x.dtype);
    resizeForward([x, y], [cubic]);
    return { output: y, saves: { shape: x.shape, cubic } };
  },
  gradients: {
    x(dy, { shape, cubic }) {
      const dx = allocate(shape, dy.dtype);
      resizeBackward([dy, dx], [cubic]);
      return dx;
    },
  },
});
