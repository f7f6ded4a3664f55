import { crc32 } from "node:zlib";
import type { BareLane } from "./lanes.ts";
import { bytesOf, laneError } from "./tensor-frames.ts";

/** LA-10: CRC-32 over the bytes that travel, at both ends. Costs a copy into JavaScript and a pass on the event loop at each. */
export function checkedLane(lane: BareLane): BareLane {
  return {
    ...lane,
    async send(tensors) {
      const sums = Promise.all(Object.values(tensors).map(async (tensor) => crc32(await bytesOf(tensor)))); // read before anybody can write to them
      const [{ descriptors, attachments }, checksums] = await Promise.all([lane.send(tensors), sums]);
      return { descriptors: descriptors.map((d, i) => ({ ...d, checksum: checksums[i] })), attachments };
    },
    async receive(descriptors, attachments) {
      const { tensors, done } = await lane.receive(descriptors, attachments);
      try {
        for (const d of descriptors) {
          if (d.checksum === undefined) throw laneError(lane.name, d, "it comes without a checksum, which is asked for here. Set OCTAVO_LANE_CHECKSUM at both ends");
          const found = crc32(await bytesOf(tensors[d.name]));
          if (found !== d.checksum) throw laneError(lane.name, d, `its checksum is ${found}, its producer counted ${d.checksum}: the bytes changed on their way`);
        }
        return { tensors, done };
      } catch (error) {
        for (const tensor of Object.values(tensors)) tensor.dispose();
        throw error;
      }
    },
  };
}
