import { type Clock } from "../clock.ts";
import { type FailureData, RuntimeError, fromFailure, nearest, toFailure } from "../errors.ts";
import type { Envelope } from "../transport/envelope.ts";
import { type ActorDefinition, Attached, type Endpoints, type InitContext } from "./definition.ts";
import type { Deadlines } from "./deadlines.ts";
import { Handling } from "./handling.ts";
import { Mailbox } from "./mailbox.ts";
import type { GivenUp, SupervisedChild, Supervisor } from "./supervisor.ts";
import type { ActorSystem, DownNotice } from "./system.ts";
import type { Schedule } from "./turns.ts";

export type AnyDefinition = ActorDefinition<unknown, unknown, Endpoints<unknown>>;
export type Outcome = { reply: unknown; attachments: readonly Uint8Array[] } | { failure: FailureData };

/** What a cell needs of its system. */
export interface CellHost {
  readonly clock: Clock;
  readonly deadlines: Deadlines;
  readonly system: ActorSystem;
  readonly schedule: Schedule;
  /** For a message that follows from no other. */
  newTrace(from: string): string;
  /** No new message begins: all actors are about to stop. */
  stopping(): boolean;
  spawnOwned(owner: Cell): ActorSystem["spawn"];
  respond(to: Envelope, outcome: Outcome): void;
  gone(cell: Cell, notice: DownNotice): void;
  unhandled(address: string, failure: FailureData): void;
}

/** What an actor owns: an actor here, or one on another node. */
export interface Child {
  readonly address: string;
  stop(): Promise<void>;
}

/** Whose failure an actor's unhandled failure is: its owner's, or nobody's here when the owner is told by a monitor (SUP-6). */
export interface Owner {
  readonly children: Set<Child>;
  fail(thrown: unknown): void;
}

/** How long handlers may take to end once their actor stops; then it goes without them, and their callers get ERR_DEAD. */
export const stopGraceMs = 5000;

/** One actor at work: its state, its mailbox, what runs, and how it starts, fails, restarts and ends. Promises: definition.ts. */
export class Cell implements Child, Owner, SupervisedChild {
  readonly children = new Set<Child>();
  /** `failing` until it lives again or is gone: it failed, or is restarted with one that did. */
  #status: "starting" | "live" | "failing" | "stopping" | "gone" = "starting";
  #state: unknown;
  #initialised = false;
  #mailbox: Mailbox<Handling>;
  #running = new Map<Handling, Promise<void>>();
  #busy = false;
  #woken = false;
  #life!: AbortController;
  #context!: InitContext;
  #started: Promise<void> | undefined;
  #ended: Promise<void> | undefined;
  #wound: Promise<void> | undefined;
  #stopAsked = false;
  #failedEarly: FailureData | undefined;

  constructor(readonly address: string, private readonly definition: AnyDefinition, private readonly config: unknown, private readonly host: CellHost,
    private readonly owner?: Owner, private readonly supervisor?: Supervisor) {
    this.#mailbox = new Mailbox(address, definition.mailbox.capacity);
  }

  start(): Promise<void> {
    return (this.#started = this.#init().then(
      () => {},
      async (error) => {
        await this.#windDown();
        this.#finish({ address: this.address, reason: "failed", message: `${this.address}: init failed`, failure: toFailure(error) });
        throw error;
      },
    ));
  }

  /** Takes a message or throws why not: ERR_ENDPOINT, ERR_DEAD, ERR_MAILBOX_FULL. */
  offer(envelope: Envelope): void {
    const { endpoints, interleave } = this.definition;
    if (!Object.hasOwn(endpoints, envelope.endpoint)) {
      const near = nearest(envelope.endpoint, Object.keys(endpoints));
      throw new RuntimeError("ERR_ENDPOINT", `actor ${this.address} has no endpoint "${envelope.endpoint}"${near ? `; did you mean "${near}"?` : ""} It has: ${Object.keys(endpoints).join(", ")}.`,
        { address: this.address, endpoint: envelope.endpoint });
    }
    if (this.#status === "stopping" || this.#status === "gone") throw this.#dead("it has stopped");
    this.#mailbox.push(new Handling(envelope, this.#context, this.host.clock, this.host.deadlines, this.host.newTrace), interleave.includes(envelope.endpoint));
    this.#wake();
  }

  /** The caller has given up this call: it will not begin, or its handler's signal aborts. False when it is not here. */
  cancel(from: string, id: number): boolean {
    const it = [...this.#running.keys(), ...this.#mailbox.all()].find((h) => h.envelope.from === from && h.envelope.id === id);
    it?.abort(new RuntimeError("ERR_ABORTED", `${it.envelope.to}.${it.envelope.endpoint}: the caller gave up.`, { endpoint: it.envelope.endpoint }));
    return it !== undefined;
  }

  get owned(): boolean {
    return this.owner !== undefined;
  }

  get waiting(): number {
    return this.#mailbox.waiting;
  }

  stop(): Promise<void> {
    this.#stopAsked = true;
    return (this.#ended ??= this.#stop());
  }

  /** An unhandled failure, of a cast handler or of something this actor owns. Later ones of the same life are its consequences. */
  fail(thrown: unknown): void {
    if (this.#status === "starting") this.#failedEarly ??= toFailure(thrown); // a child failed before `init` was through
    if (this.#status === "stopping" || this.#status === "gone") this.host.unhandled(this.address, toFailure(thrown));
    if (this.#status !== "live") return;
    this.#status = "failing";
    this.#ended = this.#recover(toFailure(thrown)).then((ended) => {
      if (ended) return;
      this.#ended = undefined;
      if (this.#stopAsked) return this.stop();
    });
  }

  get lives(): boolean {
    return this.#status === "live";
  }

  async suspend(because: FailureData): Promise<void> {
    if (this.#status === "live") this.#status = "failing";
    if (this.#status !== "failing") return;
    this.#answerRunning("it is restarted with another that failed", because);
    await this.#windDown();
  }

  async resume(): Promise<void> {
    if (this.#stopAsked || this.#status !== "failing") return;
    const begun = this.#init();
    this.#started = begun.catch(() => {}); // a stop that comes now waits for it
    try {
      await begun;
    } catch (error) {
      await this.#windDown();
      this.#status = "failing";
      throw error;
    }
  }

  async #init(): Promise<void> {
    this.#status = "starting";
    this.#wound = undefined;
    this.#failedEarly = undefined;
    this.#life = new AbortController();
    this.#context = { self: this.address, system: this.host.system, signal: this.#life.signal, spawn: this.host.spawnOwned(this) };
    this.#state = await this.definition.init(this.config, this.#context);
    this.#initialised = true;
    this.#status = "live";
    this.supervisor?.join(this);
    if (this.#failedEarly) queueMicrotask(() => this.fail(fromFailure(this.#failedEarly!)));
    else this.#wake();
  }

  async #stop(): Promise<void> {
    await this.#started?.catch(() => {}); // a failed init is the spawner's to see
    if (this.#status === "gone") return;
    this.#status = "stopping";
    this.#refuseWaiting("it has stopped");
    await this.#windDown();
    this.#finish({ address: this.address, reason: "stopped", message: `${this.address} has stopped` });
  }

  /** True when the actor is gone, false when it lives again. */
  async #recover(first: FailureData): Promise<boolean> {
    this.#answerRunning("it failed", first);
    await this.#windDown();
    const supervised = this.supervisor !== undefined && !this.#stopAsked;
    const givenUp = supervised ? await this.supervisor!.recover(this, first, () => this.host.clock.now()) : undefined;
    if (supervised && !givenUp) return false;
    this.#refuseWaiting("it failed", first);
    this.#finish({ address: this.address, reason: "failed", message: `${this.address} failed: ${first.message}`, failure: first });
    await this.#escalate(first, givenUp);
    return true;
  }

  async #escalate(failure: FailureData, givenUp: GivenUp | undefined): Promise<void> {
    if (this.#stopAsked && !givenUp) return this.host.unhandled(this.address, failure);
    for (const other of givenUp?.others ?? []) await other.stop();
    const reason = givenUp?.reason ?? new RuntimeError("ERR_ACTOR", `actor ${this.address} failed.`, { address: this.address }, { cause: fromFailure(failure) });
    if (this.owner) this.owner.fail(reason);
    else this.host.unhandled(this.address, givenUp ? toFailure(reason) : failure);
  }

  #answerRunning(why: string, cause: FailureData): void {
    for (const handling of this.#running.keys()) this.#answer(handling, { failure: toFailure(this.#dead(why, cause)) });
  }

  /** Children stop, handlers end or run out of grace, `terminate` frees the state (AC-4). */
  #windDown(): Promise<void> {
    return (this.#wound ??= this.#endLife());
  }

  async #endLife(): Promise<void> {
    this.#life.abort(new RuntimeError("ERR_ABORTED", `${this.address} is stopping.`, { address: this.address }));
    for (const child of [...this.children].reverse()) await child.stop();
    if (this.#running.size > 0) {
      await new Promise<void>((resolve) => {
        const cancel = this.host.clock.after(stopGraceMs, resolve);
        void Promise.all(this.#running.values()).then(() => (cancel(), resolve()));
      });
    }
    for (const handling of this.#running.keys()) this.#answer(handling, { failure: toFailure(this.#dead("it stopped while this call was running")) });
    this.#running.clear();
    this.#busy = false;
    if (!this.#initialised) return;
    this.#initialised = false;
    try {
      await this.definition.terminate?.(this.#state, this.#context);
    } catch (error) {
      this.host.unhandled(this.address, toFailure(error));
    }
    this.#state = undefined;
  }

  #finish(notice: DownNotice): void {
    this.#status = "gone";
    this.supervisor?.leave(this);
    this.owner?.children.delete(this);
    this.host.gone(this, notice);
  }

  #refuseWaiting(why: string, cause?: FailureData): void {
    for (const handling of this.#mailbox.takeAll()) this.#answer(handling, { failure: toFailure(this.#dead(why, cause)) });
  }

  #wake(): void {
    if (this.#woken || this.#status !== "live") return;
    this.#woken = true;
    this.host.schedule(() => {
      this.#woken = false;
      this.#drain();
    });
  }

  #drain(): void {
    for (let next = this.#next(true); next; next = this.#next(true)) {
      this.#mailbox.running++;
      this.#handle(next, () => void this.#mailbox.running--);
    }
    const next = this.#busy ? undefined : this.#next(false);
    if (!next) return;
    this.#busy = true;
    const life = this.#life;
    this.#handle(next, () => {
      if (life !== this.#life) return; // ended after its grace, in an earlier life
      this.#busy = false;
      if (this.#mailbox.waiting > 0) this.#wake();
    });
  }

  /** The next message somebody still waits for. */
  #next(interleaved: boolean): Handling | undefined {
    if (this.#status !== "live" || this.host.stopping()) return undefined;
    let next = this.#mailbox.next(interleaved);
    while (next?.givenUp) next = this.#mailbox.next(interleaved);
    return next;
  }

  /** Calls `ended`, then answers. A handler that is through at once costs no promise and no turn. */
  #handle(handling: Handling, ended: () => void): void {
    handling.enter(this.#context);
    const life = this.#life;
    try {
      const result = this.definition.endpoints[handling.envelope.endpoint](this.#state, handling.envelope.payload as never, handling);
      if (isThenable(result)) {
        this.#running.set(handling, Promise.resolve(result).then(
          (value: unknown) => (this.#end(handling, ended), this.#returned(handling, value)),
          (error: unknown) => (this.#end(handling, ended), this.#threw(handling, error, life)),
        ));
        return;
      }
      this.#end(handling, ended);
      this.#returned(handling, result);
    } catch (error) {
      this.#end(handling, ended);
      this.#threw(handling, error, life);
    }
  }

  #end(handling: Handling, ended: () => void): void {
    handling.end();
    this.#running.delete(handling);
    ended();
  }

  #returned(handling: Handling, result: unknown): void {
    this.#answer(handling, result instanceof Attached ? { reply: result.reply, attachments: result.attachments } : { reply: result, attachments: none });
  }

  #threw(handling: Handling, error: unknown, life: AbortController): void {
    if (handling.envelope.kind === "call") this.#answer(handling, { failure: located(toFailure(error), `${this.address}.${handling.envelope.endpoint}`) });
    else if (life === this.#life) this.fail(error);
  }

  /** Once; casts have nobody to answer. */
  #answer(handling: Handling, outcome: Outcome): void {
    if (handling.envelope.kind !== "call" || handling.answered) return;
    handling.answered = true;
    this.host.respond(handling.envelope, outcome);
  }

  #dead(why: string, cause?: FailureData): RuntimeError {
    return new RuntimeError("ERR_DEAD", `actor ${this.address} is gone: ${why}.`, { address: this.address }, cause && { cause: fromFailure(cause) });
  }
}

const none: readonly Uint8Array[] = [];

const isThenable = (value: unknown): value is PromiseLike<unknown> => typeof (value as { then?: unknown } | null | undefined)?.then === "function";

/** Says where an error was thrown, unless it says so itself. */
function located(failure: FailureData, at: string): FailureData {
  return { ...failure, details: { at, ...failure.details } };
}
