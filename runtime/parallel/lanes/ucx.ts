import { native } from "../../native.ts";
import type { Tensor } from "../../tensor/index.ts";
import type { BareLane, LaneOptions } from "./lanes.ts";
import { lending } from "./lending.ts";
import { type Slab, SlabArena, type Slice } from "./slab-arena.ts";
import { type TensorDescriptor, laneError, materialiseAll, nothingIn } from "./tensor-frames.ts";

/**
 * One-sided reads by UCX: the receiver fetches the slice into one of its own arena and the received tensor lives there. Each slab is
 * registered once; the address of the sender's worker comes with its descriptors, so the first message opens the way.
 */
export function ucxLane(options: LaneOptions): BareLane {
  // What is copied, and what arrives, lies in memory of UCX's own: its shared-memory transports reach no other.
  const own = new SlabArena(options.node, { ...options.slabs, memory: "ucx" });
  const sender = lending("ucx", options.node, { own, born: options.arena ?? own }, ({ slab, offset }) => {
    const { address, key } = registered(slab);
    return { remote: { address: address + offset, key, worker: worker() } };
  });
  const keys = new WeakMap<Slab, { address: number; key: string }>();
  const ways = new Map<string, number>();
  let over: string | undefined;

  let address: string | undefined;
  const worker = (): string => (address ??= base64(native().ucxAddress()));

  function registered(slab: Slab): { address: number; key: string } {
    let known = keys.get(slab);
    if (!known) {
      const { address, key } = native().ucxRegister(slab.slab);
      keys.set(slab, (known = { address, key: base64(key) }));
    }
    return known;
  }

  function wayTo(address: string): number {
    let way = ways.get(address);
    if (way === undefined) ways.set(address, (way = native().ucxConnect(Buffer.from(address, "base64"))));
    return way;
  }

  /** A place for the bytes, and the tensor that lives there. */
  function landing(d: TensorDescriptor): { tensor: Tensor; slice: Slice } {
    if (!d.slice?.remote) throw laneError("ucx", d, "its descriptor names no memory");
    const slice = own.take(d.byteLength);
    registered(slice.slab);
    return { tensor: own.over(slice, d.shape, d.dtype), slice };
  }

  /** The read has the slice to itself until it has gone well: after a failure the peer's bytes may still come. */
  async function read(d: TensorDescriptor, slice: Slice): Promise<void> {
    const { remote, generation } = d.slice!;
    own.use(slice);
    try {
      await native().ucxRead(wayTo(remote!.worker), remote!.address, Buffer.from(remote!.key, "base64"), slice.slab.slab, slice.offset, d.byteLength, generation);
    } catch (cause) {
      throw laneError("ucx", d, `its bytes did not come: ${(cause as Error).message}`, cause);
    }
    own.give(slice);
  }

  return {
    name: "ucx",
    stats: sender.stats,
    held: () => own.slices,
    send: sender.send,
    release: sender.release,
    transports: () => [...new Set([...ways.values()].flatMap((way) => readers(native().ucxDescribe(way))))],
    async receive(descriptors) {
      const reads: Promise<void>[] = [];
      let tensors: Record<string, Tensor> = {};
      try {
        tensors = materialiseAll("ucx", descriptors, (d) => {
          if (over !== undefined) throw laneError("ucx", d, over);
          if (d.byteLength === 0) return nothingIn(d);
          const { tensor, slice } = landing(d);
          reads.push(read(d, slice));
          return tensor;
        });
        await Promise.all(reads);
      } catch (error) {
        for (const tensor of Object.values(tensors)) tensor.dispose();
        await Promise.allSettled(reads);
        throw error;
      }
      return { tensors, done: Promise.resolve(descriptors.flatMap((d) => d.slice?.lease ?? [])) };
    },
    peerDown(reason) {
      end(`its peer is gone: ${reason}`);
      sender.peerDown(reason);
    },
    close() {
      end("the lane is closed");
      sender.close();
      own.close();
    },
  };

  function end(reason: string): void {
    over ??= reason;
    for (const way of ways.values()) native().ucxClose(way, reason);
    ways.clear();
  }
}

/** Of libucp's description of a way: the lanes that read memory by themselves, else the one whose messages carry the bytes. */
function readers(description: string): string[] {
  const lanes = [...description.matchAll(/lane\[(\d+)\]:\s+\d+:(\S+?)(?:\.\d+)?\s.*?->\s*\S+\s*(.*)$/gm)].map(([, index, name, roles]) => ({ index, name, roles }));
  const reading = lanes.filter(({ index, roles }) => description.includes(` get[${index}]:`) || /\brma(_bw)?#/.test(roles));
  return (reading.length > 0 ? reading : lanes.filter(({ roles }) => /\bam\b/.test(roles))).map(({ name }) => name);
}

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
