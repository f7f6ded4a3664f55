import { RuntimeError } from "../errors.ts";
import { native } from "../native.ts";
import { fence } from "../tensor/index.ts";
import type { Lane, LaneOptions, LeaseId } from "./lanes.ts";
import { SliceAllocator } from "./slice-allocator.ts";
import { type TensorDescriptor, describe, laneError, materialiseAll, receiveInto } from "./tensor-frames.ts";

export interface SlabLimits {
  /** Default 64 MiB. Address space only: a page costs memory once it was written. */
  slabBytes: number;
  /** Default 2 GiB of slabs for one end of one link. */
  totalBytes: number;
}

interface Slab {
  slab: number;
  pid: number;
  fd: number;
  bytes: number;
  slices: SliceAllocator;
}

interface Lease {
  generation: number;
  slab: Slab;
  offset: number;
}

/**
 * Bytes go through anonymous shared memory: the sender copies into a slice of its slab, the receiver copies out, both as
 * commands of their own stream. Slabs are made once, mapped once by the receiver, and kept: mapping per message is the
 * known mistake. A slice is leased until the receiver's `done` has come back through `release`.
 */
export function sharedMemoryLane({ node, slabs: limits }: LaneOptions): Lane {
  const { slabBytes, totalBytes } = { slabBytes: 64 * 2 ** 20, totalBytes: 2 ** 31, ...limits };
  const slabs: Slab[] = [];
  const leases = new Map<number, Lease>();
  const opened = new Map<string, number>();
  const stats = { messages: 0, tensors: 0, bytes: 0 };
  let generation = 0;
  let nextSlot = 1;
  let closed = false;

  function lease(bytes: number): { id: LeaseId; lease: Lease } {
    for (const slab of slabs) {
      const offset = slab.slices.take(bytes);
      if (offset !== undefined) return enter(slab, offset);
    }
    const inUse = slabs.reduce((sum, slab) => sum + slab.bytes, 0);
    const size = Math.max(slabBytes, bytes);
    if (inUse + size > totalBytes) {
      throw new RuntimeError("ERR_LANE", `lane shared-memory of ${node}: no room for ${bytes} bytes; ${leases.size} slices are leased, the slabs hold ${inUse} of ${totalBytes} bytes. ` +
        "Fewer microbatches in flight need less, or the receiver has stopped releasing.", { node, bytes, inUse, totalBytes, leases: leases.size });
    }
    const made: Slab = { ...native().slabCreate(size), slices: new SliceAllocator(size) };
    slabs.push(made);
    return enter(made, made.slices.take(bytes)!);
  }

  function enter(slab: Slab, offset: number): { id: LeaseId; lease: Lease } {
    const slot = nextSlot++;
    const made = { generation, slab, offset };
    leases.set(slot, made);
    return { id: { slot, generation }, lease: made };
  }

  function release(ids: readonly LeaseId[]): void {
    for (const { slot, generation: g } of ids) {
      const found = leases.get(slot);
      if (found?.generation !== g) {
        throw new RuntimeError("ERR_LANE", `lane shared-memory of ${node}: lease ${slot} of generation ${g} is not held; it was released before, or never made here.`, { node, slot, generation: g });
      }
      leases.delete(slot);
      found.slab.slices.give(found.offset);
    }
  }

  function mapped(d: TensorDescriptor): { slab: number; offset: number } {
    const { pid, fd, slabBytes: bytes, offset } = d.slice!;
    const key = `${pid}/${fd}/${bytes}`;
    let slab = opened.get(key);
    if (slab === undefined) opened.set(key, (slab = native().slabOpen(pid, fd, bytes)));
    return { slab, offset };
  }

  return {
    name: "shared-memory",
    stats,
    async send(tensors) {
      if (closed) throw new RuntimeError("ERR_LANE", `lane shared-memory of ${node}: it is closed.`, { node });
      const from = { generation: ++generation, producer: node, lane: "shared-memory" as const };
      const held: LeaseId[] = [];
      try {
        const descriptors = Object.entries(tensors).map(([name, tensor]): TensorDescriptor => {
          const d = describe(name, tensor, from);
          stats.bytes += d.byteLength;
          if (d.byteLength === 0) return d;
          const { id, lease: { slab, offset } } = lease(d.byteLength);
          held.push(id);
          native().slabWrite(tensor.handle, slab.slab, offset);
          return { ...d, slice: { pid: slab.pid, fd: slab.fd, slabBytes: slab.bytes, offset, lease: id } };
        });
        stats.messages++;
        stats.tensors += descriptors.length;
        await fence();
        return { descriptors, attachments: [] };
      } catch (error) {
        if (!closed) release(held);
        throw error;
      }
    },
    async receive(descriptors) {
      const tensors = materialiseAll("shared-memory", descriptors, (d) => {
        if (d.byteLength > 0 && !d.slice) throw laneError("shared-memory", d, "its descriptor names no slice");
        return receiveInto(d, (handle) => {
          const { slab, offset } = mapped(d);
          native().slabRead(slab, offset, handle);
        });
      });
      const read = descriptors.flatMap((d) => (d.slice ? [d.slice.lease] : []));
      return { tensors, done: read.length === 0 ? Promise.resolve([]) : fence().then(() => read) };
    },
    release,
    close() {
      closed = true;
      for (const slab of slabs.splice(0)) native().slabClose(slab.slab);
      for (const slab of opened.values()) native().slabClose(slab);
      opened.clear();
      leases.clear();
    },
  };
}
