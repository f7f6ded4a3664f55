/**
 * The messages of a schedule: what an entry of a rank waits for, and what it gives to others. Both follow from the edges of the plan.
 *
 * RL-1: F takes the activations of every edge that leads to its stage and gives those of every edge that leads away; B and I do the same
 *       with gradients, against the direction of the edges that have one; W takes and gives nothing.
 * RL-2: an entry takes all of its messages at once, when the last of them is there; then their credits go back.
 * RL-3: what stays within a rank is handed over, not sent: it needs no credit.
 * RL-4: a message is known by its step, microbatch, edge and direction, whoever sends it and in whatever order it comes.
 */
import type { ComputeKind, Placement } from "./schedule.ts";

export type Carries = "activations" | "gradients";

/** One direction of an edge, seen from one of its ends; `stage` is at the other. */
export interface Way { edge: number; carries: Carries; stage: number }
export interface Ways { takes: readonly Way[]; gives: readonly Way[] }

/** Of the entries of one stage, by kind. */
export function waysOf({ edges }: Pick<Placement, "edges">, stage: number): Readonly<Record<ComputeKind, Ways>> {
  const along = (end: "from" | "to", carries: Carries): Way[] => edges.flatMap((edge, i) =>
    edge[end] === stage && (carries === "activations" || edge.gradient) ? [{ edge: i, carries, stage: edge[end === "from" ? "to" : "from"] }] : []);
  const backward = { takes: along("from", "gradients"), gives: along("to", "gradients") };
  return { F: { takes: along("to", "activations"), gives: along("from", "activations") }, B: backward, I: backward, W: { takes: [], gives: [] } };
}

export interface MessageName { step: number; microbatch: number; edge: number; carries: Carries }

/** One direction of an edge, as a key. */
export const wayKey = ({ edge, carries }: Pick<MessageName, "edge" | "carries">): string => `${edge}/${carries}`;
/** RL-4. */
export const messageKey = (name: MessageName): string => `${name.step}/${name.microbatch}/${wayKey(name)}`;
