import { readFileSync, readlinkSync } from "node:fs";
import { RuntimeError, nearest } from "../errors.ts";
import type { Tensor } from "../tensor/index.ts";
import { inProcessLane } from "./lane-in-process.ts";
import { type SlabLimits, sharedMemoryLane } from "./lane-shared-memory.ts";
import { zeromqLane } from "./lane-zeromq.ts";
import type { TensorDescriptor } from "./tensor-frames.ts";

/** Best first. `zeromq` always works. */
export const laneNames = ["in-process", "shared-memory", "zeromq"] as const;
export type LaneName = (typeof laneNames)[number];

/** Names one leased slice of a sender's shared memory; only the sender can free it. */
export interface LeaseId {
  slot: number;
  generation: number;
}

/**
 * One end of a way for tensors between two processes. Descriptors travel in the message; the lane moves the bytes.
 * ```
 * const { descriptors, attachments } = await lane.send({ memory });                // sender; may dispose `memory` now
 * next.deliver.cast({ descriptors }, { attachments });
 * const { tensors, done } = await lane.receive(payload.descriptors, context.attachments);   // receiver
 * done.then((leases) => leases.length > 0 && previous.release.cast({ leases }));   // and there: lane.release(leases)
 * ```
 * LA-1: every bit, dtype and shape arrives as it was when `send` was called, also when the sender writes to the tensor later.
 * LA-2: tensors sent stay the sender's; tensors received are the caller's (or of the scope entered at the call).
 * LA-3: received tensors may be used at once: their bytes come in stream order. `done` says when the slices were read.
 * LA-4: a lease is freed once; a wrong or second release is ERR_LANE. What is never released stays leased until `close`.
 * LA-5: a failed `receive` leaves no tensor behind.
 */
export interface Lane {
  readonly name: LaneName;
  readonly stats: { messages: number; tensors: number; bytes: number };
  /** Resolves when the bytes are safely out. Rejects with ERR_LANE when there is no room, ERR_DEVICE after a device fault. */
  send(tensors: Record<string, Tensor>): Promise<{ descriptors: TensorDescriptor[]; attachments: Uint8Array[] }>;
  receive(descriptors: readonly TensorDescriptor[], attachments: readonly Uint8Array[]): Promise<{ tensors: Record<string, Tensor>; done: Promise<LeaseId[]> }>;
  release(leases: readonly LeaseId[]): void;
  close(): void;
}

export interface LaneOptions {
  /** This end's node: the `producer` of what it sends. */
  node: string;
  slabs?: Partial<SlabLimits>;
}

/** One end of a link's lane; both ends of a link use the same name. */
export function createLane(name: LaneName, options: LaneOptions): Lane {
  switch (name) {
    case "in-process": return inProcessLane(options);
    case "shared-memory": return sharedMemoryLane(options);
    case "zeromq": return zeromqLane(options);
  }
}

/** Where a process lives, as far as lanes must know. Processes exchange it when they meet. */
export interface Whereabouts {
  /** Boot id and process namespace: equal for two processes that see the same `/proc`. */
  host: string;
  pid: number;
  user: number;
}

export function whereabouts(): Whereabouts {
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  return { host: `${boot} ${readlinkSync("/proc/self/ns/pid")}`, pid: process.pid, user: process.getuid?.() ?? -1 };
}

/** The lanes that two processes can use, best first. */
export function laneOffers(here: Whereabouts, there: Whereabouts): LaneName[] {
  const sameHost = here.host === there.host && here.user === there.user;
  return laneNames.filter((name) => name === "zeromq" || (sameHost && (name === "shared-memory" || here.pid === there.pid)));
}

/** The best of the offers, or the wanted one. ERR_LANE when that is unknown or not offered. */
export function chooseLane(offers: readonly string[], wanted?: string): LaneName {
  if (wanted !== undefined && !(laneNames as readonly string[]).includes(wanted)) {
    const near = nearest(wanted, laneNames);
    throw new RuntimeError("ERR_LANE", `lane "${wanted}" is unknown${near ? `; did you mean "${near}"?` : "."} Lanes: ${laneNames.join(", ")}.`, { wanted });
  }
  const chosen = laneNames.find((name) => (wanted === undefined || name === wanted) && offers.includes(name));
  if (chosen) return chosen;
  throw new RuntimeError("ERR_LANE", `lane ${wanted ?? ""}: the two ends offer ${offers.join(", ") || "nothing in common"}. ` +
    "shared-memory needs one host and one user, in-process one process.", { wanted, offers });
}
