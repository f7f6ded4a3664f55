/**
 * A port is a named place where a tensor enters or leaves a component: dtype, symbolic shape, gradient flag, optional.
 *
 * P-1: a dimension is a number, or a name; one name is one number over the whole graph (B, T, P, ... of the shape legend).
 * P-2: `gradient` says whether backward passes through. Integer, bool and mask ports never carry one.
 * P-3: an optional port may be left unconnected; the component then receives no such key.
 */
import type { DType } from "../tensor/index.ts";

export type Dim = string | number;

export interface Port {
  readonly dtype: DType;
  readonly dims: readonly Dim[];
  readonly gradient: boolean;
  readonly optional: boolean;
}

export interface Ports {
  readonly in: Record<string, Port>;
  readonly out: Record<string, Port>;
}

export interface PortOptions {
  /** Default "f32". */
  dtype?: DType;
  /** Default: true for floating dtypes. */
  gradient?: boolean;
  /** Default false. Only input ports can be optional. */
  optional?: boolean;
}

const floating: ReadonlySet<DType> = new Set<DType>(["f64", "f32", "bf16", "f16"]);

/** `port(["B", "T", width])`: f32 with gradient; `port(["B", "T"], { dtype: "u8" })`: a mask. */
export function port(dims: readonly Dim[], options: PortOptions = {}): Port {
  const dtype = options.dtype ?? "f32";
  return { dtype, dims, gradient: options.gradient ?? floating.has(dtype), optional: options.optional ?? false };
}

/** `(B, T, 96)`, the way shapes are written in every message. */
export function formatDims(dims: readonly Dim[]): string {
  return `(${dims.join(", ")})`;
}
