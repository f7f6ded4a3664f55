import { RuntimeError } from "../../errors.ts";
import { native } from "../../native.ts";
import { type DType, type Shape, Tensor, allocate, dtypeCode, sizeOf, bytesPerElement } from "../../tensor/index.ts";
import { SliceAllocator } from "./slice-allocator.ts";

export interface SlabLimits {
  /** Default 64 MiB. Address space only: a page costs memory once it was written. */
  slabBytes: number;
  /** Default 4 GiB for all slabs of one arena. */
  totalBytes: number;
  /** Where the memory comes from: `shared` can be mapped by processes of this host, `ucx` be read by UCX at the best speed. Default shared. */
  memory: "shared" | "ucx";
}

export interface Slab {
  slab: number;
  pid: number;
  fd: number;
  bytes: number;
  inode: number;
  slices: SliceAllocator;
}

/** A piece of a slab. `generation` is written beside it for as long as it is taken: a reader that comes late sees that it is gone. */
export interface Slice {
  arena: SlabArena;
  slab: Slab;
  offset: number;
  generation: number;
  users: number;
}

/** The bytes before a slice that hold its generation (native-cuda/comm/slab.h, SL-5). */
const head = 64;

/**
 * Shared memory of one process, divided into slices: what its lanes send, and tensors that are born there because they will be sent.
 *
 * AR-1: slabs are made once and kept until `close`; nothing is mapped or registered per message.
 * AR-2: a slice is free again when its last user has given it back: the lanes that lent it, and the tensor that was born in it once
 *       its last view was freed and the stream has passed that point.
 * AR-3: after `close` tensors born here still live, and so does what peers have mapped; the memory goes with the last of them.
 */
export class SlabArena {
  readonly #slabs: Slab[] = [];
  readonly #born = new WeakMap<Tensor, Slice>();
  readonly #limits: SlabLimits;
  #generation = 0;
  #taken = 0;
  #closed = false;

  constructor(readonly node: string, limits: Partial<SlabLimits> = {}) {
    this.#limits = { slabBytes: 64 * 2 ** 20, totalBytes: 2 ** 32, memory: "shared", ...limits };
  }

  /** Slices that have a user now. */
  get slices(): number {
    return this.#taken;
  }

  /** A slice of at least so many bytes, with one user. Throws ERR_LANE when the limit is reached. */
  take(bytes: number): Slice {
    this.mustBeOpen();
    for (const slab of this.#slabs) {
      const offset = slab.slices.take(bytes + head);
      if (offset !== undefined) return this.#enter(slab, offset + head);
    }
    const slab = this.#grow(bytes);
    return this.#enter(slab, slab.slices.take(bytes + head)! + head);
  }

  #grow(bytes: number): Slab {
    const { slabBytes, totalBytes, memory } = this.#limits;
    const held = this.#slabs.reduce((sum, slab) => sum + slab.bytes, 0);
    const size = Math.max(slabBytes, bytes + head);
    if (held + size > totalBytes) {
      throw new RuntimeError("ERR_LANE", `shared memory of ${this.node}: no room for ${bytes} bytes; ${this.#taken} slices are taken, the slabs hold ${held} of ${totalBytes} bytes. ` +
        "Fewer microbatches in flight need less, or a receiver has stopped releasing.", { node: this.node, bytes, held, totalBytes, slices: this.#taken });
    }
    const slab = { ...(memory === "ucx" ? native().ucxSlab(size) : native().slabCreate(size)), slices: new SliceAllocator(size) };
    this.#slabs.push(slab);
    return slab;
  }

  #enter(slab: Slab, offset: number): Slice {
    const slice = { arena: this, slab, offset, generation: ++this.#generation, users: 1 };
    native().slabStamp(slab.slab, offset, slice.generation);
    this.#taken++;
    return slice;
  }

  use(slice: Slice): Slice {
    slice.users++;
    return slice;
  }

  /** One user fewer. After `close` nothing is left to give back to. */
  give(slice: Slice): void {
    if (--slice.users > 0 || this.#closed) return;
    native().slabStamp(slice.slab.slab, slice.offset, 0);
    slice.slab.slices.give(slice.offset - head);
    this.#taken--;
  }

  /** A tensor born in a slice: lanes hand it over as it is. Its bytes are undefined; it belongs to the entered scope, or to the caller. */
  allocate(shape: Shape, dtype: DType = "f32"): Tensor {
    const bytes = sizeOf(shape) * bytesPerElement(dtype);
    return bytes === 0 ? allocate(shape, dtype) : this.over(this.take(bytes), shape, dtype);
  }

  /** A tensor in a slice that the caller has taken; it becomes the tensor's. */
  over(slice: Slice, shape: Shape, dtype: DType): Tensor {
    const { tensor, freed } = tensorIn(slice.slab.slab, slice, shape, dtype, false);
    this.#born.set(tensor, slice);
    void freed.then(() => this.give(slice));
    return tensor;
  }

  /** The slice that this tensor, or the one it is a view of, was born in. */
  bornIn(tensor: Tensor): Slice | undefined {
    return this.#born.get(tensor.root);
  }

  mustBeOpen(): void {
    if (this.#closed) throw new RuntimeError("ERR_LANE", `shared memory of ${this.node}: it is closed.`, { node: this.node });
  }

  /** Called by those who share the arena when the last of them ends. Twice is allowed. */
  close(): void {
    this.#closed = true;
    for (const { slab } of this.#slabs.splice(0)) native().slabClose(slab);
  }
}

/**
 * A tensor over a slice of a slab that is open here. `freed` resolves when nothing enqueued uses it any more. It never rejects: after
 * a device fault nothing runs any more, so nothing reads the slice either, and whoever waits for results learns of the fault.
 */
export function tensorIn(slab: number, at: { offset: number; generation: number }, shape: Shape, dtype: DType, arrived: boolean): { tensor: Tensor; freed: Promise<void> } {
  const { handle, freed } = native().slabTensor(slab, at.offset, dtypeCode(dtype), shape, at.generation, arrived);
  return { tensor: new Tensor(handle, shape, dtype, sizeOf(shape)), freed: freed.catch(() => undefined) };
}
