import { defineOp } from "../autograd/index.ts";
import { type Tensor, kernel } from "../tensor/index.ts";
import { lastDimension, like, needFloat, needShape, wide } from "./check.ts";

const layerNormForward = kernel("layer_norm_forward");
const layerNormBackwardInput = kernel("layer_norm_backward_input");
const layerNormBackwardAffine = kernel("layer_norm_backward_affine");
const rmsNormForward = kernel("rms_norm_forward");
const rmsNormBackwardInput = kernel("rms_norm_backward_input");
const rmsNormBackwardWeight = kernel("rms_norm_backward_weight");
const l2NormalizeForward = kernel("l2_normalize_forward");
const l2NormalizeBackward = kernel("l2_normalize_backward");

/** (x - mean) / sqrt(var + eps) * weight + bias over the last axis, biased variance: x (..., N), weight and bias (N). Source: Ba et al. 2016. */
export const layerNorm = defineOp({
  name: "layerNorm",
  operands: ["x", "weight", "bias"],
  forward(x: Tensor, weight: Tensor, bias: Tensor, { eps }: { eps: number }) {
    needAffine("layerNorm", "weight", x, weight);
    needAffine("layerNorm", "bias", x, bias);
    const y = like(x), mean = perRow(x), rstd = perRow(x);
    layerNormForward([x, weight, bias, y, mean, rstd], [eps]);
    return { output: y, saves: { x, weight, bias, mean, rstd } };
  },
  gradients: {
    x(dy, { x, weight, mean, rstd }) {
      const dx = like(x);
      layerNormBackwardInput([dy, x, weight, mean, rstd, dx]);
      return dx;
    },
    "weight, bias": (dy, { x, weight, bias, mean, rstd }) => {
      const dw = like(weight), db = like(bias);
      layerNormBackwardAffine([dy, x, mean, rstd, dw, db]);
      return [dw, db];
    },
  },
});

/** x / sqrt(mean(x²) + eps) * weight over the last axis: x (..., N), weight (N). Source: Zhang and Sennrich 2019. */
export const rmsNorm = defineOp({
  name: "rmsNorm",
  operands: ["x", "weight"],
  forward(x: Tensor, weight: Tensor, { eps }: { eps: number }) {
    needAffine("rmsNorm", "weight", x, weight);
    const y = like(x), rstd = perRow(x);
    rmsNormForward([x, weight, y, rstd], [eps]);
    return { output: y, saves: { x, weight, rstd } };
  },
  gradients: {
    x(dy, { x, weight, rstd }) {
      const dx = like(x);
      rmsNormBackwardInput([dy, x, weight, rstd, dx]);
      return dx;
    },
    weight(dy, { x, weight, rstd }) {
      const dw = like(weight);
      rmsNormBackwardWeight([dy, x, rstd, dw]);
      return dw;
    },
  },
});

/** x / max(|x|, 1e-12) over the last axis. */
export const l2Normalize = defineOp({
  name: "l2Normalize",
  operands: ["x"],
  forward(x: Tensor) {
    needFloat("l2Normalize", "x", x);
    const y = like(x), norm = perRow(x);
    l2NormalizeForward([x, y, norm]);
    return { output: y, saves: { y, norm } };
  },
  gradients: {
    x(dy, { y, norm }) {
      const dx = like(y);
      l2NormalizeBackward([dy, y, norm, dx]);
      return dx;
    },
  },
});

/** One number per row, for statistics that the gradient needs again. */
const perRow = (x: Tensor): Tensor => wide([x.size / Math.max(1, lastDimension(x))], x);

function needAffine(op: string, operand: string, x: Tensor, affine: Tensor): void {
  needFloat(op, "x", x);
  needFloat(op, operand, affine, x.dtype);
  needShape(op, operand, affine, [lastDimension(x)], "One number per element of the last axis of x.");
}
