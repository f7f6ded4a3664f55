import { RuntimeError } from "../errors.ts";
import type { Deadline, Deadlines } from "./deadlines.ts";

export interface Answer {
  reply: unknown;
  attachments: Uint8Array[];
}

export interface CallSpec {
  node: string;
  from: string;
  to: string;
  endpoint: string;
  timeoutMs: number;
  signals: readonly AbortSignal[];
  /** Resolve with the reply and its attachments, not with the reply alone. */
  whole: boolean;
}

/** The calls this system waits for. Each leaves the table exactly once: answered, failed, out of time, aborted or dead. */
export class CallTable {
  #pending = new Map<number, Pending>();
  #nextId = 1;
  
  /** `aborted`: a signal gave the call up, the receiver can be told. */
  constructor(private readonly deadlines: Deadlines, private readonly aborted: (id: number, spec: CallSpec) => void) {}

  get size(): number {
    return this.#pending.size;
  }

  open(spec: CallSpec): { id: number; answer: Promise<unknown> } {
    const id = this.#nextId++;
    const pending = new Pending(spec, id, this);
    const answer = new Promise<unknown>((resolve, reject) => {
      pending.resolve = resolve;
      pending.reject = reject;
    });
    this.#pending.set(id, pending);
    pending.deadline = this.deadlines.after(spec.timeoutMs, () => this.fail(id, new RuntimeError("ERR_DEADLINE",
      `${pending.what}: no reply within ${Math.round(spec.timeoutMs)} ms. The receiver is busy, waits for something, or its deadline is too short.`, { call: pending.what, timeoutMs: spec.timeoutMs })));
    for (const signal of spec.signals) signal.addEventListener("abort", pending, { once: true });
    return { id, answer };
  }

  settle(id: number, reply: unknown, attachments: readonly Uint8Array[]): void {
    const call = this.#take(id); // a reply to a call that timed out finds nothing here, and nobody misses it
    call?.resolve(call.spec.whole ? { reply, attachments: [...attachments] } satisfies Answer : reply);
  }

  /** False when the call had left the table before. */
  fail(id: number, error: Error): boolean {
    const call = this.#take(id);
    call?.reject(error);
    return call !== undefined;
  }

  abort(id: number, spec: CallSpec, error: Error): void {
    if (this.fail(id, error)) this.aborted(id, spec);
  }

  /** All calls, or those to one node; `why` ends the sentence. */
  failAll(code: "ERR_DEAD" | "ERR_UNREACHABLE" | "ERR_ABORTED", why: string, node?: string): void {
    for (const [id, { spec, what }] of [...this.#pending]) {
      if (node === undefined || spec.node === node) this.fail(id, new RuntimeError(code, `${what}: ${why}`, { call: what, node: spec.node }));
    }
  }

  #take(id: number): Pending | undefined {
    const call = this.#pending.get(id);
    if (!call) return undefined;
    this.#pending.delete(id);
    this.deadlines.cancel(call.deadline);
    for (const signal of call.spec.signals) signal.removeEventListener("abort", call);
    return call;
  }
}

/** Listens to the signals of its call itself: a closure for each call is made only when a message needs one. */
class Pending {
  resolve!: (answer: unknown) => void;
  reject!: (error: Error) => void;
  deadline!: Deadline;
  constructor(readonly spec: CallSpec, readonly id: number, private readonly table: CallTable) {}

  get what(): string {
    return `call of ${this.spec.to}.${this.spec.endpoint}`;
  }

  handleEvent(event: Event): void {
    const cause = (event.target as AbortSignal).reason as unknown;
    this.table.abort(this.id, this.spec, new RuntimeError("ERR_ABORTED", `${this.what}: given up by its caller.`, { call: this.what }, { cause }));
  }
}
