/**
 * Who of the data copies owns which tensor (ZeRO; Rajbhandari et al. 2020): the owner keeps what the others do without.
 *
 * ZS-1: whole tensors are owned, so that the arithmetic of a step is that of one process, tensor by tensor.
 * ZS-2: the largest first, each to the copy that owns least so far; equal ones by name, to the first copy. Every rank computes the same.
 */
import type { Parameter } from "../../nn/index.ts";
import { broadcastValues } from "./buckets.ts";
import type { Group } from "../groups/collectives.ts";

/** Numbers per tensor, by name -> the owning copy, by name. */
export function shareOut(sizes: Iterable<readonly [name: string, size: number]>, copies: number): Map<string, number> {
  const owners = new Map<string, number>(), owned = new Array<number>(copies).fill(0);
  for (const [name, size] of [...sizes].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1))) {
    const least = owned.indexOf(Math.min(...owned));
    owners.set(name, least);
    owned[least] += size;
  }
  return owners;
}

type Values = Iterable<readonly [name: string, parameter: Parameter]>;

/** What of a process's trained tensors is whose, by name. The group need not exist yet: who loads a checkpoint asks too. */
export class Shares {
  readonly #owners: ReadonlyMap<string, number>;

  /** `parameters`: all of the process; those that learn are shared out between `copies`, of which this rank is number `copy`. */
  constructor(parameters: Values, readonly copy: number, readonly copies: number, readonly zero: number) {
    this.#owners = shareOut([...parameters].filter(([, { trainable }]) => trainable).map(([name, { size }]) => [name, size]), copies);
  }

  /** Does this copy step and remember the parameter? */
  steps(name: string): boolean {
    return this.zero === 0 || this.owner(name) === this.copy;
  }

  /** Does this copy tell the sum of squares of its gradient? One does. */
  reports(name: string): boolean {
    return this.zero >= 2 ? this.owner(name) === this.copy : this.copy === 0;
  }

  /** Does this copy write it into a checkpoint? One does; what does not learn is copy 0's. */
  saves(name: string): boolean {
    return this.zero === 0 || !this.#owners.has(name) ? this.copy === 0 : this.owner(name) === this.copy;
  }

  /** Is its value away between uses (ZeRO 3)? */
  away(name: string): boolean {
    return this.zero >= 3 && this.#owners.has(name) && this.owner(name) !== this.copy;
  }

  trained(name: string): boolean {
    return this.#owners.has(name);
  }

  owner(name: string): number {
    return this.#owners.get(name)!;
  }
}

/**
 * Values that are everywhere only while a component runs (ZeRO 3).
 *
 * ZS-3: between uses the memory of a value that another copy owns is given back; its handle stays, so that a tape knows it again.
 * ZS-4: all copies take and leave the same components in the same order. One that is taken twice is left twice before it goes.
 */
export class ShardedValues {
  readonly #users = new Map<string, number>();

  /** The values are there, the same on every copy; those of others go now. */
  constructor(private readonly group: Pick<Group, "rank" | "size" | "broadcast">, parameters: Values, private readonly shares: Shares) {
    for (const [name, { value }] of parameters) if (shares.away(name)) value.vacate();
  }

  /** Of a component that is about to run: its values, from their owners. */
  take(parameters: Values): void {
    const wanted = [...parameters].filter(([name]) => this.shares.trained(name) && this.#count(name, 1) === 1);
    for (const [name, { value }] of wanted) if (this.shares.away(name)) value.refill();
    broadcastValues(this.group, wanted, (name) => this.shares.owner(name));
  }

  /** It has run. */
  leave(parameters: Values): void {
    for (const [name, { value }] of parameters) if (this.shares.trained(name) && this.#count(name, -1) === 0 && this.shares.away(name)) value.vacate();
  }

  #count(name: string, by: number): number {
    const users = (this.#users.get(name) ?? 0) + by;
    this.#users.set(name, users);
    return users;
  }
}
