import { type ActorContext, defineActor, withAttachments } from "../../../runtime/actor/definition.ts";
import { type Lane, type LaneName, type LeaseId, createLane } from "../../../runtime/parallel/lanes.ts";
import type { TensorDescriptor } from "../../../runtime/parallel/tensor-frames.ts";
import { scale } from "../../../runtime/ops/index.ts";
import { memory } from "../../../runtime/tensor/index.ts";

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
