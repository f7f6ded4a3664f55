import type { Tensor } from "../tensor/tensor.ts";
import type { TensorDescriptor } from "./tensor-frames.ts";

export const laneNames = ["in-process", "shared-memory", "zeromq"] as const;
export type LaneName = (typeof laneNames)[number];

/** Names one slice of a sender's shared memory; only the sender can free it. */
export interface LeaseId {
  slot: number;
  generation: number;
}

/** One end of a way for tensors between two processes. Descriptors travel in the message; the lane moves the bytes. */
export interface Lane {
  readonly name: LaneName;
  /** Resolves when the bytes are safely out; the tensors may then be disposed. They stay owned by the caller. */
  send(tensors: Record<string, Tensor>): Promise<{ descriptors: TensorDescriptor[]; attachments: Uint8Array[] }>;
  /** New tensors owned by the caller. `done` resolves with the leases that the sender may free once the bytes were read. */
  receive(descriptors: readonly TensorDescriptor[], attachments: readonly Uint8Array[]): Promise<{ tensors: Record<string, Tensor>; done: Promise<LeaseId[]> }>;
  /** On the sender: the receiver's `done` has named these leases. */
  release(leases: readonly LeaseId[]): void;
  close(): void;
}

export declare function chooseLane(offers: readonly string[], wanted?: string): LaneName;
