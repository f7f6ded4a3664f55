import { RuntimeError } from "../../errors.ts";
import type { LaneName, LeaseId } from "./lanes.ts";
import type { Slice } from "./slab-arena.ts";

/** What one end of a link has lent to the other: slices of its arenas, until the peer releases them or is dead. */
export class Leases {
  readonly #held = new Map<number, { generation: number; slice: Slice }>();
  #next = 1;

  constructor(private readonly lane: LaneName, private readonly node: string) {}

  get size(): number {
    return this.#held.size;
  }

  /** The lease takes the place of one user of the slice. */
  lend(slice: Slice, generation: number): LeaseId {
    const slot = this.#next++;
    this.#held.set(slot, { generation, slice });
    return { slot, generation };
  }

  release(ids: readonly LeaseId[]): void {
    for (const { slot, generation } of ids) {
      const found = this.#held.get(slot);
      if (found?.generation !== generation) {
        throw new RuntimeError("ERR_LANE", `lane ${this.lane} of ${this.node}: lease ${slot} of generation ${generation} is not held; it was released before, or never made here.`,
          { node: this.node, slot, generation });
      }
      this.#held.delete(slot);
      found.slice.arena.give(found.slice);
    }
  }

  /** The peer is dead: nobody reads any more. */
  reclaim(): void {
    for (const { slice } of this.#held.values()) slice.arena.give(slice);
    this.#held.clear();
  }
}
