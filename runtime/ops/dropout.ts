import { RuntimeError } from "../errors.ts";
import { defineOp } from "../autograd/index.ts";
import { type Tensor, fromArray, full, kernel, widened } from "../tensor/index.ts";
import { split64 } from "../tensor/philox.ts";
import { mul } from "./arithmetic.ts";
import { like, needDtype, needFloat, needShape } from "./check.ts";

const dropoutKernel = kernel("dropout");

export interface DropoutOptions {
  /** Probability of an element to become 0; the kept ones are divided by 1 - p. */
  p: number;
  /** i32 (B), or the numbers: which sample each row of x is, so that the choice does not depend on batching. */
  sampleIds: Tensor | readonly number[];
  seed: number | bigint;
  /** A number, or i64 (1): then other steps can replay what is recorded. */
  step: number | Tensor;
  /** A number for the place in the model; no two places share one. */
  site: number;
}

/**
 * x (B, ...) with elements dropped by a counter-based choice: (seed, step, sample, site, element) decides, nothing else.
 * x itself when p is 0.
 */
export function dropout(x: Tensor, o: DropoutOptions): Tensor {
  if (!(o.p >= 0 && o.p < 1)) throw new RuntimeError("ERR_INPUT", `dropout: p expected in [0, 1), got ${o.p}. Use 0 to switch it off.`, { p: o.p });
  return o.p === 0 ? x : dropoutOp(x, o);
}

/**
 * x (B, ...) with whole samples dropped: one counter-based choice per (seed, step, sample, site); a kept sample is divided by
 * 1 - p. The choice is that of dropout for the first element of the sample. x itself when p is 0.
 * For the branch of a residual block, before it is added. Source: Huang et al. 2016.
 */
export function dropPath(x: Tensor, o: DropoutOptions): Tensor {
  needFloat("dropPath", "x", x);
  needShape("dropPath", "x", x, ["B", ...x.shape.slice(1)], "The first dimension counts samples.");
  if (!(o.p >= 0 && o.p < 1)) throw new RuntimeError("ERR_INPUT", `dropPath: p expected in [0, 1), got ${o.p}. Use 0 to switch it off.`, { p: o.p });
  if (o.p === 0) return x;
  return mul(x, dropoutOp(full([x.shape[0], ...x.shape.slice(1).map(() => 1)], 1, widened(x.dtype)), o, "dropPath"));
}

const dropoutOp = defineOp({
  name: "dropout",
  operands: ["x"],
  forward(x: Tensor, { p, sampleIds, seed, step, site }: DropoutOptions, op: string = "dropout") {
    needFloat(op, "x", x);
    const ids = Array.isArray(sampleIds) ? fromArray(sampleIds as number[], [sampleIds.length], "i32") : (sampleIds as Tensor);
    needDtype(op, "sampleIds", ids, "i32");
    needShape(op, "sampleIds", ids, [x.shape[0]], "One sample number per row of the batch.");
    const [low, high] = split64(seed);
    const [number, later] = stepOperand(op, step), scalars = [p, low, high, number, site];
    const y = like(x);
    dropoutKernel([x, ids, y, ...later], scalars);
    return { output: y, saves: { ids, scalars, later } };
  },
  gradients: {
    x(dy, { ids, scalars, later }) {
      const dx = like(dy);
      dropoutKernel([dy, ids, dx, ...later], scalars);
      return dx;
    },
  },
});

/** The step as kernels take it: the scalar, and the tensor that takes its place if there is one. */
export function stepOperand(op: string, step: number | Tensor): [scalar: number, tensors: Tensor[]] {
  if (typeof step === "number") return [step, []];
  needDtype(op, "step", step, "i64");
  needShape(op, "step", step, [1], "The number of the step.");
  return [0, [step]];
}
