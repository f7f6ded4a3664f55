import { randomInt } from "node:crypto";
import { type Clock, realClock } from "../clock.ts";
import { type FailureData, RuntimeError, fromFailure, nearest, toFailure } from "../errors.ts";
import { checkName, formatAddress, parseAddress } from "../transport/address.ts";
import { decode, encode } from "../transport/codec.ts";
import type { Envelope } from "../transport/envelope.ts";
import type { PeerDown, Transport } from "../transport/transport.ts";
import { type Answer, CallTable } from "./calls.ts";
import { type AnyDefinition, Cell, type CellHost, type Outcome } from "./cell.ts";
import type { ActorDefinition, CallOptions, CastOptions, Endpoints, Ref } from "./definition.ts";
import { Monitors } from "./monitors.ts";
import { makeRef } from "./ref.ts";
import type { Supervisor } from "./supervisor.ts";
import { createTurns } from "./turns.ts";

/** All actors of one process (one node), and its way to the others. */
export interface ActorSystem {
  readonly node: string;
  readonly clock: Clock;
  /** Resolves when `init` has; rejects with its error. ERR_ADDRESS when the name is taken. */
  spawn<C, S, E extends Endpoints<S>>(definition: ActorDefinition<C, S, E>, config: C, options?: SpawnOptions): Promise<Ref<E>>;
  /** A reference to an actor of another node (or this one). Nothing is sent; the actor may not exist yet. */
  remote<C, S, E extends Endpoints<S>>(definition: ActorDefinition<C, S, E>, node: string, name?: string): Ref<E>;
  /**
   * MON-1: calls `down` once, in a later turn, when the actor is gone for good (a supervised restart is not that).
   * MON-2: also when it was gone before, when it never was, and when its node dies or has no link.
   * Returns the end of interest.
   */
  monitor(target: { address: string }, down: (notice: DownNotice) => void): () => void;
  /** Failures nobody else handles: of actors without owner or supervisor, and casts that came back. Without a listener they are thrown as uncaught. */
  onFailure(listener: (failure: UnhandledFailure) => void): () => void;
  onPeerDown(listener: (node: string, reason: string) => void): () => void;
  /** Stops one local actor: no new message starts, running handlers end (their signal aborts), children stop, `terminate` runs. A handler must not await the stop of its own actor. */
  stopActor(target: { address: string }): Promise<void>;
  /** Rejects pending calls with ERR_ABORTED, stops all actors, the latest first, then closes the transport. */
  stop(): Promise<void>;
  /** Declares a node dead: its pending calls reject at once with ERR_DEAD, later messages to it throw ERR_DEAD, monitors fire. */
  peerDown(node: string, reason: string): void;
  /** The node is there again (a new process under the old name): messages flow again. */
  peerUp(node: string): void;
  readonly stats: { pendingCalls: number; actors: number };
}

export interface SpawnOptions {
  /** Default: the definition's name. */
  name?: string;
  supervisor?: Supervisor;
}

export interface DownNotice {
  address: string;
  /** `stopped`: ended in order. `failed`: by an unhandled failure. `node-dead`: its process is gone. `unreachable`: no link. `unknown`: no actor of this name was ever there. */
  reason: "stopped" | "failed" | "node-dead" | "unreachable" | "unknown";
  message: string;
  failure?: FailureData;
}

export interface UnhandledFailure {
  /** Whose failure; for a cast that came back, its receiver. */
  address: string;
  failure: FailureData;
  /** Set when this is a refused cast: the endpoint it was for. */
  undeliverable?: string;
}

export interface ActorSystemOptions {
  node: string;
  transport?: Transport;
  clock?: Clock;
  /** Deadline of calls that name none. Default 30 000. */
  callTimeoutMs?: number;
}

/** The longest timer there is; a longer deadline would fire at once. */
const longestTimeoutMs = 2 ** 31 - 1;

export function createActorSystem(options: ActorSystemOptions): ActorSystem {
  return new System(options);
}

class System implements ActorSystem {
  readonly node: string;
  readonly clock: Clock;
  #transport: Transport | undefined;
  #callTimeoutMs: number;
  #incarnation = randomInt(2 ** 48 - 1);
  #traces = 0;
  #cells = new Map<string, Cell>();
  #departed = new Map<string, DownNotice>();
  #calls: CallTable;
  #monitors = new Monitors();
  /** Interests of other nodes in our actors: `node address` -> withdraw. */
  #watchedBy = new Map<string, () => void>();
  #deadNodes = new Map<string, string>();
  #failureListeners = new Set<(failure: UnhandledFailure) => void>();
  #peerListeners = new Set<(node: string, reason: string) => void>();
  #stopped: Promise<void> | undefined;
  #host: CellHost;

  constructor({ node, transport, clock = realClock, callTimeoutMs = 30_000 }: ActorSystemOptions) {
    this.node = checkName(node, "node");
    if (transport && transport.node !== node) throw new RuntimeError("ERR_ADDRESS", `system "${node}": its transport belongs to node "${transport.node}".`, { node });
    this.clock = clock;
    this.#transport = transport;
    this.#callTimeoutMs = callTimeoutMs;
    this.#calls = new CallTable(clock);
    this.#host = {
      clock, system: this, schedule: createTurns(),
      spawnOwned: (owner) => (definition, config, spawnOptions) => this.#spawn(definition as unknown as AnyDefinition, config, spawnOptions, owner) as never,
      respond: (to, outcome) => this.#respond(to, outcome),
      gone: (cell, notice) => this.#gone(cell, notice),
      unhandled: (address, failure) => this.#unhandled({ address, failure }),
    };
    transport?.onMessage((from, frames) => this.#arrived(from, frames));
    transport?.onPeerUp((peer) => this.peerUp(peer));
    transport?.onPeerDown((peer, reason: PeerDown) => this.peerDown(peer, reason.message));
  }

  get stats(): { pendingCalls: number; actors: number } {
    return { pendingCalls: this.#calls.size, actors: this.#cells.size };
  }

  spawn<C, S, E extends Endpoints<S>>(definition: ActorDefinition<C, S, E>, config: C, options: SpawnOptions = {}): Promise<Ref<E>> {
    return this.#spawn(definition as unknown as AnyDefinition, config, options) as Promise<Ref<E>>;
  }

  remote<C, S, E extends Endpoints<S>>(definition: ActorDefinition<C, S, E>, node: string, name: string = definition.name): Ref<E> {
    return this.#ref(definition.endpoints, formatAddress(node, name));
  }

  async #spawn(definition: AnyDefinition, config: unknown, { name = definition.name, supervisor }: SpawnOptions = {}, owner?: Cell): Promise<Ref<Endpoints<unknown>>> {
    const address = formatAddress(this.node, name);
    if (this.#stopped) throw new RuntimeError("ERR_DEAD", `system ${this.node} has stopped; ${address} cannot start.`, { address });
    if (this.#cells.has(name)) throw new RuntimeError("ERR_ADDRESS", `actor ${address} exists already; give this one another name.`, { address });
    const cell = new Cell(address, definition, config, this.#host, owner, supervisor);
    this.#cells.set(name, cell);
    this.#departed.delete(name);
    owner?.children.add(cell);
    await cell.start();
    return this.#ref(definition.endpoints, address);
  }

  #ref<E extends Endpoints<never>>(endpoints: E, address: string): Ref<E> {
    return makeRef({ call: (...a) => this.#call(...a), cast: (...a) => this.#cast(...a) }, endpoints, address);
  }

  async #call(to: string, endpoint: string, payload: unknown, o: CallOptions): Promise<Answer> {
    const what = `call of ${to}.${endpoint}`;
    if (this.#stopped) throw new RuntimeError("ERR_ABORTED", `${what}: system ${this.node} has stopped.`, { call: what });
    const signals = [o.signal, o.within?.signal].filter((s): s is AbortSignal => s !== undefined);
    const aborted = signals.find((s) => s.aborted);
    if (aborted) throw new RuntimeError("ERR_ABORTED", `${what}: given up by its caller before it was sent.`, { call: what }, { cause: aborted.reason });
    const timeoutMs = Math.min(o.timeoutMs ?? this.#callTimeoutMs, (o.within?.deadline ?? Infinity) - this.clock.now());
    if (!(timeoutMs <= longestTimeoutMs)) throw new RuntimeError("ERR_INPUT", `${what}: timeoutMs must be a number up to ${longestTimeoutMs}, got ${timeoutMs}.`, { timeoutMs });
    if (timeoutMs <= 0) throw new RuntimeError("ERR_DEADLINE", `${what}: no time is left before it is sent.`, { call: what, timeoutMs });
    const { node } = parseAddress(to);
    const { id, answer } = this.#calls.open({ node, what, timeoutMs, signals, onAbort: (given) => this.#signal(to, "cancel", { id: given, from: o.within?.self ?? `${this.node}/-` }) });
    try {
      this.#send(node, this.#envelope("call", to, endpoint, payload, o, { id, deadlineMs: timeoutMs }));
    } catch (error) {
      this.#calls.fail(id, error as Error);
    }
    return answer;
  }

  #cast(to: string, endpoint: string, payload: unknown, o: CastOptions): void {
    if (this.#stopped) throw new RuntimeError("ERR_DEAD", `cast to ${to}.${endpoint}: system ${this.node} has stopped.`, { address: to });
    this.#send(parseAddress(to).node, this.#envelope("cast", to, endpoint, payload, o, {}));
  }

  #envelope(kind: Envelope["kind"], to: string, endpoint: string, payload: unknown, o: CastOptions, rest: Partial<Envelope>): Envelope {
    return {
      kind, to, endpoint, payload, id: 0, deadlineMs: 0, from: o.within?.self ?? `${this.node}/-`, incarnation: this.#incarnation,
      trace: o.within?.trace ?? `${this.node}.${this.#incarnation.toString(36)}.${this.#traces++}`, attachments: o.attachments ?? [], ...rest,
    };
  }

  /** Throws when it is already known that the message cannot arrive. */
  #send(node: string, envelope: Envelope): void {
    if (node === this.node) return this.#deliver(envelope);
    const dead = this.#deadNodes.get(node);
    if (dead !== undefined) throw this.#nodeDead(node, dead, envelope.to);
    if (!this.#transport) throw new RuntimeError("ERR_UNREACHABLE", `${envelope.to}: system ${this.node} has no transport to other nodes.`, { address: envelope.to });
    this.#transport.send(node, encode(envelope));
  }

  #deliver(envelope: Envelope): void {
    const { actor } = parseAddress(envelope.to);
    const cell = this.#cells.get(actor);
    if (cell) return cell.offer(envelope);
    const departed = this.#departed.get(actor);
    if (departed) throw new RuntimeError("ERR_DEAD", `actor ${envelope.to} is gone: ${departed.message}.`, { address: envelope.to }, departed.failure && { cause: fromFailure(departed.failure) });
    const near = nearest(actor, this.#cells.keys());
    throw new RuntimeError("ERR_ADDRESS", `node ${this.node} has no actor "${actor}"${near ? `; did you mean "${near}"?` : "."} It has: ${[...this.#cells.keys()].join(", ") || "none"}.`, { address: envelope.to });
  }

  #arrived(from: string, frames: Uint8Array[]): void {
    try {
      const envelope = decode(frames);
      if (parseAddress(envelope.from).node !== from || parseAddress(envelope.to).node !== this.node) {
        throw new RuntimeError("ERR_ENVELOPE", `message on the link from ${from} to ${this.node} says it goes from ${envelope.from} to ${envelope.to}.`, { link: from });
      }
      this.#receive(from, envelope);
    } catch (error) {
      this.#unhandled({ address: formatAddress(from, "-"), failure: toFailure(error) });
    }
  }

  #receive(node: string, envelope: Envelope): void {
    const { kind, id } = envelope;
    if (kind === "signal") return this.#signalled(node, envelope);
    if (kind === "call" || kind === "cast") {
      try {
        return this.#deliver(envelope);
      } catch (error) {
        return this.#refuse(envelope, toFailure(error));
      }
    }
    if (envelope.incarnation !== this.#incarnation) return; // an answer to an earlier process of this name
    if (kind === "reply") this.#calls.settle(id, { reply: envelope.payload, attachments: [...envelope.attachments] });
    else if (id > 0) this.#calls.fail(id, fromFailure(envelope.payload as FailureData));
    else this.#unhandled({ address: envelope.from, failure: envelope.payload as FailureData, undeliverable: envelope.endpoint });
  }

  /** A cast to an actor that is gone is dropped, as a message under way when it stopped would be: monitors tell of deaths. */
  #refuse(envelope: Envelope, failure: FailureData): void {
    if (envelope.kind === "call" || failure.code !== "ERR_DEAD") this.#respond(envelope, { failure });
  }

  #respond(to: Envelope, outcome: Outcome): void {
    const { node } = parseAddress(to.from);
    if (node === this.node) {
      if ("failure" in outcome) this.#calls.fail(to.id, fromFailure(outcome.failure));
      else this.#calls.settle(to.id, { reply: outcome.reply, attachments: [...outcome.attachments] });
      return;
    }
    const answer = (body: Outcome): void => this.#send(node, {
      ...to, from: to.to, to: to.from, deadlineMs: 0,
      ...("failure" in body ? { kind: "failure", payload: body.failure, attachments: [] } : { kind: "reply", payload: body.reply, attachments: body.attachments }),
    });
    try {
      answer(outcome);
    } catch (error) {
      const failure = toFailure(error);
      if (failure.code === "ERR_DEAD" || failure.code === "ERR_UNREACHABLE") return; // the caller's node is gone, and the call with it
      if (failure.code === "ERR_ENVELOPE" && !("failure" in outcome)) return this.#respond(to, { failure });
      this.#unhandled({ address: to.from, failure, undeliverable: to.endpoint });
    }
  }

  #signal(to: string, endpoint: string, payload: unknown): void {
    const { node } = parseAddress(to);
    const signal = this.#envelope("signal", to, endpoint, payload, {}, {});
    if (node === this.node) return this.#signalled(node, signal);
    try {
      this.#send(node, signal);
    } catch (error) {
      if (!["ERR_DEAD", "ERR_UNREACHABLE"].includes(toFailure(error).code)) throw error; // gone: what it would be told no longer matters
    }
  }

  #signalled(node: string, { endpoint, payload, to }: Envelope): void {
    const key = `${node} ${to}`;
    if (endpoint === "cancel") {
      const { id, from } = payload as { id: number; from: string };
      this.#cells.get(parseAddress(to).actor)?.cancel(from, id);
    } else if (endpoint === "monitor") {
      this.#watchedBy.get(key)?.();
      this.#watchedBy.set(key, this.monitor({ address: to }, (notice) => {
        this.#watchedBy.delete(key);
        this.#signal(formatAddress(node, "-"), "down", notice);
      }));
    } else if (endpoint === "demonitor") {
      this.#watchedBy.get(key)?.();
      this.#watchedBy.delete(key);
    } else if (endpoint === "down") {
      this.#monitors.notify(payload as DownNotice);
    }
  }

  monitor({ address }: { address: string }, down: (notice: DownNotice) => void): () => void {
    const { node, actor } = parseAddress(address);
    const interest = this.#monitors.add(address, (notice) => queueMicrotask(() => down(notice)));
    const already = (reason: DownNotice["reason"], message: string): void => this.#monitors.notify({ address, reason, message });
    if (node === this.node) {
      const departed = this.#departed.get(actor);
      if (departed) this.#monitors.notify(departed);
      else if (!this.#cells.has(actor)) already("unknown", `no actor ${address}`);
      return () => void interest.remove();
    }
    const dead = this.#deadNodes.get(node);
    if (dead !== undefined) already("node-dead", `node ${node} is dead: ${dead}`);
    else if (interest.first) {
      try {
        this.#send(node, this.#envelope("signal", address, "monitor", null, {}, {}));
      } catch (error) {
        already("unreachable", toFailure(error).message);
      }
    }
    return () => {
      if (interest.remove()) this.#signal(address, "demonitor", null);
    };
  }

  onFailure(listener: (failure: UnhandledFailure) => void): () => void {
    this.#failureListeners.add(listener);
    return () => this.#failureListeners.delete(listener);
  }

  onPeerDown(listener: (node: string, reason: string) => void): () => void {
    this.#peerListeners.add(listener);
    return () => this.#peerListeners.delete(listener);
  }

  peerDown(node: string, reason: string): void {
    if (this.#deadNodes.has(node)) return;
    this.#deadNodes.set(node, reason);
    this.#calls.failAll("ERR_DEAD", `node ${node} is dead: ${reason}`, node);
    for (const address of this.#monitors.addressesOf(node)) this.#monitors.notify({ address, reason: "node-dead", message: `node ${node} is dead: ${reason}` });
    for (const [key, withdraw] of [...this.#watchedBy]) {
      if (!key.startsWith(`${node} `)) continue;
      withdraw();
      this.#watchedBy.delete(key);
    }
    for (const listener of this.#peerListeners) listener(node, reason);
  }

  peerUp(node: string): void {
    this.#deadNodes.delete(node);
  }

  async stopActor({ address }: { address: string }): Promise<void> {
    const { node, actor } = parseAddress(address);
    if (node !== this.node) throw new RuntimeError("ERR_ADDRESS", `${this.node} cannot stop ${address}: an actor is stopped on its own node.`, { address });
    await this.#cells.get(actor)?.stop();
  }

  stop(): Promise<void> {
    return (this.#stopped ??= this.#stop());
  }

  async #stop(): Promise<void> {
    await Promise.resolve(); // so that `#stopped` is set before anything reacts
    this.#calls.failAll("ERR_ABORTED", `system ${this.node} stops`);
    for (const cell of [...this.#cells.values()].reverse()) await cell.stop();
    await this.#transport?.close();
  }

  #gone(cell: Cell, notice: DownNotice): void {
    const { actor } = parseAddress(cell.address);
    this.#cells.delete(actor);
    this.#departed.set(actor, notice);
    this.#monitors.notify(notice);
  }

  #unhandled(failure: UnhandledFailure): void {
    if (this.#failureListeners.size === 0) {
      queueMicrotask(() => {
        throw fromFailure(failure.failure);
      });
    }
    for (const listener of this.#failureListeners) listener(failure);
  }

  #nodeDead(node: string, reason: string, address: string): RuntimeError {
    return new RuntimeError("ERR_DEAD", `${address}: node ${node} is dead: ${reason}`, { address, node });
  }
}
