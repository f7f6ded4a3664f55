/** Run as a child by `runtime/lanes.ts`: `lane-peer.ts <folder>`. The receiving end of the lanes that are measured; ends with the parent's link. */
import { defineActor } from "../../../runtime/actor/definition.ts";
import { createActorSystem } from "../../../runtime/actor/system.ts";
import { type Lane, type LaneName, createLane } from "../../../runtime/parallel/lanes/lanes.ts";
import type { LeaseId } from "../../../runtime/parallel/lanes/lanes.ts";
import type { TensorDescriptor } from "../../../runtime/parallel/lanes/tensor-frames.ts";
import { createZeromqTransport } from "../../../runtime/transport/zeromq.ts";

/** When the tensors were there by the clock that all processes of a host share (ns), and how long that took from the arrival of the message (ms). */
export interface Arrival { at: string; took: number; last: number; leases: LeaseId[] }

export const lanePeer = defineActor({
  name: "lane-peer",
  mailbox: { capacity: 64 },
  interleave: ["take"],
  init: () => new Map<LaneName, Lane>(),
  endpoints: {
    /** `look`: reads the last element of the first tensor, so that the parent can see that the bytes came. */
    async take(lanes, { descriptors, look }: { descriptors: TensorDescriptor[]; look: boolean }): Promise<Arrival> {
      const name = descriptors[0].lane, lane = lanes.get(name) ?? createLane(name, { node: "child" });
      lanes.set(name, lane);
      const begun = performance.now();
      const { tensors, done } = await lane.receive(descriptors, []);
      const [at, took] = [process.hrtime.bigint(), performance.now() - begun];
      const first = Object.values(tensors)[0];
      const last = look ? Number((await first.read())[first.size - 1]) : NaN;
      for (const tensor of Object.values(tensors)) tensor.dispose();
      return { at: `${at}`, took, last, leases: await done };
    },
  },
  terminate: (lanes) => lanes.forEach((lane) => lane.close()),
});

const folder = process.argv[2];
if (folder !== undefined && process.argv[1].endsWith("lane-peer.ts")) {
  const transport = createZeromqTransport({ node: "child", folder });
  const system = createActorSystem({ node: "child", transport });
  system.onPeerDown(() => void system.stop());
  await system.spawn(lanePeer, undefined);
  await transport.connect("parent");
}
