import { RuntimeError } from "../../errors.ts";
import { type Tensor, clone, enteredScope } from "../../tensor/index.ts";
import type { BareLane, LaneOptions } from "./lanes.ts";
import { type TensorDescriptor, describe, laneError, materialiseAll } from "./tensor-frames.ts";

/** Tensors on their way between two actors of this process, by ticket. A ticket is good once. */
const waiting = new Map<number, Tensor>();
let nextTicket = 1;

/** A copy on the device in stream order, handed over by ticket. A copy, because the sender may write to its tensor later (LA-1). */
export function inProcessLane({ node }: LaneOptions): BareLane {
  const stats = { messages: 0, tensors: 0, bytes: 0 };
  const mine = new Set<number>();
  let generation = 0;
  return {
    name: "in-process",
    stats,
    held: () => 0,
    async send(tensors) {
      const from = { generation: ++generation, producer: node, lane: "in-process" as const };
      const descriptors: TensorDescriptor[] = Object.entries(tensors).map(([name, tensor]) => {
        const descriptor = describe(name, tensor, from);
        const copy = clone(tensor);
        copy.scope?.keep(copy);
        const ticket = nextTicket++;
        waiting.set(ticket, copy);
        mine.add(ticket);
        stats.bytes += descriptor.byteLength;
        return { ...descriptor, ticket };
      });
      stats.messages++;
      stats.tensors += descriptors.length;
      return { descriptors, attachments: [] };
    },
    async receive(descriptors) {
      const tensors = materialiseAll("in-process", descriptors, (d) => {
        const tensor = waiting.get(d.ticket ?? 0);
        if (!tensor) throw laneError("in-process", d, `ticket ${d.ticket} is not waiting: it was received before, or its sender closed the lane`);
        waiting.delete(d.ticket!);
        enteredScope()?.adopt(tensor);
        return tensor;
      });
      return { tensors, done: Promise.resolve([]) };
    },
    release(leases) {
      if (leases.length > 0) throw new RuntimeError("ERR_LANE", `lane in-process: it leases nothing, ${leases.length} leases were released.`, { leases });
    },
    peerDown() {}, // it is this process
    close() {
      for (const ticket of mine) {
        waiting.get(ticket)?.dispose();
        waiting.delete(ticket);
      }
    },
  };
}
