/**
 * Layouts: which ranks there are, which copy of a slot works on which microbatch, and who sends what to whom.
 *
 * LY-1: a slot is the stages that one process holds; a rank is one place of its layout (data, tensor, context), in this order, the last
 *       axis fastest. A slot of one rank gives it its name; else the name carries the index of every axis longer than one (`text-d1-t0`).
 * LY-2: microbatch m of M belongs to data copy floor(m * data / M): contiguous shares, so that each is a subtree of the gradient tree.
 * LY-3: between two slots the leader (tensor 0, context 0) of the copy that owns a microbatch sends it to all ranks of the copy that owns
 *       it on the other side, and gradients go back in the same way. It follows from the plan alone: every rank computes the same routes.
 */
import type { Plan, StageEdge } from "./plan.ts";

export const axes = ["data", "tensor", "context"] as const;
export type LayoutAxis = (typeof axes)[number];
export type Layout = Readonly<Record<LayoutAxis, number>>;

export const oneRank: Layout = { data: 1, tensor: 1, context: 1 };
export const sizeOf = ({ data, tensor, context }: Layout): number => data * tensor * context;
export const sameLayout = (a: Layout, b: Layout): boolean => axes.every((axis) => a[axis] === b[axis]);

export interface SlotPlan { name: string; stages: string[]; layout: Layout; /** Some stage of it has a backward. */ learns: boolean }

export interface RankPlace extends Layout {
  name: string;
  slot: string;
  stages: string[];
  layout: Layout;
}

/** What one rank sends another in a step, over one edge in one direction. */
export interface Route {
  from: string;
  to: string;
  carries: "activations" | "gradients";
  microbatches: number[];
  /** All of them together; undefined where a dimension has no known size. */
  bytes: number | undefined;
}

/** An edge between two slots, as it is carried by their ranks. */
export interface Bridge { edge: StageEdge; routes: Route[] }

export interface LayoutPlan {
  slots: SlotPlan[];
  ranks: RankPlace[];
  bridges: Bridge[];
}

/** LY-2. */
export const copyOf = (microbatch: number, microbatches: number, data: number): number => Math.floor((microbatch * data) / microbatches);

/** The microbatches of one copy, ascending. */
export function microbatchesOf(copy: number, microbatches: number, data: number): number[] {
  const share = microbatches / data;
  return Array.from({ length: share }, (_, i) => copy * share + i);
}

/** LY-1. */
export function ranksOf({ name, stages, layout }: SlotPlan): RankPlace[] {
  return Array.from({ length: sizeOf(layout) }, (_, index): RankPlace => {
    const context = index % layout.context, tensor = Math.floor(index / layout.context) % layout.tensor, data = Math.floor(index / (layout.context * layout.tensor));
    const at = { data, tensor, context }, suffix = axes.filter((axis) => layout[axis] > 1).map((axis) => `-${axis[0]}${at[axis]}`).join("");
    return { name: `${name}${suffix}`, slot: name, stages, layout, ...at };
  });
}

/** Ranks and bridges of slots whose layouts are sound (`layout-rules.ts`). */
export function layOutRanks(plan: Plan, slots: readonly SlotPlan[]): LayoutPlan {
  const ranks = slots.flatMap(ranksOf);
  const slotOf = new Map(slots.flatMap((slot) => slot.stages.map((stage) => [stage, slot] as const)));
  const bridges = plan.edges.filter(({ from, to }) => slotOf.get(from) !== slotOf.get(to))
    .map((edge) => ({ edge, routes: routesOf(edge, slotOf.get(edge.from)!, slotOf.get(edge.to)!, { ranks, microbatches: plan.microbatches }) }));
  return { slots: [...slots], ranks, bridges };
}

function routesOf(edge: StageEdge, from: SlotPlan, to: SlotPlan, { ranks, microbatches }: { ranks: readonly RankPlace[]; microbatches: number }): Route[] {
  return [...routes(from, to, "activations", edge.bytes), ...(edge.gradient ? routes(to, from, "gradients", edge.gradientBytes) : [])];

  function routes(sender: SlotPlan, receiver: SlotPlan, carries: Route["carries"], bytes: number | undefined): Route[] {
    const found = new Map<string, Route>();
    for (let m = 0; m < microbatches; m++) {
      const leader = membersAt(ranks, sender, copyOf(m, microbatches, sender.layout.data))[0];
      for (const member of membersAt(ranks, receiver, copyOf(m, microbatches, receiver.layout.data))) {
        const key = `${leader.name}>${member.name}`, route = found.get(key) ?? { from: leader.name, to: member.name, carries, microbatches: [], bytes: bytes === undefined ? undefined : 0 };
        route.microbatches.push(m);
        if (bytes !== undefined) route.bytes! += bytes;
        found.set(key, route);
      }
    }
    return [...found.values()];
  }
}

/** The ranks of one data copy, its leader first. */
export const membersAt = (ranks: readonly RankPlace[], { name }: { name: string }, copy: number): RankPlace[] => ranks.filter((rank) => rank.slot === name && rank.data === copy);

/** The ranks that differ from this one along one axis only, itself among them, in order: a group of collectives. */
export const groupAlong = (axis: LayoutAxis, rank: RankPlace, ranks: readonly RankPlace[]): RankPlace[] =>
  ranks.filter((other) => other.slot === rank.slot && axes.every((each) => each === axis || other[each] === rank[each]));

/** `data 2, tensor 4`; empty for a single rank. */
export const formatLayout = (layout: Layout): string => axes.filter((axis) => layout[axis] > 1).map((axis) => `${axis} ${layout[axis]}`).join(", ");

/**
 * Whether copies that add their own microbatches and then each other's, both as pairwise trees, add in the order of one tree over all
 * microbatches. True for every power of two that divides them.
 */
export function addsAsOneTree(microbatches: number, data: number): boolean {
  const share = microbatches / data;
  const holds = (copies: number): boolean => {
    if (copies <= 1) return true;
    const left = Math.ceil(copies / 2);
    return Math.ceil((copies * share) / 2) === left * share && holds(left) && holds(copies - left);
  };
  return holds(data);
}
