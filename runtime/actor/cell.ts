import { type Clock } from "../clock.ts";
import { type FailureData, RuntimeError, fromFailure, nearest, toFailure } from "../errors.ts";
import type { Envelope } from "../transport/envelope.ts";
import { type ActorDefinition, Attached, type Endpoints, type InitContext } from "./definition.ts";
import { Handling } from "./handling.ts";
import { Mailbox } from "./mailbox.ts";
import type { Decision, Supervisor } from "./supervisor.ts";
import type { ActorSystem, DownNotice } from "./system.ts";
import type { Schedule } from "./turns.ts";

export type AnyDefinition = ActorDefinition<unknown, unknown, Endpoints<unknown>>;
export type Outcome = { reply: unknown; attachments: readonly Uint8Array[] } | { failure: FailureData };

/** What a cell needs of its system. */
export interface CellHost {
  readonly clock: Clock;
  readonly system: ActorSystem;
  readonly schedule: Schedule;
  spawnOwned(owner: Cell): ActorSystem["spawn"];
  respond(to: Envelope, outcome: Outcome): void;
  gone(cell: Cell, notice: DownNotice): void;
  unhandled(address: string, failure: FailureData): void;
}

/** How long handlers may take to end once their actor stops; then it goes without them, and their callers get ERR_DEAD. */
export const stopGraceMs = 5000;

/** One actor at work: its state, its mailbox, what runs, and how it starts, fails, restarts and ends. Promises: definition.ts. */
export class Cell {
  readonly children = new Set<Cell>();
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
  #stopAsked = false;
  #failedEarly: FailureData | undefined;

  constructor(readonly address: string, private readonly definition: AnyDefinition, private readonly config: unknown, private readonly host: CellHost,
    readonly owner?: Cell, private readonly supervisor?: Supervisor) {
    this.#mailbox = new Mailbox(address, definition.mailbox.capacity);
  }

  start(): Promise<void> {
    return (this.#started = this.#init().then(
      () => this.supervisor?.join(this),
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
    this.#mailbox.push(new Handling(envelope, this.#context, this.host.clock), interleave.includes(envelope.endpoint));
    this.#wake();
  }

  /** The caller has given up this call: it will not begin, or its handler's signal aborts. */
  cancel(from: string, id: number): void {
    const isIt = (h: Handling): boolean => h.envelope.from === from && h.envelope.id === id;
    for (const handling of [...this.#running.keys(), ...this.#mailbox.all()]) if (isIt(handling)) handling.abort(new Error("the caller gave up"));
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

  async #init(): Promise<void> {
    this.#status = "starting";
    this.#failedEarly = undefined;
    this.#life = new AbortController();
    this.#context = { self: this.address, system: this.host.system, signal: this.#life.signal, spawn: this.host.spawnOwned(this) };
    this.#state = await this.definition.init(this.config, this.#context);
    this.#initialised = true;
    this.#status = "live";
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
    for (const handling of this.#running.keys()) this.#answer(handling, { failure: toFailure(this.#dead("it failed", first)) });
    await this.#windDown();
    for (let failure = first; ; ) {
      const decision = this.#stopAsked ? undefined : this.supervisor?.decide(this, failure, this.host.clock.now());
      if (!decision?.restart) {
        this.#refuseWaiting("it failed", failure);
        this.#finish({ address: this.address, reason: "failed", message: `${this.address} failed: ${failure.message}`, failure });
        await this.#escalate(failure, decision);
        return true;
      }
      try {
        await this.#init();
        if (this.#stopAsked) await this.#stop();
        return this.#stopAsked;
      } catch (error) {
        await this.#windDown();
        failure = toFailure(error);
      }
    }
  }

  async #escalate(failure: FailureData, decision: Extract<Decision, { restart: false }> | undefined): Promise<void> {
    if (this.#stopAsked && !decision) return this.host.unhandled(this.address, failure);
    for (const other of decision?.others ?? []) await (other as Cell).stop();
    const reason = decision?.reason ?? new RuntimeError("ERR_ACTOR", `actor ${this.address} failed.`, { address: this.address }, { cause: fromFailure(failure) });
    if (this.owner) this.owner.fail(reason);
    else this.host.unhandled(this.address, decision ? toFailure(reason) : failure);
  }

  /** Children stop, handlers end or run out of grace, `terminate` frees the state (AC-4). */
  async #windDown(): Promise<void> {
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
      void this.#handle(next).then(() => this.#mailbox.running--);
    }
    if (this.#busy) return;
    const next = this.#next(false);
    if (!next) return;
    this.#busy = true;
    const life = this.#life;
    void this.#handle(next).then(() => {
      if (life !== this.#life) return; // ended after its grace, in an earlier life
      this.#busy = false;
      this.#wake();
    });
  }

  /** The next message somebody still waits for. */
  #next(interleaved: boolean): Handling | undefined {
    if (this.#status !== "live") return undefined;
    let next = this.#mailbox.next(interleaved);
    while (next?.givenUp) next = this.#mailbox.next(interleaved);
    return next;
  }

  #handle(handling: Handling): Promise<void> {
    handling.enter(this.#context);
    const ending = this.#run(handling).finally(() => {
      handling.end();
      this.#running.delete(handling);
    });
    this.#running.set(handling, ending);
    return ending;
  }

  async #run(handling: Handling): Promise<void> {
    const { endpoint, kind, payload } = handling.envelope;
    const life = this.#life;
    try {
      const result = await this.definition.endpoints[endpoint](this.#state, payload as never, handling);
      const { reply, attachments } = result instanceof Attached ? result : { reply: result, attachments: [] };
      this.#answer(handling, { reply, attachments });
    } catch (error) {
      if (kind === "call") this.#answer(handling, { failure: located(toFailure(error), `${this.address}.${endpoint}`) });
      else if (life === this.#life) this.fail(error);
    }
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

/** Says where an error was thrown, unless it says so itself. */
function located(failure: FailureData, at: string): FailureData {
  return { ...failure, details: { at, ...failure.details } };
}
