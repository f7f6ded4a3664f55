import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { RuntimeError } from "../../errors.ts";
import { type Tensor, fence, full } from "../../tensor/index.ts";
import { type Whereabouts, laneOffers, whereabouts } from "./choice.ts";
import { type Lane, type LaneName, type LeaseId, createLane } from "./lanes.ts";
import type { TensorDescriptor } from "./tensor-frames.ts";

/** What the taking end asks of the giving one, and what it hears. Plain data and attachments: any message can carry them. */
export type FabricAsk = { ask: "meet" } | { ask: "send"; lane: LaneName; floats: number } | { ask: "release"; lane: LaneName; leases: LeaseId[] };
export interface FabricReply { whereabouts?: Whereabouts; descriptors?: TensorDescriptor[]; attachments?: Uint8Array[] }
export type FabricPeer = (ask: FabricAsk) => Promise<FabricReply>;

/** A lane between this process and the giving one. `counted`: what the network devices of this host say that they received meanwhile. */
export interface FabricReading { lane: LaneName; bytes: number; seconds: number; transports: string[]; counted: { device: string; bytes: number }[] }

/** The giving end: answers what `measureFabric` asks. */
export function fabricSource(node: string): { answer: FabricPeer; close(): void } {
  const lanes = new Map<LaneName, Lane>();
  let tensor: Tensor | undefined;
  return {
    async answer(asked) {
      if (asked.ask === "meet") return { whereabouts: whereabouts() };
      const lane = lanes.get(asked.lane) ?? createLane(asked.lane, { node });
      lanes.set(asked.lane, lane);
      if (asked.ask === "release") return lane.release(asked.leases), {};
      if (tensor?.size !== asked.floats) {
        tensor?.dispose();
        tensor = full([asked.floats], 7);
      }
      return lane.send({ x: tensor });
    },
    close() {
      tensor?.dispose();
      lanes.forEach((lane) => lane.close());
    },
  };
}

/** Fetches a tensor of so many bytes some times over every lane that two processes can use, and says what carried it. ERR_LANE when bytes changed. */
export async function measureFabric(peer: FabricPeer, { bytes, rounds }: { bytes: number; rounds: number }): Promise<{ notes: Whereabouts[]; readings: FabricReading[] }> {
  const here = whereabouts(), { whereabouts: there } = await peer({ ask: "meet" });
  const readings: FabricReading[] = [];
  for (const name of laneOffers(here, there!)) {
    const lane = createLane(name, { node: "asking" });
    try {
      readings.push(await measureLane(lane, peer, { floats: bytes / 4, rounds }));
    } finally {
      lane.close();
    }
  }
  return { notes: [here, there!], readings };
}

/** Time counts until the tensor is there: over `ucx` from the arrival of its descriptor on, over the others, whose bytes move before, from the question on. */
async function measureLane(lane: Lane, peer: FabricPeer, { floats, rounds }: { floats: number; rounds: number }): Promise<FabricReading> {
  let ms = 0, counted = devices();
  for (let round = -1; round < rounds; round++) {
    if (round === 0) [ms, counted] = [0, devices()]; // the first one opens the way
    const asked = performance.now();
    const { descriptors, attachments } = await peer({ ask: "send", lane: lane.name, floats });
    const begun = lane.name === "ucx" ? performance.now() : asked;
    const { tensors: { x }, done } = await lane.receive(descriptors!, attachments ?? []);
    await fence();
    ms += performance.now() - begun;
    const last = await x.read();
    x.dispose();
    if (last[floats - 1] !== 7 || last[0] !== 7) throw new RuntimeError("ERR_LANE", `lane ${lane.name}: the bytes arrived changed: ${last[0]} and ${last[floats - 1]}, expected 7.`, { lane: lane.name });
    await peer({ ask: "release", lane: lane.name, leases: await done });
  }
  const after = devices();
  return {
    lane: lane.name, bytes: 4 * floats * rounds, seconds: ms / 1000, transports: lane.transports?.() ?? [],
    counted: [...after].map(([device, bytes]) => ({ device, bytes: bytes - (counted.get(device) ?? 0) })).filter(({ bytes }) => bytes > 0),
  };
}

/** Bytes received since the start of the host: network interfaces, and InfiniBand ports, whose traffic no interface sees. */
function devices(): Map<string, number> {
  const found = new Map<string, number>();
  for (const line of readFileSync("/proc/net/dev", "utf8").split("\n").slice(2)) {
    const [name, received] = line.trim().split(/:?\s+/);
    if (name) found.set(name, Number(received));
  }
  for (const card of list("/sys/class/infiniband")) {
    for (const port of list(join("/sys/class/infiniband", card, "ports"))) {
      const counter = join("/sys/class/infiniband", card, "ports", port, "counters/port_rcv_data"); // in words of four bytes
      found.set(`${card}:${port}`, 4 * Number(readFileSync(counter, "utf8")));
    }
  }
  return found;
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
