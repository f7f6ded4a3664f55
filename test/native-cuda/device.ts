// Kernels called straight through the addon: arrays in, arrays out. Shared by the tests of this folder.
import { native } from "../../runtime/native.ts";

/** A Uint16Array holds the bits of bf16 numbers. */
export type Numbers = Float64Array | Float32Array | Uint16Array | Int32Array | Uint8Array;
/** An input; with `update` it is changed in place and comes back with the outputs. */
export interface Operand { shape: readonly number[]; data: Numbers; update?: boolean }
/** An input of whole numbers that need 64 bits. */
export interface Longs { shape: readonly number[]; data: BigInt64Array; update?: false }
export interface Output { out: readonly number[]; like?: Numbers }
export interface Settings { threads?: number; kernels?: "fast" | "reference" }

/** Index of a dtype in the addon (native-cuda/common/tensor_view.h). */
export const dtypeOf = (data: Numbers | BigInt64Array): number =>
  data instanceof Float64Array ? 0 : data instanceof Float32Array ? 1 : data instanceof Uint16Array ? 2 : data instanceof BigInt64Array ? 4 : data instanceof Int32Array ? 5 : 7;

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

export const single = (operand: Operand): Operand => ({ ...operand, data: Float32Array.from(operand.data) });

/** Rounded to f32 but kept as f64: what the f64 twin must be given to be comparable with the f32 one. */
export const rounded = (operand: Operand): Operand => ({ ...operand, data: Float64Array.from(Float32Array.from(operand.data)) });

/** The bits of the nearest bf16 (ties to even, NaN stays NaN), computed here so that the kernels have something to agree with. */
export function bf16Bits(numbers: ArrayLike<number>): Uint16Array {
  const words = new Uint32Array(Float32Array.from(numbers).buffer);
  return Uint16Array.from(words, (w) => ((w & 0x7fffffff) > 0x7f800000 ? w | 0x400000 : w + 0x7fff + (w >>> 16 & 1)) >>> 16);
}

/** The numbers that bits of bf16 stand for. */
export const bf16Values = (bits: Uint16Array): Float64Array =>
  Float64Array.from(new Float32Array(Uint32Array.from(bits, (b) => b << 16).buffer));

/** Rounded to bf16, and the same kept as f64. */
export const narrowed = (operand: Operand): Operand => ({ ...operand, data: bf16Bits(operand.data) });
export const roundedToBf16 = (operand: Operand): Operand => ({ ...operand, data: bf16Values(bf16Bits(operand.data)) });

/**
 * Runs one kernel. `operands` are inputs, absent ones (undefined) and outputs ({ out: shape }) in the kernel's order; outputs
 * have the dtype of the first input and come back in order. They start as NaN: a kernel must write them, not add to them.
 * Outputs of another dtype are for `runMixed`.
 */
export async function run(name: string, operands: readonly (Operand | Longs | Output | undefined)[],
  scalars: readonly number[] = [], settings: Settings = {}): Promise<(Float32Array | Float64Array)[]> {
  return await runMixed(name, operands, scalars, settings) as (Float32Array | Float64Array)[];
}

/** As `run`, but an output may be `like` an array of another dtype. Integers start as -1 (255), bf16 as NaN. */
export async function runMixed(name: string, operands: readonly (Operand | Longs | Output | undefined)[],
  scalars: readonly number[] = [], settings: Settings = {}): Promise<Numbers[]> {
  const device = native();
  await device.fence();
  device.configure({ threads: settings.threads ?? 2, kernels: settings.kernels ?? "fast" });
  const first = operands.find((o): o is Operand => o !== undefined && "data" in o);
  const arrays = operands.map((operand) => operand && ("data" in operand ? operand.data : unwritten(operand, first)));
  const handles = operands.map((operand, i) => {
    const data = arrays[i];
    if (operand === undefined || data === undefined) return 0;
    const handle = device.allocate(dtypeOf(data), "data" in operand ? operand.shape : operand.out);
    device.upload(handle, data);
    return handle;
  });
  try {
    device.launch(device.kernel(name), handles, scalars);
    const outputs = [...operands.keys()].filter((i) => { const o = operands[i]; return o && ("out" in o || o.update); });
    const bytes = await Promise.all(outputs.map((i) => device.read(handles[i])));
    return outputs.map((i, at) => new (arrays[i]!.constructor as new (b: ArrayBuffer) => Numbers)(bytes[at]));
  } catch (thrown) {
    await device.fence().catch(() => undefined); // rejects with the same fault
    device.configure({}); // ends it: the next test starts on a sound device
    throw thrown;
  } finally {
    handles.forEach((handle) => handle && device.free(handle));
  }
}

/** What an output holds before the kernel ran. */
function unwritten({ out, like }: Output, first: Operand | undefined): Numbers {
  if (like instanceof Int32Array) return new Int32Array(sizeOf(out)).fill(-1);
  if (like instanceof Uint8Array) return new Uint8Array(sizeOf(out)).fill(255);
  if ((like ?? first?.data) instanceof Uint16Array) return new Uint16Array(sizeOf(out)).fill(0x7fc0);
  return new ((like ?? first?.data) instanceof Float64Array ? Float64Array : Float32Array)(sizeOf(out)).fill(NaN);
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
export function firstDifference(a: Numbers, b: Numbers): number {
  const x = new Uint8Array(a.buffer, a.byteOffset, a.byteLength), y = new Uint8Array(b.buffer, b.byteOffset, b.byteLength);
  if (x.length !== y.length) return 0;
  return Math.floor(x.findIndex((byte, i) => byte !== y[i]) / a.BYTES_PER_ELEMENT);
}

// One-dimensional f32 tensors by handle, for tests of the device itself.
export const f32 = 1;

export function tensor(...values: number[]): number {
  const handle = native().allocate(f32, [values.length]);
  native().upload(handle, Float32Array.from(values));
  return handle;
}

export const floats = async (handle: number): Promise<number[]> => [...new Float32Array(await native().read(handle))];

export const launch = (kernel: string, handles: number[], scalars: number[] = []): void => native().launch(native().kernel(kernel), handles, scalars);
