import type { Parameter } from "../nn/index.ts";
import type { Tensor } from "../tensor/index.ts";

/** A parameter and its gradient. */
export type Moved = readonly [parameter: Parameter, gradient: Tensor];

/** launch(group) for groups of at most `perCall` parameters of one dtype, in order. */
export function inGroups(moved: readonly Moved[], perCall: number, launch: (group: readonly Moved[]) => void): void {
  for (const dtype of new Set(moved.map(([parameter]) => parameter.value.dtype))) {
    const alike = moved.filter(([parameter]) => parameter.value.dtype === dtype);
    for (let start = 0; start < alike.length; start += perCall) launch(alike.slice(start, start + perCall));
  }
}
