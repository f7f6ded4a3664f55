/**
 * Symbolic dimensions become one set of equations over the whole graph: one name is one number everywhere.
 *
 * U-1: two names that meet are one dimension from then on; a name that meets a number is that number.
 * U-2: the edge that decided a number is remembered, so that a conflict elsewhere can name it.
 */
import type { Dim } from "../../plugin/ports.ts";

export interface Conflict { left: number; right: number; /** Where a name got its number, when it is not written at either end. */ because: string[] }

export class Dimensions {
  readonly #parent = new Map<string, string>();
  readonly #bound = new Map<string, { value: number; by: string }>();

  /** Makes both equal, or says why they cannot be. `by` names the edge. */
  unify(left: Dim, right: Dim, by: string): Conflict | undefined {
    const [a, b] = [this.value(left), this.value(right)];
    if (a !== undefined && b !== undefined && a !== b) {
      return { left: a, right: b, because: [left, right].filter((d) => typeof d === "string").map((d) => `${d} is ${this.value(d)} through ${this.#bound.get(this.#root(d as string))!.by}`) };
    }
    if (typeof left === "string" && typeof right === "string") this.#join(left, right);
    else if (typeof left === "string") this.#bind(left, right as number, by);
    else if (typeof right === "string") this.#bind(right, left, by);
    return undefined;
  }

  /** Could both be equal? Decides nothing. */
  fits(left: Dim, right: Dim): boolean {
    const [a, b] = [this.value(left), this.value(right)];
    return a === undefined || b === undefined || a === b;
  }

  value(dim: Dim): number | undefined {
    return typeof dim === "number" ? dim : this.#bound.get(this.#root(dim))?.value;
  }

  /** Numbers where they are known, else the names. */
  resolve(dims: readonly Dim[]): Dim[] {
    return dims.map((dim) => this.value(dim) ?? dim);
  }

  /** The value of a dimension in a table of sizes by name; any name of the same dimension counts. */
  lookup(dim: Dim, sizes: Readonly<Record<string, number>>): number | undefined {
    const value = this.value(dim);
    if (value !== undefined || typeof dim === "number") return value;
    if (Object.hasOwn(sizes, dim)) return sizes[dim];
    const root = this.#root(dim);
    return Object.entries(sizes).find(([name]) => this.#root(name) === root)?.[1];
  }

  /** Every name that has a number. */
  known(): Record<string, number> {
    return Object.fromEntries([...this.#parent.keys()].flatMap((name) => {
      const value = this.value(name);
      return value === undefined ? [] : [[name, value]];
    }));
  }

  #root(name: string): string {
    let here = name;
    for (let up = this.#parent.get(here); up !== undefined && up !== here; up = this.#parent.get(here)) here = up;
    return here;
  }

  #bind(name: string, value: number, by: string): void {
    if (!this.#parent.has(name)) this.#parent.set(name, name);
    const root = this.#root(name);
    if (!this.#bound.has(root)) this.#bound.set(root, { value, by });
  }

  #join(a: string, b: string): void {
    for (const name of [a, b]) if (!this.#parent.has(name)) this.#parent.set(name, name);
    const [keep, drop] = [this.#root(a), this.#root(b)];
    if (keep === drop) return;
    this.#parent.set(drop, keep);
    const bound = this.#bound.get(drop);
    if (bound && !this.#bound.has(keep)) this.#bound.set(keep, bound);
    this.#bound.delete(drop);
  }
}
