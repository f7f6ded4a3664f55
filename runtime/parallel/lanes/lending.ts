import { RuntimeError } from "../../errors.ts";
import { native } from "../../native.ts";
import { type Tensor, fence } from "../../tensor/index.ts";
import type { BareLane, LaneName } from "./lanes.ts";
import { Leases } from "./leases.ts";
import type { Slice, SlabArena } from "./slab-arena.ts";
import { type SliceAt, type TensorDescriptor, describe } from "./tensor-frames.ts";

/** The sending half of the lanes that lend slices: tensors are copied into the arena, or are there already, and leased to the peer. */
export interface Lending extends Pick<BareLane, "send" | "release" | "stats"> {
  peerDown(reason: string): void;
  close(): void;
}

/** What is copied goes into `own`, what was born in `born` is lent from there. */
export interface Arenas { own: SlabArena; born: SlabArena }

/** `locate` says how the peer finds a slab. */
export function lending(lane: LaneName, node: string, { own, born }: Arenas, locate: (slice: Slice) => Pick<SliceAt, "slab" | "remote">): Lending {
  const leases = new Leases(lane, node);
  const stats = { messages: 0, tensors: 0, bytes: 0 };
  let generation = 0;
  let over: string | undefined;

  function lend(name: string, tensor: Tensor): TensorDescriptor {
    const d = describe(name, tensor, { generation, producer: node, lane });
    stats.bytes += d.byteLength;
    if (d.byteLength === 0) return d;
    const birthplace = born.bornIn(tensor);
    const slice = birthplace ? born.use(birthplace) : own.take(d.byteLength);
    const lease = leases.lend(slice, generation);
    if (birthplace) tensor.lock(`lane ${lane} has handed it to a peer`);
    else native().slabWrite(tensor.handle, slice.slab.slab, slice.offset);
    return { ...d, slice: { offset: slice.offset, generation: slice.generation, lease, born: birthplace !== undefined, ...locate(slice) } };
  }

  return {
    stats,
    async send(tensors) {
      if (over !== undefined) throw new RuntimeError("ERR_LANE", `lane ${lane} of ${node}: ${over}.`, { node });
      own.mustBeOpen();
      generation++;
      const descriptors: TensorDescriptor[] = [];
      try {
        for (const [name, tensor] of Object.entries(tensors)) descriptors.push(lend(name, tensor));
        stats.messages++;
        stats.tensors += descriptors.length;
        await fence();
        return { descriptors, attachments: [] };
      } catch (error) {
        if (over === undefined) leases.release(descriptors.flatMap((d) => d.slice?.lease ?? []));
        throw error;
      }
    },
    release(ids) {
      if (over === undefined) leases.release(ids); // what comes after the end is late, not wrong
    },
    peerDown(reason) {
      over ??= `its peer is gone: ${reason}`;
      leases.reclaim();
    },
    /** What is leased stays taken: the peer may still be reading. */
    close() {
      over ??= "it is closed";
    },
  };
}
