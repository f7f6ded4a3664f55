import { native } from "../../native.ts";
import type { BareLane, LaneOptions } from "./lanes.ts";
import { lending } from "./lending.ts";
import { SlabArena, tensorIn } from "./slab-arena.ts";
import { type TensorDescriptor, laneError, materialiseAll, nothingIn } from "./tensor-frames.ts";

/**
 * Bytes go through anonymous shared memory: one copy into a slice of the sender's slab, or none when the tensor was born there. The
 * received tensor lives in that slice: nobody else writes to it, and the lease lasts until it is freed. Slabs are made once,
 * mapped once by the receiver, and kept: mapping per message is the known mistake.
 */
export function sharedMemoryLane(options: LaneOptions): BareLane {
  const arena = options.arena ?? new SlabArena(options.node, options.slabs);
  const sender = lending("shared-memory", options.node, { own: arena, born: arena }, ({ slab: { pid, fd, bytes, inode } }) => ({ slab: { pid, fd, bytes, inode } }));
  const opened = new Map<number, number>();

  function mapped(d: TensorDescriptor): number {
    const slab = d.slice?.slab;
    if (!slab) throw laneError("shared-memory", d, "its descriptor names no slice");
    let known = opened.get(slab.inode);
    if (known === undefined) opened.set(slab.inode, (known = native().slabOpen(slab.pid, slab.fd, slab.bytes, slab.inode)));
    return known;
  }

  return {
    name: "shared-memory",
    stats: sender.stats,
    held: () => arena.slices,
    send: sender.send,
    release: sender.release,
    async receive(descriptors) {
      const freed: Promise<void>[] = [];
      const tensors = materialiseAll("shared-memory", descriptors, (d) => {
        if (d.byteLength === 0) return nothingIn(d);
        const here = tensorIn(mapped(d), d.slice!, d.shape, d.dtype, true);
        freed.push(here.freed);
        if (d.slice!.born) here.tensor.lock(`${d.producer} has handed it over and still reads it`);
        return here.tensor;
      });
      return { tensors, done: Promise.all(freed).then(() => descriptors.flatMap((d) => d.slice?.lease ?? [])) };
    },
    peerDown: sender.peerDown,
    close() {
      sender.close();
      if (!options.arena) arena.close();
      for (const slab of opened.values()) native().slabClose(slab);
      opened.clear();
    },
  };
}
