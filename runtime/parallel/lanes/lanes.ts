import type { Tensor } from "../../tensor/index.ts";
import { inProcessLane } from "./in-process.ts";
import { checkedLane } from "./checked.ts";
import { keepingLane } from "./keeping.ts";
import { roundingLane } from "./rounding.ts";
import { sharedMemoryLane } from "./shared-memory.ts";
import { ucxLane } from "./ucx.ts";
import { zeromqLane } from "./zeromq.ts";
import type { SlabArena, SlabLimits } from "./slab-arena.ts";
import type { TensorDescriptor } from "./tensor-frames.ts";

/** Best first. `zeromq` always works. */
export const laneNames = ["in-process", "shared-memory", "ucx", "zeromq"] as const;
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
 * LA-3: received tensors may be used at once. `done` resolves when nothing of the message's slices is needed any more: where a tensor
 *       lives in the sender's slice, when it was freed. So never wait for `done` before the tensors are freed.
 * LA-4: a lease is freed once; a wrong or second release is ERR_LANE. What is never released stays leased until `close`.
 * LA-5: a failed `receive` leaves no tensor behind.
 * LA-6: a tensor born in the arena (`SlabArena.allocate`) is handed over as it is, without a copy: from then on both sides may
 *       only read it (writing in place throws ERR_HANDLE), and its slice is free when both have freed it.
 * LA-7: `peerDown` takes back what a dead peer held, ends what is under way with ERR_LANE, and refuses further sends.
 * LA-8: what `versions` names travels once per version: as long as it is the same, later messages say so, and the receiver gets a view
 *       of what it keeps, to be read only. The bits are the same. `forget` ends the keeping.
 * LA-9: what `compress` names travels as bf16 and arrives as f32, rounded to nearest even; a tensor that is not f32 travels as it is.
 * LA-10: with checksums on, bytes that arrive changed are ERR_LANE naming tensor, lane and producer.
 */
export interface Lane {
  readonly name: LaneName;
  readonly stats: { messages: number; tensors: number; bytes: number };
  /** Slices of shared memory that this end has in use: lent, or filled with what arrived. */
  held(): number;
  /** Of a lane whose library chooses: what carries what is received, in its words ("sysv/memory", "tcp/eth0", "rc_mlx5/mlx5_0:1"). After the first message. */
  transports?(): string[];
  /** Resolves when the bytes are safely out. Rejects with ERR_LANE when there is no room, ERR_DEVICE after a device fault. */
  send(tensors: Record<string, Tensor>, how?: SendOptions): Promise<{ descriptors: TensorDescriptor[]; attachments: Uint8Array[] }>;
  receive(descriptors: readonly TensorDescriptor[], attachments: readonly Uint8Array[]): Promise<{ tensors: Record<string, Tensor>; done: Promise<LeaseId[]> }>;
  release(leases: readonly LeaseId[]): void;
  /** The receiver keeps nothing for later messages any more, the sender counts on nothing. */
  forget(): void;
  /** The peer's process is dead, not merely out of reach: a peer that still reads would read what comes next. */
  peerDown(reason: string): void;
  close(): void;
}

export interface SendOptions {
  /** Names of tensors -> a word that changes whenever their bits do. */
  versions?: Readonly<Record<string, string>>;
  /** Names of tensors to be rounded to bf16 for the way. */
  compress?: readonly string[];
}

/** A lane as its transport makes it; what all lanes can is put around it. */
export type BareLane = Omit<Lane, "send" | "forget"> & { send(tensors: Record<string, Tensor>): ReturnType<Lane["send"]> };

export interface LaneOptions {
  /** This end's node: the `producer` of what it sends. */
  node: string;
  /** Shared memory of this process, for all its lanes; the caller closes it after them. Without it a lane has one of its own. */
  arena?: SlabArena;
  slabs?: Partial<SlabLimits>;
  /** Sums over all bytes, made and compared on the event loop: for finding faults. Both ends alike. Default: OCTAVO_LANE_CHECKSUM=1. */
  checksums?: boolean;
}

/** One end of a link's lane; both ends of a link use the same name. */
export function createLane(name: LaneName, options: LaneOptions): Lane {
  const lane = bareLane(name, options);
  return keepingLane(roundingLane(options.checksums ?? process.env.OCTAVO_LANE_CHECKSUM === "1" ? checkedLane(lane) : lane));
}

function bareLane(name: LaneName, options: LaneOptions): BareLane {
  switch (name) {
    case "in-process": return inProcessLane(options);
    case "shared-memory": return sharedMemoryLane(options);
    case "ucx": return ucxLane(options);
    case "zeromq": return zeromqLane(options);
  }
}
