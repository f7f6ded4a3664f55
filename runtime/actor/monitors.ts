import type { DownNotice } from "./system.ts";

type Down = (notice: DownNotice) => void;

/** Who wants to know when which address is gone. Each interest ends with its first notice, or when it is withdrawn. */
export class Monitors {
  #interests = new Map<string, Set<Down>>();

  /** `first`: nobody watched this address before. `remove` tells whether it took the last interest. */
  add(address: string, down: Down): { first: boolean; remove(): boolean } {
    const present = this.#interests.get(address);
    const interests = present ?? new Set();
    if (!present) this.#interests.set(address, interests);
    const once: Down = (notice) => down(notice);
    interests.add(once);
    return {
      first: !present,
      remove: () => interests.delete(once) && interests.size === 0 && this.#interests.delete(address),
    };
  }

  notify(notice: DownNotice): void {
    const interests = this.#interests.get(notice.address);
    this.#interests.delete(notice.address);
    for (const down of interests ?? []) {
      interests!.delete(down);
      down(notice);
    }
  }

  addressesOf(node: string): string[] {
    return [...this.#interests.keys()].filter((address) => address.startsWith(`${node}/`));
  }
}
