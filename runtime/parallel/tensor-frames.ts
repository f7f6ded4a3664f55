import type { DType } from "../tensor/tensor.ts";
import type { LaneName, LeaseId } from "./lanes.ts";

/** A tensor as a message sees it: what it is and where its bytes are; never the bytes. */
export interface TensorDescriptor {
  name: string;
  dtype: DType;
  shape: number[];
  byteLength: number;
  /** Counts the sends of one lane end, so that a descriptor used twice is noticed. */
  generation: number;
  /** The node that made it. */
  producer: string;
  lane: LaneName;
  /** zeromq: index of the attachment. */
  attachment?: number;
  /** shared-memory: a slice of the sender's slab, which `/proc/<pid>/fd/<fd>` opens. */
  slice?: { pid: number; fd: number; slabBytes: number; offset: number; lease: LeaseId };
  /** in-process: the ticket under which the tensor waits. */
  ticket?: number;
}
