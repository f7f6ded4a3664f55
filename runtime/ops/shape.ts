import { ShapeError } from "../errors.ts";
import { type GradientRule, defineOp, recordingTape } from "../autograd/index.ts";
import { type Shape, type Tensor, allocate, kernel, liveHandle, sizeOf, viewOf, zeros } from "../tensor/index.ts";
import { needAxis, needDtype, needShape } from "./check.ts";

// Ops that move elements without computing. All take any dtype.

const sliceForward = kernel("slice_forward"), sliceBackward = kernel("slice_backward");
const concatKernel = kernel("concat"), permuteKernel = kernel("permute");
const maxConcat = 8;

/** Another shape over the same storage; one dimension may be -1 and is worked out. */
export const reshape = defineOp({
  name: "reshape",
  operands: ["x"],
  forward: (x: Tensor, shape: Shape) => ({ output: viewOf(x, resolveShape(x, shape), "reshape"), saves: x.shape }),
  gradients: { x: (dy, shape) => viewOf(dy, shape) },
});

/** Elements [start, start + length) of one axis. */
export const slice = defineOp({
  name: "slice",
  operands: ["x"],
  forward(x: Tensor, axis: number, start: number, length: number) {
    liveHandle(x, "slice", "x");
    const along = needAxis("slice", axis, x.rank, x.shape);
    if (start < 0 || length < 0 || start + length > x.shape[along]) {
      throw new ShapeError({ op: "slice", operand: "x", expected: `at least ${start + length} elements in dimension ${along}`, got: x.shape,
        fix: `The slice is [${start}, ${start + length}).` });
    }
    return { output: cut(x, along, start, length), saves: { shape: x.shape, along, start } };
  },
  gradients: {
    x(dy, { shape, along, start }) {
      const dx = allocate(shape, dy.dtype);
      sliceBackward([dy, dx], [along, start]);
      return dx;
    },
  },
});

/** Consecutive pieces of one axis; their sizes add up to it. One gradient for all pieces. */
export function split(x: Tensor, axis: number, sizes: readonly number[]): Tensor[] {
  liveHandle(x, "split", "x");
  const along = needAxis("split", axis, x.rank, x.shape);
  if (sizes.reduce((a, b) => a + b, 0) !== x.shape[along]) {
    throw new ShapeError({ op: "split", operand: "x", expected: `${sizes.join(" + ")} elements in dimension ${along}`, got: x.shape,
      fix: "The sizes of the pieces must add up to the dimension." });
  }
  let start = 0;
  const outputs = sizes.map((size) => cut(x, along, (start += size) - size, size));
  const saved = { along, shapes: outputs.map((y) => y.shape), dtype: x.dtype };
  recordingTape()?.add({ op: "split", inputs: [x], outputs, rules: splitRules, saved });
  return outputs;
}

const splitRules: GradientRule<any>[] = [{
  operands: [0],
  run(dys, { along, shapes, dtype }) {
    const pieces = dys.map((dy, i) => dy ?? zeros(shapes[i], dtype));
    const dx = join(pieces, along);
    pieces.forEach((piece, i) => dys[i] === undefined && piece.dispose());
    return [dx];
  },
}];

/** Tensors one after the other along an axis; all other dimensions are equal. */
export function concat(parts: readonly Tensor[], axis: number): Tensor {
  if (parts.length === 0) {
    throw new ShapeError({ op: "concat", operand: "parts", expected: "at least one tensor", got: [0],
      fix: "Nothing has no shape." });
  }
  const along = needAxis("concat", axis, parts[0].rank, parts[0].shape);
  const others = parts[0].shape.map((size, i) => (i === along ? "any" : size));
  parts.forEach((part, i) => {
    needShape("concat", `part ${i}`, part, others, `All parts agree with the first except in dimension ${along}.`);
    needDtype("concat", `part ${i}`, part, parts[0].dtype, "Parts are moved as they are: cast(part, dtype) first.");
  });
  const output = join(parts, along);
  const saved = { along, sizes: parts.map((part) => part.shape[along]) };
  recordingTape()?.add({ op: "concat", inputs: parts, outputs: [output], rules: concatRules(parts.length), saved });
  return output;
}

const concatRuleCache = new Map<number, GradientRule<any>[]>();

/** One rule per part, so that a part without need of a gradient costs none. */
function concatRules(count: number): GradientRule<any>[] {
  let rules = concatRuleCache.get(count);
  if (rules === undefined) {
    rules = Array.from({ length: count }, (_, part) => ({
      operands: [part],
      run: ([dy]: readonly (Tensor | undefined)[], { along, sizes }: { along: number; sizes: number[] }) => {
        const start = sizes.slice(0, part).reduce((a, b) => a + b, 0);
        return [cut(dy!, along, start, sizes[part])];
      },
    }));
    concatRuleCache.set(count, rules);
  }
  return rules;
}

/**
 * Zeros before and after the elements of one axis: (.., n, ..) -> (.., before + n + after, ..). The gradient is the slice.
 * Throws ShapeError for negative or broken counts. For another value than 0, concat with full(...).
 */
export const pad = defineOp({
  name: "pad",
  operands: ["x"],
  forward(x: Tensor, axis: number, before: number, after: number) {
    liveHandle(x, "pad", "x");
    const along = needAxis("pad", axis, x.rank, x.shape);
    if (![before, after].every((count) => Number.isInteger(count) && count >= 0)) {
      throw new ShapeError({ op: "pad", operand: "x", expected: "whole numbers of zeros, none negative", got: x.shape,
        fix: `The counts are ${before} before and ${after} after; slice takes elements away.` });
    }
    const y = allocate(x.shape.map((size, i) => (i === along ? before + size + after : size)), x.dtype);
    sliceBackward([x, y], [along, before]);
    return { output: y, saves: { along, before, size: x.shape[along] } };
  },
  gradients: { x: (dy, { along, before, size }) => cut(dy, along, before, size) },
});

/** y's dimension i is x's dimension order[i]. */
export const permute = defineOp({
  name: "permute",
  operands: ["x"],
  forward(x: Tensor, order: readonly number[]) {
    liveHandle(x, "permute", "x");
    if (order.length !== x.rank || order.some((_, i) => !order.includes(i))) {
      throw new ShapeError({ op: "permute", operand: "order", expected: `each of 0..${x.rank - 1} once`, got: order,
        fix: `x has shape (${x.shape.join(", ")}).` });
    }
    return { output: reorder(x, order), saves: order };
  },
  gradients: { x: (dy, order) => reorder(dy, order.map((_, i) => order.indexOf(i))) },
});

function resolveShape(x: Tensor, shape: Shape): Shape {
  const open = shape.indexOf(-1);
  const resolved = open === -1 ? shape : shape.map((size, i) => (i === open ? x.size / sizeOf(shape.filter((_, j) => j !== open)) : size));
  if (sizeOf(resolved) !== x.size || resolved.some((size) => !Number.isInteger(size) || size < 0)) {
    throw new ShapeError({ op: "reshape", operand: "x", expected: `${x.size} elements`, got: shape,
      fix: `x has shape (${x.shape.join(", ")}); a view keeps the number of elements.` });
  }
  return resolved;
}

/** The slice [start, start + length) of an axis, not recorded. */
export function cut(x: Tensor, axis: number, start: number, length: number): Tensor {
  const y = allocate(x.shape.map((size, i) => (i === axis ? length : size)), x.dtype);
  sliceForward([x, y], [axis, start]);
  return y;
}

/** Parts one after the other along an axis, not recorded. The kernel joins up to eight parts; more are joined in groups. */
export function join(parts: readonly Tensor[], axis: number): Tensor {
  if (parts.length > maxConcat) {
    const head = join(parts.slice(0, maxConcat), axis);
    const whole = join([head, ...parts.slice(maxConcat)], axis);
    head.dispose();
    return whole;
  }
  const total = parts.reduce((sum, part) => sum + part.shape[axis], 0);
  const y = allocate(parts[0].shape.map((size, i) => (i === axis ? total : size)), parts[0].dtype);
  concatKernel([...parts, y], [axis]);
  return y;
}

function reorder(x: Tensor, order: readonly number[]): Tensor {
  const y = allocate(order.map((axis) => x.shape[axis]), x.dtype);
  permuteKernel([x, y], order);
  return y;
}
