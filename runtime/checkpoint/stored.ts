import { RuntimeError } from "../errors.ts";

/** Dtypes of tensors in files, by the names safetensors gives them. */
export type StoredDType = "F64" | "F32" | "F16" | "BF16" | "I64" | "I32" | "I8" | "U8" | "BOOL";
export interface StoredEntry { dtype: StoredDType; shape: readonly number[] }
/** `data`: row-major, little-endian. */
export interface StoredTensor extends StoredEntry { data: Uint8Array }

export const bytesPer: Record<StoredDType, number> = { F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8, I32: 4, I8: 1, U8: 1, BOOL: 1 };

export const elements = (shape: readonly number[]): number => shape.reduce((product, n) => product * n, 1);
export const bytesOf = ({ dtype, shape }: StoredEntry): number => elements(shape) * bytesPer[dtype];
export const formatEntry = ({ dtype, shape }: StoredEntry): string => `${dtype} (${shape.join(", ")})`;

/**
 * Named tensors in one or several files, each readable by itself: nothing is read before it is asked for.
 * TS-1: opening reads headers and names only. TS-2: `bytesRead` counts every byte taken from disk, headers included.
 */
export interface TensorSource {
  readonly path: string;
  /** "safetensors", "sharded safetensors" or "torch". */
  readonly format: string;
  readonly names: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly bytesRead: number;
  entry(name: string): StoredEntry | undefined;
  /** Bytes `from` to `from + length` of a tensor's data. Throws ERR_CHECKPOINT for an unknown name. */
  bytes(name: string, from: number, length: number): Uint8Array;
  close(): void;
}

/** Large tensors pass through memory in pieces of this size; a multiple of every element's. */
const pieceBytes = 8 * 1024 * 1024;

/** A tensor's data piece by piece. */
export function* pieces(source: TensorSource, name: string): Generator<Uint8Array> {
  const total = bytesOf(entryOf(source, name));
  for (let from = 0; from < total; from += pieceBytes) yield source.bytes(name, from, Math.min(pieceBytes, total - from));
}

/** A whole tensor as it is stored. */
export function readStored(source: TensorSource, name: string): StoredTensor {
  const entry = entryOf(source, name);
  return { ...entry, data: source.bytes(name, 0, bytesOf(entry)) };
}

/** A whole tensor as numbers: F64 stays f64, everything else becomes f32 (integers beyond 2^24 are rounded). Holds one piece beside the result. */
export function readNumbers(source: TensorSource, name: string): Float32Array | Float64Array {
  const { dtype, shape } = entryOf(source, name);
  const result = dtype === "F64" ? new Float64Array(elements(shape)) : new Float32Array(elements(shape));
  let at = 0;
  for (const piece of pieces(source, name)) at += widen(dtype, piece, result, at);
  return result;
}

/** The elements of stored bytes as f32. */
export function toFloat32({ dtype, shape, data }: StoredTensor): Float32Array {
  const result = new Float32Array(elements(shape));
  widen(dtype, data, result, 0);
  return result;
}

/** f32 values as bytes of another float dtype, rounded to nearest even; NaN stays NaN. Throws ERR_DTYPE for a dtype that holds no floats. */
export function fromFloat32(values: Float32Array, dtype: StoredDType): Uint8Array {
  if (dtype === "F32") return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  if (dtype === "F64") return new Uint8Array(Float64Array.from(values).buffer);
  if (dtype !== "BF16" && dtype !== "F16") throw new RuntimeError("ERR_DTYPE", `weights are written as F64, F32, F16 or BF16, not ${dtype}.`, { dtype });
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return new Uint8Array(Uint16Array.from(bits, dtype === "BF16" ? bfloatOf : halfOf).buffer);
}

/** Writes the elements of `bytes` to `out` from `at` on; gives how many. `out` is f64 for F64 alone, or f32. */
function widen(dtype: StoredDType, bytes: Uint8Array, out: Float32Array | Float64Array, at: number): number {
  const raw = aligned(bytes, bytesPer[dtype]);
  const count = bytes.byteLength / bytesPer[dtype];
  switch (dtype) {
    case "F64": out.set(new Float64Array(raw.buffer, raw.byteOffset, count), at); break;
    case "F32": out.set(new Float32Array(raw.buffer, raw.byteOffset, count), at); break;
    case "I32": out.set(new Int32Array(raw.buffer, raw.byteOffset, count), at); break;
    case "I8": out.set(new Int8Array(raw.buffer, raw.byteOffset, count), at); break;
    case "U8":
    case "BOOL": out.set(raw, at); break;
    case "I64": new BigInt64Array(raw.buffer, raw.byteOffset, count).forEach((value, i) => (out[at + i] = Number(value))); break;
    case "BF16": widenBits(new Uint16Array(raw.buffer, raw.byteOffset, count), out, at, (bits) => bits << 16); break;
    case "F16": widenBits(new Uint16Array(raw.buffer, raw.byteOffset, count), out, at, singleOfHalf); break;
  }
  return count;
}

/** Through bits, so that a NaN keeps its payload. */
function widenBits(bits: Uint16Array, out: Float32Array | Float64Array, at: number, single: (bits: number) => number): void {
  const target = new Uint32Array(out.buffer, out.byteOffset + 4 * at, bits.length);
  for (let i = 0; i < bits.length; i++) target[i] = single(bits[i]);
}

/** IEEE half -> the bits of the same number as single. */
function singleOfHalf(bits: number): number {
  const sign = (bits & 0x8000) << 16, exponent = (bits >> 10) & 0x1f, fraction = bits & 0x3ff;
  if (exponent === 31) return sign | 0x7f800000 | (fraction << 13);
  if (exponent !== 0) return sign | ((exponent + 112) << 23) | (fraction << 13);
  if (fraction === 0) return sign;
  const shift = Math.clz32(fraction) - 21; // subnormal: fraction * 2^-24
  return sign | ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13);
}

/** Bits of a single -> bits of the nearest half, ties to even; beyond 65504 infinite. */
function halfOf(bits: number): number {
  const sign = (bits >>> 16) & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00 | ((magnitude >> 13) & 0x1ff);
  if (magnitude >= 0x47800000) return sign | 0x7c00;
  if (magnitude < 0x33000000) return sign;
  const exponent = magnitude >>> 23;
  const shift = exponent < 113 ? 126 - exponent : 13;
  const whole = exponent < 113 ? (magnitude & 0x7fffff) | 0x800000 : magnitude - 0x38000000;
  const rest = whole & ((1 << shift) - 1), tie = 1 << (shift - 1), half = whole >>> shift;
  return sign | (half + Number(rest > tie || (rest === tie && (half & 1) === 1)));
}

/** Bits of a single -> bits of the nearest bfloat16, ties to even. */
function bfloatOf(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** A typed array starts at a multiple of its element's size; bytes that do not are copied. */
function aligned(bytes: Uint8Array, size: number): Uint8Array {
  return bytes.byteOffset % size === 0 ? bytes : bytes.slice();
}

function entryOf(source: TensorSource, name: string): StoredEntry {
  const entry = source.entry(name);
  if (!entry) throw new RuntimeError("ERR_CHECKPOINT", `${source.path}: holds no tensor "${name}".`, { path: source.path, name });
  return entry;
}
