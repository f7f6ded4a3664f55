import { native } from "../../native.ts";
import type { BareLane, LaneOptions } from "./lanes.ts";
import { type TensorDescriptor, bytesOf, describe, laneError, materialiseAll, receiveInto } from "./tensor-frames.ts";

/** The bytes travel as attachments of the message itself: works wherever messages do. One copy out, one copy in. */
export function zeromqLane({ node }: LaneOptions): BareLane {
  const stats = { messages: 0, tensors: 0, bytes: 0 };
  let generation = 0;
  return {
    name: "zeromq",
    stats,
    held: () => 0,
    async send(tensors) {
      const from = { generation: ++generation, producer: node, lane: "zeromq" as const };
      const entries = Object.entries(tensors);
      const descriptors: TensorDescriptor[] = entries.map(([name, tensor], attachment) => ({ ...describe(name, tensor, from), attachment }));
      const attachments = await Promise.all(entries.map(([, tensor]) => bytesOf(tensor)));
      stats.messages++;
      stats.tensors += entries.length;
      stats.bytes += attachments.reduce((sum, a) => sum + a.byteLength, 0);
      return { descriptors, attachments };
    },
    async receive(descriptors, attachments) {
      const tensors = materialiseAll("zeromq", descriptors, (d) => {
        const bytes = attachments[d.attachment ?? -1];
        if (bytes?.byteLength !== d.byteLength) throw laneError("zeromq", d, `attachment ${d.attachment} has ${bytes?.byteLength ?? "no"} bytes, expected ${d.byteLength}`);
        return receiveInto(d, (handle) => native().upload(handle, bytes));
      });
      return { tensors, done: Promise.resolve([]) };
    },
    release() {},
    peerDown() {},
    close() {},
  };
}
