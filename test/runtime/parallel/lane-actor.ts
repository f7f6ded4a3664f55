import { type ActorContext, defineActor, withAttachments } from "../../../runtime/actor/definition.ts";
import { type Lane, type LaneName, type LeaseId, createLane } from "../../../runtime/parallel/lanes/lanes.ts";
import { SlabArena } from "../../../runtime/parallel/lanes/slab-arena.ts";
import type { TensorDescriptor } from "../../../runtime/parallel/lanes/tensor-frames.ts";
import { scale } from "../../../runtime/ops/index.ts";
import { fence, memory } from "../../../runtime/tensor/index.ts";

/** Doubles what it gets, in the child process of two-processes.test.ts; its own end of each lane stays open. */
export const doubler = defineActor({
  name: "doubler",
  init: () => new Map<LaneName, Lane>(),
  endpoints: {
    async double(lanes, descriptors: TensorDescriptor[], { attachments }: ActorContext) {
      const name = descriptors[0].lane;
      const lane = lanes.get(name) ?? createLane(name, { node: "child" });
      lanes.set(name, lane);
      const { tensors, done } = await lane.receive(descriptors, attachments);
      const doubled = Object.fromEntries(Object.entries(tensors).map(([key, x]) => [key, scale(x, 2)]));
      const sent = await lane.send(doubled);
      for (const x of [...Object.values(tensors), ...Object.values(doubled)]) x.dispose();
      return withAttachments({ descriptors: sent.descriptors, read: await done }, sent.attachments);
    },
    release: (lanes, { lane, leases }: { lane: LaneName; leases: LeaseId[] }) => lanes.get(lane)!.release(leases),
    bytesInUse: () => memory().bytesInUse,
  },
  terminate: (lanes) => lanes.forEach((lane) => lane.close()),
});

/** One end of a link whose other end is in another child: what the tests of a peer's death direct. */
export const peer = defineActor({
  name: "peer",
  interleave: ["fetch", "peerDown"],
  init: (node: string) => ({ node, lanes: new Map<LaneName, Lane>(), memory: new SlabArena(node) }),
  endpoints: {
    /** Sends a tensor of so many floats, born in the arena. */
    async offer(state, { lane, floats }: { lane: LaneName; floats: number }): Promise<TensorDescriptor[]> {
      const x = state.memory.allocate([floats]);
      const { descriptors } = await laneOf(state, lane).send({ x });
      x.dispose();
      return descriptors;
    },
    /** Receives, frees, and says that it is done. */
    async fetch(state, descriptors: TensorDescriptor[]): Promise<string> {
      const { tensors, done } = await laneOf(state, descriptors[0].lane).receive(descriptors, []);
      for (const x of Object.values(tensors)) x.dispose();
      await done;
      return "fetched";
    },
    peerDown: (state, { lane, reason }: { lane: LaneName; reason: string }) => laneOf(state, lane).peerDown(reason),
    held: (state, lane: LaneName) => fence().then(() => laneOf(state, lane).held()),
  },
  terminate(state) {
    state.lanes.forEach((lane) => lane.close());
    state.memory.close();
  },
});

function laneOf(state: { node: string; lanes: Map<LaneName, Lane>; memory: SlabArena }, name: LaneName): Lane {
  const lane = state.lanes.get(name) ?? createLane(name, { node: state.node, arena: state.memory });
  state.lanes.set(name, lane);
  return lane;
}
