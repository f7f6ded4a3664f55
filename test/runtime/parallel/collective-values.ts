import { type DType, type HostArray, type Shape, sizeOf, toHostArray } from "../../../runtime/tensor/index.ts";

/** Numbers whose sums round: what a rank brings to call `number`. */
export function valuesOf(dtype: DType, shape: Shape, rank: number, number: number): HostArray {
  const n = sizeOf(shape);
  const values = new Float64Array(n);
  let state = 1 + rank * 7919 + number * 104_729;
  for (let i = 0; i < n; i++) {
    state = (state * 48_271) % 2_147_483_647;
    values[i] = dtype.startsWith("f") || dtype === "bf16" ? (state / 2_147_483_647 - 0.5) * 2 ** (state % 20) : state - 1_000_000_000;
  }
  return toHostArray(values, dtype);
}
