import { ShapeError } from "../errors.ts";
import { defineOp } from "../autograd/index.ts";
import { type Tensor, allocate, kernel } from "../tensor/index.ts";
import { like, needAxis, needDtype, needFloat, needShape } from "./check.ts";

const gatherRowsForward = kernel("gather_rows_forward"), gatherRowsBackward = kernel("gather_rows_backward");
const indexSelectForward = kernel("index_select_forward"), indexSelectBackward = kernel("index_select_backward");
const maskRowsForward = kernel("mask_rows_forward"), maskRowsBackward = kernel("mask_rows_backward");
const patchifyForward = kernel("patchify_forward"), patchifyBackward = kernel("patchify_backward");

/**
 * Rows by number, also the embedding lookup: x (R, C), index i32 of any shape S -> (...S, C).
 * The gradient adds rows in index order. An id outside of 0..R-1 is a device fault at the next read.
 */
export const gatherRows = defineOp({
  name: "gatherRows",
  operands: ["x"],
  forward(x: Tensor, index: Tensor) {
    needFloat("gatherRows", "x", x);
    needShape("gatherRows", "x", x, ["R", "C"], "A table: flatten leading dimensions with reshape(x, [-1, C]).");
    needDtype("gatherRows", "index", index, "i32");
    const y = allocate([...index.shape, x.shape[1]], x.dtype);
    gatherRowsForward([x, index, y]);
    return { output: y, saves: { shape: x.shape, index } };
  },
  gradients: {
    x(dy, { shape, index }) {
      const dx = allocate(shape, dy.dtype);
      gatherRowsBackward([dy, index, dx]);
      return dx;
    },
  },
});

/**
 * Slices by number along one axis: x (.., L, ..), index i32 (N) -> (.., N, ..). The gradient adds slices in index order.
 * An id outside of 0..L-1 is a device fault at the next read. Throws ShapeError when the index is not a vector.
 */
export const indexSelect = defineOp({
  name: "indexSelect",
  operands: ["x"],
  forward(x: Tensor, axis: number, index: Tensor) {
    needFloat("indexSelect", "x", x);
    const along = needAxis("indexSelect", axis, x.rank, x.shape);
    needDtype("indexSelect", "index", index, "i32");
    needShape("indexSelect", "index", index, ["N"], "One id per slice; gatherRows takes an index of any shape.");
    const y = allocate(x.shape.map((size, i) => (i === along ? index.size : size)), x.dtype);
    indexSelectForward([x, index, y], [along]);
    return { output: y, saves: { shape: x.shape, index, along } };
  },
  gradients: {
    x(dy, { shape, index, along }) {
      const dx = allocate(shape, dy.dtype);
      indexSelectBackward([dy, index, dx], [along]);
      return dx;
    },
  },
});

/**
 * Rows added up by number, the counterpart of gatherRows: source (...S, C), index i32 (...S) -> y (rows, C),
 * y[r] = the sum of the source rows whose index is r, added in order; a row that nobody names is zero.
 * An id outside of 0..rows-1 is a device fault at the next read. Throws ShapeError when source and index do not fit.
 */
export const scatterAdd = defineOp({
  name: "scatterAdd",
  operands: ["source"],
  forward(source: Tensor, index: Tensor, rows: number) {
    needFloat("scatterAdd", "source", source);
    needDtype("scatterAdd", "index", index, "i32");
    needShape("scatterAdd", "source", source, [...index.shape, "C"], "One row per id of the index.");
    const y = allocate([rows, source.shape[source.rank - 1]], source.dtype);
    gatherRowsBackward([source, index, y]);
    return { output: y, saves: { shape: source.shape, index } };
  },
  gradients: {
    source(dy, { shape, index }) {
      const dsource = allocate(shape, dy.dtype);
      gatherRowsForward([dy, index, dsource]);
      return dsource;
    },
  },
});

/** Rows replaced by one token where the mask says so: x (..., C), mask u8 (...), token (C) -> like x. */
export const maskRows = defineOp({
  name: "maskRows",
  operands: ["x", "mask", "token"],
  forward(x: Tensor, mask: Tensor, token: Tensor) {
    needFloat("maskRows", "x", x);
    needFloat("maskRows", "token", token, x.dtype);
    needDtype("maskRows", "mask", mask, "u8");
    needShape("maskRows", "mask", mask, x.shape.slice(0, -1), "One flag per row of x.");
    needShape("maskRows", "token", token, [x.shape[x.rank - 1]], "As wide as a row of x; flatten it with reshape(token, [-1]).");
    const y = like(x);
    maskRowsForward([x, mask, token, y]);
    return { output: y, saves: { mask, token } };
  },
  gradients: {
    "x, token": (dy, { mask, token }) => {
      const dx = like(dy), dtoken = like(token);
      maskRowsBackward([dy, mask, dx, dtoken]);
      return [dx, dtoken];
    },
  },
});

/** Square patches in reading order: x (B, C, S, S') -> (B, P, C*p*p), columns in the order (channel, row, column) of a flattened convolution weight. */
export const patchify = defineOp({
  name: "patchify",
  operands: ["x"],
  forward(x: Tensor, patch: number) {
    needFloat("patchify", "x", x);
    needShape("patchify", "x", x, ["B", "C", "S", "S'"], "Images: batch, channels, rows, columns.");
    const [batch, channels, height, width] = x.shape;
    if (height % patch !== 0 || width % patch !== 0) {
      throw new ShapeError({ op: "patchify", operand: "x", expected: `sides divisible by ${patch}`, got: x.shape,
        fix: "Resize the image to a multiple of the patch." });
    }
    const y = allocate([batch, (height / patch) * (width / patch), channels * patch * patch], x.dtype);
    patchifyForward([x, y], [patch]);
    return { output: y, saves: { shape: x.shape, patch } };
  },
  gradients: {
    x(dy, { shape, patch }) {
      const dx = allocate(shape, dy.dtype);
      patchifyBackward([dy, dx], [patch]);
      return dx;
    },
  },
});
