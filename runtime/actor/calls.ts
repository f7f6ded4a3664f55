import type { Clock } from "../clock.ts";
import { RuntimeError } from "../errors.ts";

export interface Answer {
  reply: unknown;
  attachments: Uint8Array[];
}

interface Pending {
  node: string;
  what: string;
  resolve(answer: Answer): void;
  reject(error: Error): void;
  release(): void;
}

/** The calls this system waits for. Each leaves the table exactly once: answered, failed, out of time, aborted or dead. */
export class CallTable {
  #pending = new Map<number, Pending>();
  #nextId = 1;
  constructor(private readonly clock: Clock) {}

  get size(): number {
    return this.#pending.size;
  }

  /** `what` names the call in messages; `onAbort` runs when a signal gave it up, so that the receiver can be told. */
  open(o: { node: string; what: string; timeoutMs: number; signals: readonly AbortSignal[]; onAbort(id: number): void }): { id: number; answer: Promise<Answer> } {
    const id = this.#nextId++;
    const answer = new Promise<Answer>((resolve, reject) => {
      const expired = this.clock.after(o.timeoutMs, () => this.fail(id, new RuntimeError("ERR_DEADLINE",
        `${o.what}: no reply within ${Math.round(o.timeoutMs)} ms. The receiver is busy, waits for something, or its deadline is too short.`, { call: o.what, timeoutMs: o.timeoutMs })));
      const aborted = (event: Event): void => {
        const cause = (event.target as AbortSignal).reason as unknown;
        if (this.fail(id, new RuntimeError("ERR_ABORTED", `${o.what}: given up by its caller.`, { call: o.what }, { cause }))) o.onAbort(id);
      };
      for (const signal of o.signals) signal.addEventListener("abort", aborted, { once: true });
      const release = (): void => {
        expired();
        for (const signal of o.signals) signal.removeEventListener("abort", aborted);
      };
      this.#pending.set(id, { node: o.node, what: o.what, resolve, reject, release });
    });
    return { id, answer };
  }

  settle(id: number, answer: Answer): void {
    this.#take(id)?.resolve(answer); // a reply to a call that timed out finds nothing here, and nobody misses it
  }

  /** False when the call had left the table before. */
  fail(id: number, error: Error): boolean {
    const call = this.#take(id);
    call?.reject(error);
    return call !== undefined;
  }

  /** All calls, or those to one node; `why` ends the sentence. */
  failAll(code: "ERR_DEAD" | "ERR_ABORTED", why: string, node?: string): void {
    for (const [id, call] of [...this.#pending]) {
      if (node === undefined || call.node === node) this.fail(id, new RuntimeError(code, `${call.what}: ${why}`, { call: call.what, node: call.node }));
    }
  }

  #take(id: number): Pending | undefined {
    const call = this.#pending.get(id);
    this.#pending.delete(id);
    call?.release();
    return call;
  }
}
