import type { Clock } from "../clock.ts";
import { RuntimeError } from "../errors.ts";
import type { Envelope } from "../transport/envelope.ts";
import type { Deadlines } from "./deadlines.ts";
import type { ActorContext, InitContext } from "./definition.ts";
import type { ActorSystem } from "./system.ts";

/** One message while an actor has it: waiting, then running. It is the context its handler gets. */
export class Handling implements ActorContext {
  readonly deadline: number;
  #controller: AbortController | undefined;
  #release: (() => void) | undefined;
  #ended = false;
  #givenUp: unknown;
  answered = false;

  /** `actor` is the context of the life in which the message arrived; `enter` sets that of the life which runs it (MB-3). */
  constructor(readonly envelope: Envelope, private actor: InitContext, private readonly clock: Clock, private readonly deadlines: Deadlines, private readonly newTrace: (from: string) => string) {
    this.deadline = envelope.deadlineMs > 0 ? clock.now() + envelope.deadlineMs : Infinity;
  }

  get self(): string {
    return this.actor.self;
  }
  get system(): ActorSystem {
    return this.actor.system;
  }
  get spawn(): ActorSystem["spawn"] {
    return this.actor.spawn;
  }
  get from(): string {
    return this.envelope.from;
  }
  get attachments(): readonly Uint8Array[] {
    return this.envelope.attachments;
  }
  get trace(): string {
    return (this.envelope.trace ||= this.newTrace(this.envelope.from));
  }

  /** True when nobody waits for the result any more, so that it need not even begin. */
  get givenUp(): boolean {
    return this.#givenUp !== undefined || this.clock.now() >= this.deadline;
  }

  /** Made on first use: most handlers never look, and a controller with a timer costs more than a small message. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.#givenUp !== undefined) this.#controller.abort(this.#givenUp);
      else if (!this.#ended) this.#arm(this.#controller);
    }
    return this.#controller.signal;
  }

  enter(actor: InitContext): void {
    this.actor = actor;
  }

  abort(reason: unknown): void {
    this.#givenUp = reason;
    this.#controller?.abort(reason);
  }

  /** The handler is done: timers and listeners go. */
  end(): void {
    this.#ended = true;
    this.#release?.();
  }

  #arm(controller: AbortController): void {
    const stop = (): void => controller.abort(this.actor.signal.reason);
    if (this.actor.signal.aborted) return stop();
    this.actor.signal.addEventListener("abort", stop, { once: true });
    const expiring = this.deadline === Infinity ? undefined
      : this.deadlines.after(Math.max(0, this.deadline - this.clock.now()), () => controller.abort(new RuntimeError("ERR_DEADLINE",
        `${this.envelope.to}.${this.envelope.endpoint}: the deadline of the call has passed.`, { endpoint: this.envelope.endpoint })));
    this.#release = () => {
      this.actor.signal.removeEventListener("abort", stop);
      if (expiring) this.deadlines.cancel(expiring);
    };
  }
}
