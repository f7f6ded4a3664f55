import { randomInt } from "node:crypto";
import { type Clock, realClock } from "../clock.ts";
import { type FailureData, RuntimeError, fromFailure, nearest, toFailure } from "../errors.ts";
import { checkName, formatAddress, parseAddress } from "../transport/address.ts";
import { decode, encode } from "../transport/codec.ts";
import type { Envelope } from "../transport/envelope.ts";
import type { Transport } from "../transport/transport.ts";
import { type Answer, CallTable } from "./calls.ts";
import { type AnyDefinition, Cell, type CellHost, type Outcome } from "./cell.ts";
import type { ActorDefinition, CallOptions, CastOptions, Endpoints, Ref } from "./definition.ts";
import { Monitors } from "./monitors.ts";
import { makeRef } from "./ref.ts";
import type { ActorSystem, ActorSystemOptions, DownNotice, SpawnOptions, UnhandledFailure } from "./system.ts";
import { createTurns } from "./turns.ts";

/** The longest timer there is; a longer deadline would fire at once. */
const longestTimeoutMs = 2 ** 31 - 1;

/** How many actors that are gone are told from actors that never were: the latest ones. */
const rememberedDeaths = 4096;

/**
 * An actor system at work: the actors of one process, and the routing of messages to, from and between them. Messages
 * between two actors here are handed over as they are; those to another node are encoded (codec.ts) and sent.
 */
export class Node implements ActorSystem {
  readonly node: string;
  readonly clock: Clock;
  #transport: Transport | undefined;
  #callTimeoutMs: number;
  #incarnation = randomInt(2 ** 48 - 1);
  #traces = 0;
  #cells = new Map<string, Cell>();
  #departed = new Map<string, DownNotice>();
  #calls: CallTable;
  #monitors: Monitors;
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
    this.#monitors = new Monitors({
      node, fate: (address) => this.#fate(address),
      tell: (to, signal, payload) => this.#send(parseAddress(to).node, this.#envelope("signal", to, signal, payload, {}, {})),
    });
    this.#host = {
      clock, system: this, schedule: createTurns(),
      spawnOwned: (owner) => (definition, config, spawnOptions) => this.#spawn(definition as unknown as AnyDefinition, config, spawnOptions, owner) as never,
      respond: (to, outcome) => this.#respond(to, outcome),
      gone: (cell, notice) => this.#gone(cell, notice),
      unhandled: (address, failure) => this.#unhandled({ address, failure }),
    };
    transport?.onMessage((from, frames) => this.#arrived(from, frames));
    transport?.onPeerUp((peer) => this.peerUp(peer));
    transport?.onPeerDown((peer, reason) => this.peerDown(peer, reason.message));
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
    const { id, answer } = this.#calls.open({ node, what, timeoutMs, signals, onAbort: (given) => this.#cancel(to, given, o.within?.self ?? `${this.node}/-`) });
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
      if (isGone(error)) return; // the caller's node is gone, and the call with it
      if (failure.code === "ERR_ENVELOPE" && !("failure" in outcome)) return this.#respond(to, { failure });
      this.#unhandled({ address: to.from, failure, undeliverable: to.endpoint });
    }
  }

  #cancel(to: string, id: number, from: string): void {
    const { node, actor } = parseAddress(to);
    if (node === this.node) return this.#cells.get(actor)?.cancel(from, id);
    try {
      this.#send(node, this.#envelope("signal", to, "cancel", { id, from }, {}, {}));
    } catch (error) {
      if (!isGone(error)) throw error; // a receiver that is gone has nothing to give up
    }
  }

  #signalled(node: string, { endpoint, payload, to }: Envelope): void {
    if (endpoint === "monitor") this.#monitors.watchedFrom(node, to);
    else if (endpoint === "demonitor") this.#monitors.unwatchedFrom(node, to);
    else if (endpoint === "down") this.#monitors.notify(payload as DownNotice);
    else if (endpoint === "cancel") {
      const { id, from } = payload as { id: number; from: string };
      this.#cells.get(parseAddress(to).actor)?.cancel(from, id);
    }
  }

  monitor(target: { address: string }, down: (notice: DownNotice) => void): () => void {
    return this.#monitors.monitor(target.address, down);
  }

  /** Why an address is already known to be gone, if it is. */
  #fate(address: string): DownNotice | undefined {
    const { node, actor } = parseAddress(address);
    const dead = this.#deadNodes.get(node);
    if (dead !== undefined) return { address, reason: "node-dead", message: `node ${node} is dead: ${dead}` };
    if (node !== this.node || this.#cells.has(actor)) return undefined;
    return this.#departed.get(actor) ?? { address, reason: "unknown", message: `there was never an actor ${address}` };
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
    this.#monitors.nodeDied(node, reason);
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
    await Promise.all([...this.#cells.values()].filter((cell) => !cell.owner).map((cell) => cell.stop()));
    await this.#transport?.close();
  }

  #gone(cell: Cell, notice: DownNotice): void {
    const { actor } = parseAddress(cell.address);
    this.#cells.delete(actor);
    this.#departed.set(actor, notice);
    if (this.#departed.size > rememberedDeaths) this.#departed.delete(this.#departed.keys().next().value!);
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

const isGone = (error: unknown): boolean => ["ERR_DEAD", "ERR_UNREACHABLE"].includes(toFailure(error).code);
