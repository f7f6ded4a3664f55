import { parseAddress } from "../transport/address.ts";
import { toFailure } from "../errors.ts";
import type { DownNotice } from "./system.ts";

type Down = (notice: DownNotice) => void;

/** What monitors need of their system. */
export interface MonitorHost {
  node: string;
  /** The notice for an address that is already known to be gone. */
  fate(address: string): DownNotice | undefined;
  /** Sends a signal to the system of an address of another node; throws when it cannot arrive. */
  tell(to: string, signal: "monitor" | "demonitor" | "down", payload: unknown): void;
}

/** Who wants to know when which address is gone, here and on other nodes (MON-1, MON-2 in system.ts). */
export class Monitors {
  #interests = new Map<string, Set<Down>>();
  /** Other nodes that watch our actors: `node address` -> withdraw. */
  #watching = new Map<string, () => void>();
  constructor(private readonly host: MonitorHost) {}

  monitor(address: string, down: Down): () => void {
    const { node } = parseAddress(address);
    const interest: Down = (notice) => queueMicrotask(() => down(notice));
    const fate = this.host.fate(address);
    if (fate) {
      interest(fate);
      return () => {};
    }
    const interests = this.#interests.get(address) ?? new Set();
    this.#interests.set(address, interests.add(interest));
    if (node !== this.host.node && interests.size === 1) {
      try {
        this.host.tell(address, "monitor", null);
      } catch (error) {
        this.notify({ address, reason: "unreachable", message: toFailure(error).message });
      }
    }
    return () => this.#withdraw(address, interest);
  }

  /** Each interest ends with its notice. */
  notify(notice: DownNotice): void {
    const interests = this.#interests.get(notice.address) ?? [];
    this.#interests.delete(notice.address);
    for (const down of interests) down(notice);
  }

  nodeDown(node: string, noticeOf: (address: string) => DownNotice): void {
    for (const address of [...this.#interests.keys()].filter((a) => a.startsWith(`${node}/`))) {
      this.notify(noticeOf(address));
    }
    for (const key of [...this.#watching.keys()].filter((k) => k.startsWith(`${node} `))) this.#forget(key);
  }

  /** A node asks to be told about one of our actors. */
  watchedFrom(node: string, address: string): void {
    const key = `${node} ${address}`;
    this.#forget(key);
    this.#watching.set(key, this.monitor(address, (notice) => {
      this.#watching.delete(key);
      this.#tellIfThere(`${node}/-`, "down", notice);
    }));
  }

  unwatchedFrom(node: string, address: string): void {
    this.#forget(`${node} ${address}`);
  }

  #withdraw(address: string, interest: Down): void {
    const interests = this.#interests.get(address);
    if (!interests?.delete(interest) || interests.size > 0) return;
    this.#interests.delete(address);
    if (parseAddress(address).node !== this.host.node) this.#tellIfThere(address, "demonitor", null);
  }

  #forget(key: string): void {
    this.#watching.get(key)?.();
    this.#watching.delete(key);
  }

  #tellIfThere(to: string, signal: "demonitor" | "down", payload: unknown): void {
    try {
      this.host.tell(to, signal, payload);
    } catch (error) {
      if (!["ERR_DEAD", "ERR_UNREACHABLE"].includes(toFailure(error).code)) throw error; // a node that is gone wants no news
    }
  }
}
