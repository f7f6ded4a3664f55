import { native } from "../native.ts";
import { type DType, type Shape } from "./dtype.ts";
import { type Tensor, allocate, liveHandle } from "./tensor.ts";

export type Launch = (operands: readonly (Tensor | undefined)[], scalars?: readonly number[]) => void;

/** A kernel call takes so many tensors, and as many scalars. */
export const operandsPerCall = 512;

const noScalars: readonly number[] = [];

/**
 * A native kernel by name: calling it queues one command. Its number is looked up at the first call, so naming
 * a kernel needs no device. An absent operand is `undefined`. Throws ERR_NATIVE when the addon has no such kernel.
 */
export function kernel(name: string): Launch {
  let id = -1;
  return (operands, scalars = noScalars) => {
    const device = native();
    if (id < 0) id = device.kernel(name);
    const handles = new Array<number>(operands.length);
    for (let i = 0; i < operands.length; i++) {
      const tensor = operands[i];
      handles[i] = tensor === undefined ? 0 : liveHandle(tensor, name, i);
    }
    device.launch(id, handles, scalars);
  };
}

const fill = kernel("fill");
const copy = kernel("copy");
const accumulateKernel = kernel("accumulate");
const accumulateManyKernel = kernel("accumulate_many");
const collectKernel = kernel("collect");
const writeRowsKernel = kernel("write_rows");

/** A tensor of one value everywhere. */
export function full(shape: Shape, value: number, dtype: DType = "f32"): Tensor {
  const tensor = allocate(shape, dtype);
  fill([tensor], [value]);
  return tensor;
}

export const zeros = (shape: Shape, dtype: DType = "f32"): Tensor => full(shape, 0, dtype);

/** A tensor of the same content with storage of its own. Not recorded. */
export function clone(x: Tensor): Tensor {
  liveHandle(x, "clone", "x");
  const y = allocate(x.shape, x.dtype);
  copy([x, y]);
  return y;
}

/** y = x in place, in stream order: for buffers that keep their storage. Not recorded. */
export function assign(x: Tensor, y: Tensor): void {
  y.mustBeWritable("assign");
  copy([x, y]);
}

/** y += x in place. Not recorded: for gradients and states, never for values that a tape has saved. */
export function accumulate(x: Tensor, y: Tensor): void {
  y.mustBeWritable("accumulate");
  accumulateKernel([x, y]);
}

/**
 * y += x in place for many pairs (x, y) at once, each of one dtype and shape: the bits of `accumulate`, in few commands. Not recorded.
 * Pairs of bf16 have commands of their own.
 */
export function accumulateMany(pairs: readonly (readonly [x: Tensor, y: Tensor])[]): void {
  for (const dtype of ["f32", "f64"] as const) {
    const alike = pairs.filter(([, y]) => y.dtype === dtype);
    for (let start = 0; start < alike.length; start += operandsPerCall / 2) accumulateManyKernel(alike.slice(start, start + operandsPerCall / 2).flat());
  }
  for (const [x, y] of pairs) if (y.dtype !== "f32" && y.dtype !== "f64") accumulate(x, y);
}

/** The elements of all of them in order -> f64 (how many they are), to be read at once. At most 511 tensors. */
export function numbersOf(tensors: readonly Tensor[]): Tensor {
  const y = allocate([tensors.reduce((size, tensor) => size + tensor.size, 0)], "f64");
  collectKernel([...tensors, y]);
  return y;
}

/**
 * into[b, at + n, ...] = x[b, n, ...] in place: x (B, N, ...), at i32 (1), into (B, C, ...) of x's dtype. Not recorded on a tape: for caches.
 * A place outside of `into` is a device fault at the next read.
 */
export function writeRows(x: Tensor, at: Tensor, into: Tensor): void {
  into.mustBeWritable("writeRows");
  writeRowsKernel([x, at, into]);
}
