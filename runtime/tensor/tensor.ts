import { RuntimeError, ShapeError } from "../errors.ts";
import { native } from "../native.ts";
import { type DType, type HostArray, type Numbers, type Shape, bytesPerElement, dtypeCode, hostArray, inferDtype, sizeOf, toHostArray, toNumbers } from "./dtype.ts";
import { noRoom } from "./room.ts";
import { type Scope, enteredScope } from "./scope.ts";

const maxRank = 6;

/**
 * A handle to row-major native memory; JavaScript never owns the bytes.
 * Work on it is queued in program order, only `read` and `item` wait.
 */
export class Tensor {
  /** The scope that frees it, if one does. Managed by `Scope`. */
  scope: Scope | undefined;
  /** A trainable parameter's value: gradients always reach it. Set by `nn.Parameter`. */
  requiresGrad = false;
  /** The tensor whose storage this one shares: itself, unless it is a view. */
  readonly root: Tensor;
  #disposed = false;
  #readOnly: string | undefined;

  constructor(readonly handle: number, readonly shape: Shape, readonly dtype: DType, readonly size: number, root?: Tensor) {
    this.root = root ?? this;
    enteredScope()?.adopt(this);
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** From now on its storage is only read, also through views: writing in place throws ERR_HANDLE with this reason. */
  lock(reason: string): void {
    this.root.#readOnly = reason;
  }

  /** Throws ERR_HANDLE when its storage may only be read. Everything that writes in place asks. */
  mustBeWritable(op: string): void {
    const reason = this.root.#readOnly;
    if (reason !== undefined) throw new RuntimeError("ERR_HANDLE", `${op}: ${this} may only be read: ${reason}. Write to a clone().`, { op, shape: this.shape });
  }

  get rank(): number {
    return this.shape.length;
  }

  /** The elements, once everything queued before is done; bf16 and f16 as raw bits. Rejects with ERR_DEVICE after a device fault. */
  async read(): Promise<HostArray> {
    return hostArray(await native().read(liveHandle(this, "read", "this")), this.dtype);
  }

  /** The elements as numbers: like `read`, with bf16 as f32 and i64 as f64. */
  async readNumbers(): Promise<Numbers> {
    return toNumbers(await this.read(), this.dtype);
  }

  /** The only element of a tensor of size 1, as a number. */
  async item(): Promise<number> {
    if (this.size !== 1) {
      throw new ShapeError({ op: "item", operand: "this", expected: "one element", got: this.shape,
        fix: "Use read() for more than one, or reduce it first." });
    }
    return (await this.readNumbers())[0];
  }

  /** Overwrites all elements, in stream order. The data is copied before this returns. */
  write(data: ArrayLike<number> | ArrayBufferView): void {
    const host = toHostArray(data, this.dtype);
    if (host.length !== this.size) {
      throw new ShapeError({ op: "write", operand: "data", expected: `${this.size} elements`, got: [host.length],
        fix: `The tensor has shape (${this.shape.join(", ")}).` });
    }
    this.mustBeWritable("write");
    native().upload(liveHandle(this, "write", "this"), host);
  }

  /** Its storage is freed for the time being; the handle and its views stay, and cannot be used until `refill`. Not while a step is recorded. */
  vacate(): void {
    native().vacate(liveHandle(this, "vacate", "this"));
  }

  /** After `vacate`: a storage again, of any content. Throws ERR_MEMORY when there is no room. */
  refill(): void {
    native().refill(liveHandle(this, "refill", "this"));
  }

  /** Frees the handle; the storage goes with its last view. Twice is allowed. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.scope?.forget(this);
    native().free(this.handle);
  }

  toString(): string {
    return `${this.dtype}(${this.shape.join(", ")})`;
  }
}

/** The handle to give to the device, or ERR_HANDLE naming who wanted a freed tensor. */
export function liveHandle(tensor: Tensor, op: string, operand: string | number): number {
  if (tensor.disposed) {
    throw new RuntimeError("ERR_HANDLE", `${op}: operand ${operand}, ${tensor}, was freed before this use.`
      + " Keep it from its scope, or do the work before the scope closes.", { op, operand, shape: tensor.shape });
  }
  return tensor.handle;
}

/** Uninitialised memory, owned by the entered scope. Throws ERR_MEMORY when the device is full, naming op, size, limit and the largest scopes. */
export function allocate(shape: Shape, dtype: DType = "f32"): Tensor {
  if (shape.length > maxRank) {
    throw new ShapeError({ op: "allocate", operand: "shape", expected: `at most ${maxRank} dimensions`, got: shape,
      fix: "Merge neighbouring dimensions first." });
  }
  for (let i = 0; i < shape.length; i++) {
    if (!Number.isInteger(shape[i]) || shape[i] < 0) {
      throw new ShapeError({ op: "allocate", operand: "shape", expected: "whole numbers, none negative", got: shape,
        fix: `Dimension ${i} is ${shape[i]}.` });
    }
  }
  return new Tensor(room(shape, dtype), shape, dtype, sizeOf(shape));
}

function room(shape: Shape, dtype: DType): number {
  try {
    return native().allocate(dtypeCode(dtype), shape);
  } catch (error) {
    throw error instanceof RuntimeError && error.code === "ERR_MEMORY" ? noRoom(shape, dtype, error) : error;
  }
}

/** Another shape over the same storage, for `op`. The caller has checked that the sizes agree. */
export function viewOf(tensor: Tensor, shape: Shape, op = "view"): Tensor {
  return new Tensor(native().view(liveHandle(tensor, op, "x"), shape), shape, tensor.dtype, tensor.size, tensor.root);
}

/** Copies host data to the device. The dtype is that of the typed array unless given; plain numbers are f32. bf16 takes raw bits (Uint16Array) or numbers. */
export function fromArray(data: ArrayLike<number> | ArrayBufferView, shape: Shape, dtype: DType = inferDtype(data)): Tensor {
  const length = "length" in data ? data.length : data.byteLength / bytesPerElement(dtype);
  if (length !== sizeOf(shape)) {
    throw new ShapeError({ op: "fromArray", operand: "data", expected: `${sizeOf(shape)} elements for shape (${shape.join(", ")})`, got: [length],
      fix: "Give as many elements as the shape holds." });
  }
  const tensor = allocate(shape, dtype);
  if (tensor.size > 0) tensor.write(data);
  return tensor;
}

/** Waits for everything queued so far. Rejects with ERR_DEVICE after a device fault. */
export const fence = (): Promise<void> => native().fence();

/** Bytes and live tensors of this process's device: in use, taken from the system, the most ever in use since `resetPeak`, and the limit (0: none). */
export const memory = (): { bytesInUse: number; bytesReserved: number; bytesPeak: number; bytesLimit: number; tensors: number } => native().memory();

/** The peak starts again at what is in use now. */
export const resetPeak = (): void => native().resetPeak();

/** Threads per kernel, fast or reference kernels, a limit on bytes, and the guard against NaN and infinity. Throws while work is queued. */
export function configureDevice(o: { threads?: number; kernels?: "fast" | "reference"; limitBytes?: number; guard?: boolean }): void {
  native().configure(o);
}

/** The same at the first moment without queued work. Several may wait: whoever comes first may queue work again, the others wait on. */
export async function configureIdleDevice(o: Parameters<typeof configureDevice>[0]): Promise<void> {
  do await fence(); while (native().pending() > 0);
  configureDevice(o);
}
