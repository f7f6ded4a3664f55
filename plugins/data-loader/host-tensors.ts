/** Arrays in ordinary memory, on their way into tensors. */
import type { HostTensor } from "../../runtime/index.ts";

export const f32 = (data: Float32Array, shape: readonly number[]): HostTensor => ({ dtype: "f32", shape, data });
export const u8 = (data: Uint8Array, shape: readonly number[]): HostTensor => ({ dtype: "u8", shape, data });
export const i32 = (data: Int32Array | readonly number[], shape: readonly number[] = [data.length]): HostTensor =>
  ({ dtype: "i32", shape, data: data instanceof Int32Array ? data : Int32Array.from(data) });

/** The longest row, rounded up to a multiple of 8. */
export const padded = (lengths: readonly number[]): number => Math.max(8, Math.ceil(Math.max(0, ...lengths) / 8) * 8);
