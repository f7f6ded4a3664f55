import { native } from "../native.ts";
import type { DType } from "./dtype.ts";

/**
 * Precision: what activations and their gradients are stored in while a model trains or answers.
 *
 * PR-1: with bf16, parameters, their gradients, optimizer states, statistics and losses stay f32; arithmetic is f32 on widened
 *       operands, and what is stored as bf16 is rounded to nearest even.
 * PR-2: in one op bf16 and f32 may meet; the output has the dtype of the first operand. f64, the reference, meets only itself.
 */
export const precisions = ["f32", "bf16"] as const;
export type Precision = (typeof precisions)[number];

/** The dtype beside activations of `dtype` that must not lose digits: statistics, losses, sums, constants. f32 for bf16, else the same. */
export const widened = (dtype: DType): DType => (dtype === "bf16" ? "f32" : dtype);

/** Does this machine multiply bf16 at least as fast as f32? Its processor must, and the library of its products: without oneDNN they are widened. */
export function fastBf16({ isa, gemm }: { isa: readonly string[]; gemm: { fastBf16: boolean } } = native().info()): boolean {
  return gemm.fastBf16 && (isa.includes("avx512_bf16") || isa.includes("amx_bf16"));
}
