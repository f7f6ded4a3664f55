import { withoutRecording } from "../../autograd/index.ts";
import { cast } from "../../ops/index.ts";
import { type Tensor, enteredScope, owned } from "../../tensor/index.ts";
import type { BareLane, SendOptions } from "./lanes.ts";
import { laneError } from "./tensor-frames.ts";

export type RoundingLane = Omit<BareLane, "send"> & { send(tensors: Record<string, Tensor>, how?: Pick<SendOptions, "compress">): ReturnType<BareLane["send"]> };

/** LA-9: f32 tensors that are named travel as bf16, half the bytes. */
export function roundingLane(lane: BareLane): RoundingLane {
  return {
    ...lane,
    async send(tensors, how = {}) {
      const rounded = new Map<string, Tensor>();
      for (const name of how.compress ?? []) {
        if (tensors[name]?.dtype === "f32") rounded.set(name, withoutRecording(() => owned(cast(tensors[name], "bf16"))));
      }
      try {
        const { descriptors, attachments } = await lane.send({ ...tensors, ...Object.fromEntries(rounded) });
        return { descriptors: descriptors.map((d) => (rounded.has(d.name) ? { ...d, rounded: "f32" as const } : d)), attachments };
      } finally {
        for (const tensor of rounded.values()) tensor.dispose();
      }
    },
    async receive(descriptors, attachments) {
      const scope = enteredScope();
      for (const d of descriptors) if (d.rounded !== undefined && (d.rounded !== "f32" || d.dtype !== "bf16")) throw laneError(lane.name, d, `it is said to be ${d.rounded} that travels as ${d.dtype}`);
      const { tensors, done } = await lane.receive(descriptors, attachments);
      for (const { name, rounded } of descriptors) {
        if (rounded === undefined) continue;
        const narrow = tensors[name];
        tensors[name] = withoutRecording(() => owned(cast(narrow, "f32")));
        scope?.adopt(tensors[name]);
        narrow.dispose();
      }
      return { tensors, done };
    },
  };
}
