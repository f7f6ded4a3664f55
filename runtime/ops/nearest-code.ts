import { ShapeError } from "../errors.ts";
import { type Tensor, allocate, kernel } from "../tensor/index.ts";
import { lastDimension, needFloat, needShape } from "./check.ts";

const nearestCodeKernel = kernel("nearest_code");

/**
 * The row of a codebook that lies nearest, the lowest of equally near ones: z (..., D), codebook (K, D) -> codes i32 (...).
 * A choice has no gradient: nothing is recorded. Source: van den Oord et al. 2017, eq. 1. Throws ShapeError when widths differ or there is no code.
 */
export function nearestCode(z: Tensor, codebook: Tensor): Tensor {
  needFloat("nearestCode", "z", z);
  needFloat("nearestCode", "codebook", codebook, z.dtype);
  needShape("nearestCode", "z", z, ["...", "D"], "One vector per row; the codes keep the leading dimensions.");
  needShape("nearestCode", "codebook", codebook, ["K", lastDimension(z)], "One code per row, as wide as the last dimension of z.");
  if (codebook.shape[0] === 0) {
    throw new ShapeError({ op: "nearestCode", operand: "codebook", expected: "(K, D) with K > 0", got: codebook.shape, fix: "Nothing is nearest among no codes." });
  }
  const codes = allocate(z.shape.slice(0, -1), "i32");
  nearestCodeKernel([z, codebook, codes]);
  return codes;
}
