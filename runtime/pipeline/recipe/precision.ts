import type { Precision } from "../../tensor/index.ts";
import type { Recipe } from "./recipe.ts";

/** A process of a run, as far as its choice of precision goes. */
export interface Arithmetic { name: string; fastBf16: boolean }

/**
 * What a run computes in. One precision for all its processes: a pipeline must give the bits that one process gives. `auto` is bf16
 * where every process is on a machine with fast bf16, else f32; when machines differ the weakest decides, and `warning` names it.
 */
export function choosePrecision(wanted: Recipe["train"]["precision"], processes: readonly Arithmetic[]): { precision: Precision; warning?: string } {
  if (wanted !== "auto") return { precision: wanted };
  const slow = processes.filter(({ fastBf16 }) => !fastBf16).map(({ name }) => name);
  if (slow.length === 0) return { precision: "bf16" };
  if (slow.length === processes.length) return { precision: "f32" };
  return {
    precision: "f32",
    warning: `train.precision: auto chose f32: ${slow.join(", ")} ${slow.length === 1 ? "runs" : "run"} without fast bf16 (avx512_bf16 or amx_bf16), the others with it. Write bf16 to have it everywhere.`,
  };
}

/** The same recipe with another precision: decided, it is what a run folder and a checkpoint keep. */
export const withPrecision = (recipe: Recipe, precision: Recipe["train"]["precision"]): Recipe => ({ ...recipe, train: { ...recipe.train, precision } });
