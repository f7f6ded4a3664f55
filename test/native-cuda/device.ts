// Kernels called straight through the addon: arrays in, arrays out. Shared by the tests of this folder.
import { native } from "../../runtime/native.ts";

export type Numbers = Float64Array | Float32Array | Int32Array | Uint8Array;
export interface Operand { shape: readonly number[]; data: Numbers }
export interface Settings { threads?: number; kernels?: "fast" | "reference" }

/** Index of a dtype in the addon (native-cuda/common/tensor_view.h). */
export const dtypeOf = (data: Numbers): number =>
  data instanceof Float64Array ? 0 : data instanceof Float32Array ? 1 : data instanceof Int32Array ? 5 : 7;

const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

/** Deterministic numbers in [-1, 1): a 32-bit xorshift (Marsaglia 2003), so that tests need no kernel to make data. */
export function noise(shape: readonly number[], seed: number, amplitude = 1): { shape: readonly number[]; data: Float64Array } {
  let state = (seed * 2654435761 + 1) >>> 0 || 1;
  return { shape, data: Float64Array.from({ length: sizeOf(shape) }, () => {
    state ^= state << 13; state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5; state >>>= 0;
    return (state / 2 ** 31 - 1) * amplitude;
  }) };
}

export const single = (operand: Operand): Operand => ({ shape: operand.shape, data: Float32Array.from(operand.data) });

/** Rounded to f32 but kept as f64: what the f64 twin must be given to be comparable with the f32 one. */
export const rounded = (operand: Operand): Operand => ({ shape: operand.shape, data: Float64Array.from(Float32Array.from(operand.data)) });

/**
 * Runs one kernel. `operands` are inputs, absent ones (undefined) and outputs ({ out: shape }) in the kernel's order; outputs
 * have the dtype of the first input and come back in order. They start as NaN: a kernel must write them, not add to them.
 */
export async function run(name: string, operands: readonly (Operand | { out: readonly number[] } | undefined)[],
  scalars: readonly number[] = [], settings: Settings = {}): Promise<(Float32Array | Float64Array)[]> {
  const device = native();
  await device.fence();
  device.configure({ threads: settings.threads ?? 2, kernels: settings.kernels ?? "fast" });
  const first = operands.find((o): o is Operand => o !== undefined && "data" in o);
  const Output = first?.data instanceof Float64Array ? Float64Array : Float32Array;
  const handles = operands.map((operand) => {
    if (operand === undefined) return 0;
    const data = "data" in operand ? operand.data : new Output(sizeOf(operand.out)).fill(NaN);
    const handle = device.allocate(dtypeOf(data), "data" in operand ? operand.shape : operand.out);
    device.upload(handle, data);
    return handle;
  });
  try {
    device.launch(device.kernel(name), handles, scalars);
    const outputs = handles.filter((_, i) => { const o = operands[i]; return o !== undefined && "out" in o; });
    return (await Promise.all(outputs.map((handle) => device.read(handle)))).map((bytes) => new Output(bytes));
  } catch (thrown) {
    await device.fence().catch(() => undefined); // rejects with the same fault
    device.configure({}); // ends it: the next test starts on a sound device
    throw thrown;
  } finally {
    handles.forEach((handle) => handle && device.free(handle));
  }
}

/** Largest |a - b| relative to the largest |b|, and where. */
export function worst(a: ArrayLike<number>, b: ArrayLike<number>): { error: number; text: string } {
  let scale = 0, difference = 0, at = 0;
  for (let i = 0; i < b.length; i++) if (Number.isFinite(b[i])) scale = Math.max(scale, Math.abs(b[i]));
  for (let i = 0; i < b.length; i++) {
    const d = a[i] === b[i] ? 0 : Math.abs(a[i] - b[i]);
    if (!(d <= difference)) { difference = d; at = i; if (Number.isNaN(d)) break; }
  }
  const error = a.length === b.length ? difference / (scale || 1) : Infinity;
  return { error, text: `worst element ${at}: ${a[at]} instead of ${b[at]} (relative ${error.toExponential(2)}, lengths ${a.length} and ${b.length})` };
}

/** Index of the first element whose bits differ, or -1. */
export function firstDifference(a: Float32Array | Float64Array, b: Float32Array | Float64Array): number {
  const x = new Uint8Array(a.buffer, a.byteOffset, a.byteLength), y = new Uint8Array(b.buffer, b.byteOffset, b.byteLength);
  if (x.length !== y.length) return 0;
  return Math.floor(x.findIndex((byte, i) => byte !== y[i]) / a.BYTES_PER_ELEMENT);
}
