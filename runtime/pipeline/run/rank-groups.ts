/**
 * The groups of a rank: along every axis of its layout that is longer than one, itself and the ranks that differ from it there only.
 *
 * GR-1: who belongs to which group, and in which order, follows from the layout: every rank and the driver compute the same.
 * GR-2: joining takes two messages: every rank offers, then gets the offers of all members. A group that fails tells `failed`.
 */
import type { RuntimeError } from "../../errors.ts";
import { type Group, type GroupOffer, type GroupSeat, joinGroup, offerGroup } from "../../parallel/index.ts";
import { type LayoutAxis, type RankPlace, axes, groupAlong } from "../plan/layout.ts";

export interface GroupPlan {
  axis: LayoutAxis;
  /** What messages call it: `data of text`, with the place on the other axes where there are several such groups: `data of text-t1`. */
  name: string;
  members: string[];
  /** Of this rank in it. */
  rank: number;
}

/** GR-1. */
export function groupsOf(rank: RankPlace, ranks: readonly RankPlace[]): GroupPlan[] {
  return axes.filter((axis) => rank.layout[axis] > 1).map((axis) => {
    const elsewhere = axes.filter((other) => other !== axis && rank.layout[other] > 1).map((other) => `-${other[0]}${rank[other]}`).join("");
    return { axis, name: `${axis} of ${rank.slot}${elsewhere}`, members: groupAlong(axis, rank, ranks).map(({ name }) => name), rank: rank[axis] };
  });
}

/** Offers by the name of the group; from the driver: of all members, in their order. */
export type Offers = Record<string, GroupOffer>;
export type AllOffers = Record<string, GroupOffer[]>;

/** What the driver carries back: `offered`, by rank, becomes the offers of every group. */
export function collectOffers(ranks: readonly RankPlace[], offered: ReadonlyMap<string, Offers>): AllOffers {
  return Object.fromEntries(ranks.flatMap((rank) => groupsOf(rank, ranks)).map(({ name, members }) => [name, members.map((member) => offered.get(member)![name])]));
}

export class RankGroups {
  readonly #plans: readonly GroupPlan[];
  readonly #seats: ReadonlyMap<string, GroupSeat>;
  readonly #joined = new Map<LayoutAxis, Group>();

  constructor(rank: RankPlace, ranks: readonly RankPlace[]) {
    this.#plans = groupsOf(rank, ranks);
    this.#seats = new Map(this.#plans.map(({ name, rank: at, members }) => [name, offerGroup({ name, rank: at, size: members.length, members })]));
  }

  offers(): Offers {
    return Object.fromEntries([...this.#seats].map(([name, { offer }]) => [name, offer]));
  }

  /** `failed` hears of the first group that fails; `around` enqueues the calls of a group: "data of text". */
  async join(offers: AllOffers, failed: (error: RuntimeError) => void, around: (group: string, enqueue: () => void) => void): Promise<void> {
    await Promise.all(this.#plans.map(async ({ axis, name }) => {
      const group = await joinGroup(this.#seats.get(name)!, offers[name], { around: (enqueue) => around(name, enqueue) });
      this.#joined.set(axis, group);
      void group.failed.then(failed);
    }));
  }

  /** Undefined where the axis has one place. */
  along(axis: LayoutAxis): Group | undefined {
    return this.#joined.get(axis);
  }

  close(): void {
    for (const group of this.#joined.values()) group.close();
  }
}
