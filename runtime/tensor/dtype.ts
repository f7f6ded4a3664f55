import { RuntimeError } from "../errors.ts";
import { fromBf16, toBf16 } from "./bf16.ts";

/** In the order of the native enum `DType`: the index is the code that crosses the border. */
export const dtypes = ["f64", "f32", "bf16", "f16", "i64", "i32", "i8", "u8", "bool"] as const;
export type DType = (typeof dtypes)[number];
export type Shape = readonly number[];

export type HostArray = Float64Array | Float32Array | Uint16Array | BigInt64Array | Int32Array | Int8Array | Uint8Array;
/** Elements as JavaScript numbers, whatever their dtype. */
export type Numbers = Float64Array | Float32Array | Int32Array | Int8Array | Uint8Array;

/** A tensor in ordinary memory, before it is uploaded. */
export interface HostTensor { dtype: DType; shape: readonly number[]; data: ArrayBufferView }

type HostArrayClass = {
  new (length: number): HostArray;
  new (buffer: ArrayBuffer): HostArray;
};

/** How a dtype looks on the host. bf16 and f16 are raw bits, bool is one byte of 0 or 1. */
const facts: Record<DType, { code: number; bytes: number; array: HostArrayClass; float: boolean }> = {
  f64: { code: 0, bytes: 8, array: Float64Array as unknown as HostArrayClass, float: true },
  f32: { code: 1, bytes: 4, array: Float32Array as unknown as HostArrayClass, float: true },
  bf16: { code: 2, bytes: 2, array: Uint16Array as unknown as HostArrayClass, float: true },
  f16: { code: 3, bytes: 2, array: Uint16Array as unknown as HostArrayClass, float: true },
  i64: { code: 4, bytes: 8, array: BigInt64Array as unknown as HostArrayClass, float: false },
  i32: { code: 5, bytes: 4, array: Int32Array as unknown as HostArrayClass, float: false },
  i8: { code: 6, bytes: 1, array: Int8Array as unknown as HostArrayClass, float: false },
  u8: { code: 7, bytes: 1, array: Uint8Array as unknown as HostArrayClass, float: false },
  bool: { code: 8, bytes: 1, array: Uint8Array as unknown as HostArrayClass, float: false },
};

export const dtypeCode = (dtype: DType): number => facts[dtype].code;
export const bytesPerElement = (dtype: DType): number => facts[dtype].bytes;
export const isFloat = (dtype: DType): boolean => facts[dtype].float;

/** The bytes of a tensor as the typed array of its dtype; no copy. */
export const hostArray = (buffer: ArrayBuffer, dtype: DType): HostArray => new facts[dtype].array(buffer);

/** The dtype a typed array stands for; plain arrays of numbers are f32. Raw 16-bit data names its dtype itself. */
export function inferDtype(data: ArrayLike<number> | ArrayBufferView): DType {
  if (data instanceof Float64Array) return "f64";
  if (data instanceof Int32Array) return "i32";
  if (data instanceof Uint8Array) return "u8";
  if (data instanceof Int8Array) return "i8";
  if (data instanceof BigInt64Array) return "i64";
  return "f32";
}

/** Raw elements as numbers: bf16 becomes f32, i64 becomes f64. Throws ERR_DTYPE for f16, which is only carried. */
export function toNumbers(data: HostArray, dtype: DType): Numbers {
  if (dtype === "bf16") return fromBf16(data as Uint16Array);
  if (data instanceof BigInt64Array) return Float64Array.from(data, Number);
  if (data instanceof Uint16Array) {
    throw new RuntimeError("ERR_DTYPE", `readNumbers: a tensor of ${dtype} is carried, not computed with. Take its raw bits with read().`, { dtype });
  }
  return data;
}

/**
 * `data` as the typed array of `dtype`: itself when it already is one, else converted element by element. For bf16 a Uint16Array
 * is raw bits and everything else numbers, which are rounded to nearest even.
 */
export function toHostArray(data: ArrayLike<number> | ArrayLike<bigint> | ArrayBufferView, dtype: DType): HostArray {
  const { array } = facts[dtype];
  if (data instanceof array) return data;
  if (ArrayBuffer.isView(data) && !("length" in data)) {
    throw new RuntimeError("ERR_DTYPE", `A DataView holds no elements. Pass a typed array or numbers for a tensor of ${dtype}.`, { dtype });
  }
  if (dtype === "f16") {
    throw new RuntimeError("ERR_DTYPE", `${dtype} takes its raw bits as a Uint16Array; it is carried, not computed with. Use bf16 or f32.`, { dtype });
  }
  const source = data as ArrayLike<number | bigint>;
  if (dtype === "bf16") return toBf16(Array.from(source, Number));
  const result = new array(source.length);
  if (result instanceof BigInt64Array) for (let i = 0; i < source.length; i++) result[i] = BigInt(source[i]);
  else for (let i = 0; i < source.length; i++) result[i] = Number(source[i]);
  return result;
}

/** Number of elements of a shape. Throws nothing: shapes are checked where tensors are made. */
export function sizeOf(shape: Shape): number {
  let size = 1;
  for (let i = 0; i < shape.length; i++) size *= shape[i];
  return size;
}

export function sameShape(a: Shape, b: Shape): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
