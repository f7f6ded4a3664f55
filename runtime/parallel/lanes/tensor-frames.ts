import { RuntimeError } from "../../errors.ts";
import { native } from "../../native.ts";
import { type DType, type Shape, Tensor, allocate, bytesPerElement, dtypes, sizeOf } from "../../tensor/index.ts";
import type { LaneName, LeaseId } from "./lanes.ts";

/** A tensor as a message sees it: what it is and where its bytes are; never the bytes. Plain data. */
export interface TensorDescriptor {
  name: string;
  dtype: DType;
  shape: Shape;
  byteLength: number;
  /** Counts the sends of one lane end, so that logs and errors can tell two sends of one name apart. */
  generation: number;
  /** The node that made it. */
  producer: string;
  lane: LaneName;
  /** zeromq: index of the attachment. */
  attachment?: number;
  /** shared-memory, ucx: the slice of the sender's slab that holds the bytes. */
  slice?: SliceAt;
  /** in-process: the ticket under which the tensor waits. */
  ticket?: number;
  /** What the tensor was before it was rounded for the way, and becomes again. */
  rounded?: DType;
  /** CRC-32 of the bytes that travel. */
  checksum?: number;
  /** The receiver keeps the tensor under this number, ... */
  keep?: number;
  /** ... and this one is the tensor that it keeps: no bytes travel. */
  same?: number;
}

/** Where a peer finds a slice. Plain data. */
export interface SliceAt {
  offset: number;
  /** Stands beside the slice as long as it is the sender's to lend. */
  generation: number;
  lease: LeaseId;
  /** The sender's own tensor lives there: neither side may write to it. Else it is a copy that is the receiver's alone. */
  born: boolean;
  /** shared-memory: `/proc/<pid>/fd/<fd>` opens the slab; size and inode prove that it is the one. */
  slab?: { pid: number; fd: number; bytes: number; inode: number };
  /** ucx: address of the slice, and in base64 the key of its memory and the address of the sender's worker. */
  remote?: { address: number; key: string; worker: string };
}

export const byteLengthOf = (dtype: DType, shape: Shape): number => sizeOf(shape) * bytesPerElement(dtype);

export function describe(name: string, tensor: Tensor, from: { generation: number; producer: string; lane: LaneName }): TensorDescriptor {
  if (tensor.disposed) throw new RuntimeError("ERR_HANDLE", `lane ${from.lane}: tensor "${name}" was freed before it was sent.`, { name });
  return { name, dtype: tensor.dtype, shape: [...tensor.shape], byteLength: byteLengthOf(tensor.dtype, tensor.shape), ...from };
}

/**
 * Makes the tensors that descriptors announce and lets `fill` bring their bytes; frees them again when one cannot be had.
 * A descriptor comes from another process, so everything in it is checked before memory is allocated for it.
 */
export function materialiseAll(lane: LaneName, descriptors: readonly TensorDescriptor[], fill: (d: TensorDescriptor) => Tensor): Record<string, Tensor> {
  const tensors: Record<string, Tensor> = {};
  try {
    for (const d of descriptors) {
      check(lane, d, Object.hasOwn(tensors, d.name));
      tensors[d.name] = fill(d);
    }
    return tensors;
  } catch (error) {
    for (const tensor of Object.values(tensors)) tensor.dispose();
    throw error;
  }
}

/** A tensor of the announced shape whose bytes `write` enqueues, given its handle. */
export function receiveInto(d: TensorDescriptor, write: (handle: number) => void): Tensor {
  const tensor = allocate(d.shape, d.dtype);
  try {
    if (d.byteLength > 0) write(tensor.handle);
    return tensor;
  } catch (error) {
    tensor.dispose();
    throw error;
  }
}

/** A tensor without elements has no slice: there is nothing to bring. */
export const nothingIn = (d: TensorDescriptor): Tensor => allocate(d.shape, d.dtype);

/** The bytes of a tensor once its producers have run. */
export async function bytesOf(tensor: Tensor): Promise<Uint8Array> {
  return new Uint8Array(await native().read(tensor.handle));
}

function check(lane: LaneName, d: TensorDescriptor, twice: boolean): void {
  const wrong = d.lane !== lane ? `it travels by lane "${d.lane}"`
    : twice ? "its name comes twice"
    : !dtypes.includes(d.dtype) ? `dtype "${d.dtype}" is unknown`
    : d.byteLength !== byteLengthOf(d.dtype, d.shape) ? `${d.byteLength} bytes are announced, ${d.dtype}(${d.shape.join(", ")}) has ${byteLengthOf(d.dtype, d.shape)}`
    : undefined;
  if (wrong) throw laneError(lane, d, wrong);
}

export function laneError(lane: LaneName, d: TensorDescriptor, wrong: string, cause?: unknown): RuntimeError {
  return new RuntimeError("ERR_LANE", `lane ${lane}: tensor "${d.name}" from ${d.producer}: ${wrong}.`,
    { lane, name: d.name, producer: d.producer, generation: d.generation }, cause === undefined ? undefined : { cause });
}
