import { RuntimeError } from "../errors.ts";
import { bytesPerElement } from "./dtype.ts";
import type { Tensor } from "./tensor.ts";

/**
 * A scope owns the tensors made while it is entered and frees them when it closes.
 *
 * S-1: entering is synchronous. A scope is never ambient across an `await`.
 * S-2: a tensor has at most one owner; `keep` hands it to the caller, `adopt` takes it over.
 * S-3: after `close` nothing that the scope owned is alive, and nothing can be made in it.
 * S-4: `memory` counts every storage that one of its tensors shows, once; a storage shown by tensors of two scopes counts in both.
 */
export class Scope {
  readonly #owned = new Set<Tensor>();
  /** By the tensor that made the storage: how many of the owned tensors show it. */
  readonly #shown = new Map<Tensor, number>();
  #bytes = 0;
  #peak = 0;
  #closed = false;

  constructor(readonly name: string) {}

  get closed(): boolean {
    return this.#closed;
  }

  /** Number of live tensors that this scope owns. */
  get tensors(): number {
    return this.#owned.size;
  }

  /** Bytes of storage that its tensors hold now, and the most they ever held. */
  memory(): { bytesInUse: number; bytesPeak: number; tensors: number } {
    return { bytesInUse: this.#bytes, bytesPeak: this.#peak, tensors: this.#owned.size };
  }

  /** Runs `work` with this scope as the owner of what it makes. Throws when `work` returns a promise. */
  enter<T>(work: () => T): T {
    this.#mustBeOpen("entered");
    const outer = entered;
    entered = this;
    try {
      return refusePromise(work(), `scope ${this.name}`);
    } finally {
      entered = outer;
    }
  }

  /** The tensor leaves this scope: the caller disposes it. A tensor of another owner is refused. */
  keep(tensor: Tensor): Tensor {
    if (!this.#owned.has(tensor)) {
      throw new RuntimeError("ERR_HANDLE", `scope ${this.name}: cannot keep a tensor that it does not own`
        + ` (its owner is ${tensor.scope ? `scope ${tensor.scope.name}` : tensor.disposed ? "nobody, it was freed" : "the caller"}).`
        + " Keep it from its own scope, before that closes.", { scope: this.name, shape: tensor.shape });
    }
    this.forget(tensor);
    return tensor;
  }

  /** This scope becomes the owner, whoever was before. */
  adopt(tensor: Tensor): Tensor {
    this.#mustBeOpen("given a tensor");
    if (tensor.disposed) throw new RuntimeError("ERR_HANDLE", `scope ${this.name}: cannot adopt a freed tensor.`, { scope: this.name });
    tensor.scope?.forget(tensor);
    this.#owned.add(tensor);
    tensor.scope = this;
    open.add(this);
    const shown = this.#shown.get(tensor.root) ?? 0;
    this.#shown.set(tensor.root, shown + 1);
    if (shown === 0) this.#bytes += storageBytes(tensor);
    if (this.#bytes > this.#peak) this.#peak = this.#bytes;
    return tensor;
  }

  /** Called by `Tensor.dispose`: the tensor is gone, the scope need not free it. */
  forget(tensor: Tensor): void {
    this.#owned.delete(tensor);
    tensor.scope = undefined;
    const shown = this.#shown.get(tensor.root)! - 1;
    if (shown > 0) {
      this.#shown.set(tensor.root, shown);
    } else {
      this.#shown.delete(tensor.root);
      this.#bytes -= storageBytes(tensor);
    }
    if (this.#owned.size === 0) open.delete(this);
  }

  /** Frees everything owned. Closing twice is allowed. */
  close(): void {
    this.#closed = true;
    for (const tensor of this.#owned) tensor.dispose();
  }

  #mustBeOpen(verb: string): void {
    if (!this.#closed) return;
    throw new RuntimeError("ERR_HANDLE", `scope ${this.name} was ${verb} after it was closed. Make a scope of its own for each piece of work.`,
      { scope: this.name });
  }
}

const storageBytes = ({ root }: Tensor): number => root.size * bytesPerElement(root.dtype);

/** Those that own a tensor. */
const open = new Set<Scope>();

/** The scopes that own something now. */
export const openScopes = (): Scope[] => [...open];

let entered: Scope | undefined;

/** The innermost scope now entered; what is made outside any scope belongs to its maker. */
export const enteredScope = (): Scope | undefined => entered;

/** The tensor, out of the scope that happens to own it: the caller outlives that. */
export function owned(tensor: Tensor): Tensor {
  tensor.scope?.keep(tensor);
  return tensor;
}

/** Runs `work` in a scope of its own that closes at the end; the tensors it returns belong to the scope around, or to the caller. */
export function scoped<T extends Tensor | readonly Tensor[]>(name: string, work: () => T): T {
  const scope = new Scope(name);
  const outer = entered;
  try {
    const result = scope.enter(work);
    for (const tensor of Array.isArray(result) ? (result as readonly Tensor[]) : [result as Tensor]) {
      if (tensor.scope !== scope) continue;
      if (outer) outer.adopt(tensor);
      else scope.keep(tensor);
    }
    return result;
  } finally {
    scope.close();
  }
}

/** Synchronous sections end when `work` returns, so a promise would go on outside of them. */
export function refusePromise<T>(result: T, where: string): T {
  if (typeof result === "object" && result !== null && typeof (result as { then?: unknown }).then === "function") {
    throw new RuntimeError("ERR_HANDLE", `${where}: the work returned a promise, but a scope or tape cannot span an await.`
      + " Await outside, enter again after it.", { where });
  }
  return result;
}
