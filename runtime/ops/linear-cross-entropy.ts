import { ShapeError } from "../errors.ts";
import { defineOp } from "../autograd/index.ts";
import { type Tensor, accumulate, allocate, kernel, viewOf, widened, zeros } from "../tensor/index.ts";
import { lastDimension, like, needDtype, needFloat, needShape, wide } from "./check.ts";
import { type CrossEntropyOptions, crossEntropyScalars } from "./loss.ts";
import { cut, join } from "./shape.ts";

const linearForward = kernel("linear_forward"), linearBackwardInput = kernel("linear_backward_input");
const linearBackwardWeight = kernel("linear_backward_weight"), linearBackwardBias = kernel("linear_backward_bias");
const crossEntropyForward = kernel("cross_entropy_forward"), crossEntropyBackward = kernel("cross_entropy_backward");

export interface LinearCrossEntropyOptions extends CrossEntropyOptions {
  /** Rows whose logits exist at one time; 256 by default. The cut depends on shapes alone, so results repeat to the bit. */
  chunkRows?: number;
}

/**
 * crossEntropy(linear(x, weight, bias), labels) that never holds more than `chunkRows` rows of logits, forwards or backwards:
 * x (..., C), weight (V, C), bias (V)?, labels i32 (...) -> (1). Backward computes the logits once more, chunk by chunk, which
 * costs a product of V x C per row; what is saved is rows x V numbers of memory, twice.
 * Throws ShapeError when operands do not fit, ERR_INPUT for a smoothing outside of [0, 1].
 */
export function linearCrossEntropy(x: Tensor, weight: Tensor, bias: Tensor | undefined, labels: Tensor, o: LinearCrossEntropyOptions = {}): Tensor {
  return op(x, weight, bias, labels, crossEntropyScalars("linearCrossEntropy", o.weight ?? 1, o.smoothing ?? 0), o.chunkRows ?? 256);
}

const op = defineOp({
  name: "linearCrossEntropy",
  operands: ["x", "weight", "bias"],
  forward(x: Tensor, weight: Tensor, bias: Tensor | undefined, labels: Tensor, scalars: readonly number[], chunkRows: number) {
    check(x, weight, bias, labels, chunkRows);
    const loss = zeros([1], widened(x.dtype)), lses: Tensor[] = [], part = like(loss);
    eachChunk(x, labels, chunkRows, (rows, ids) => {
      const logits = allocate([ids.size, weight.shape[0]], x.dtype), lse = wide([ids.size], x);
      linearForward([rows, weight, bias, logits]);
      crossEntropyForward([logits, ids, part, lse], scalars);
      accumulate(part, loss);
      logits.dispose();
      lses.push(lse);
    });
    part.dispose();
    return { output: loss, saves: { x, weight, bias, labels, lses, scalars, chunkRows } };
  },
  gradients: {
    "x, weight, bias": (dy, { x, weight, bias, labels, lses, scalars, chunkRows }) => {
      const pieces: Tensor[] = [], dweight = new Sum(), dbias = new Sum();
      eachChunk(x, labels, chunkRows, (rows, ids, chunk) => {
        const logits = allocate([ids.size, weight.shape[0]], x.dtype), dx = allocate(rows.shape, x.dtype);
        linearForward([rows, weight, bias, logits]);
        crossEntropyBackward([dy, logits, ids, lses[chunk], logits], scalars); // in place: now the gradient of the logits
        linearBackwardInput([logits, weight, dx]);
        dweight.add(weight, (dw) => linearBackwardWeight([logits, rows, dw]));
        if (bias) dbias.add(bias, (db) => linearBackwardBias([logits, db]));
        logits.dispose();
        pieces.push(dx);
      });
      if (pieces.length === 0) return [x, weight, bias].map((operand) => operand && zeros(operand.shape, operand.dtype));
      const flat = pieces.length === 1 ? pieces[0] : join(pieces, 0), dx = viewOf(flat, x.shape);
      for (const piece of [flat, ...pieces]) piece.dispose(); // the view keeps the storage of its own
      return [dx, dweight.total, dbias.total];
    },
  },
});

/** A gradient that chunks add to, in their order. The first one writes it. */
class Sum {
  total: Tensor | undefined;

  add(operand: Tensor, write: (into: Tensor) => void): void {
    const part = like(operand);
    write(part);
    if (this.total === undefined) {
      this.total = part;
    } else {
      accumulate(part, this.total);
      part.dispose();
    }
  }
}

/** work(rows (n, C), ids (n), number) for every chunk of rows; its slices are freed afterwards. */
function eachChunk(x: Tensor, labels: Tensor, chunkRows: number, work: (rows: Tensor, ids: Tensor, chunk: number) => void): void {
  const count = labels.size, flat = viewOf(x, [count, lastDimension(x)]), flatIds = viewOf(labels, [count]);
  for (let start = 0, chunk = 0; start < count; start += chunkRows, chunk++) {
    const length = Math.min(chunkRows, count - start);
    const rows = length === count ? flat : cut(flat, 0, start, length), ids = length === count ? flatIds : cut(flatIds, 0, start, length);
    work(rows, ids, chunk);
    if (length < count) rows.dispose(), ids.dispose();
  }
  flat.dispose();
  flatIds.dispose();
}

function check(x: Tensor, weight: Tensor, bias: Tensor | undefined, labels: Tensor, chunkRows: number): void {
  const name = "linearCrossEntropy";
  needFloat(name, "x", x);
  needFloat(name, "weight", weight, x.dtype);
  needShape(name, "x", x, ["...", "C"], "One row per label.");
  needShape(name, "weight", weight, ["V", lastDimension(x)], "One row per class, as wide as the last dimension of x.");
  if (bias) needFloat(name, "bias", bias, x.dtype);
  if (bias) needShape(name, "bias", bias, [weight.shape[0]], "One number per class.");
  needDtype(name, "labels", labels, "i32");
  needShape(name, "labels", labels, x.shape.slice(0, -1), "One label per row of x.");
  if (!(Number.isInteger(chunkRows) && chunkRows > 0)) {
    throw new ShapeError({ op: name, operand: "chunkRows", expected: "a whole number of rows from 1 on", got: [chunkRows], fix: "256 is the default." });
  }
}
