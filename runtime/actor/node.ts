import { randomInt } from "node:crypto";
import { type Clock, realClock } from "../clock.ts";
import { type FailureData, RuntimeError, fromFailure, nearest, toFailure } from "../errors.ts";
import { checkName, formatAddress, parseAddress } from "../transport/address.ts";
import type { Envelope } from "../transport/envelope.ts";
import type { Transport } from "../transport/transport.ts";
import { type Answer, CallTable } from "./calls.ts";
import { type AnyDefinition, Cell, type CellHost, type Child, type Outcome, type Owner } from "./cell.ts";
import { Deadlines } from "./deadlines.ts";
import type { ActorDefinition, CallOptions, CastOptions, Endpoints, Ref } from "./definition.ts";
import { Monitors } from "./monitors.ts";
import { type Down, Peers, isGone } from "./peers.ts";
import { makeRef } from "./ref.ts";
import { RemoteSpawns } from "./remote-spawns.ts";
import type { ActorSystem, ActorSystemOptions, DownNotice, SpawnOptions, SystemStats, UnhandledFailure } from "./system.ts";
import { createTurns } from "./turns.ts";

/** The longest timer there is; a longer deadline would fire at once. */
const longestTimeoutMs = 2 ** 31 - 1;

/** How many actors that are gone are told from actors that never were: the latest ones. */
const rememberedDeaths = 4096;

/** How many calls given up before they arrived are remembered, so that they do not begin when they do. */
const rememberedCancels = 1024;

const nothing: readonly Uint8Array[] = [];

/**
 * An actor system at work: the actors of one process, and the routing of messages to, from and between them. Messages
 * between two actors here are handed over as they are; those to another node are encoded (codec.ts) and sent.
 */
export class Node implements ActorSystem {
  readonly node: string;
  readonly clock: Clock;
  #transport: Transport | undefined;
  readonly callTimeoutMs: number;
  readonly #incarnation = randomInt(2 ** 32);
  readonly #self: string;
  #traces = 0;
  #cells = new Map<string, Cell>();
  #departed = new Map<string, DownNotice>();
  #deadlines: Deadlines;
  #calls: CallTable;
  #cancelled = new Set<string>();
  #monitors: Monitors;
  #peers: Peers;
  #remote: RemoteSpawns;
  /** Owner of what no actor owns: actors on other nodes that this system spawned by itself. */
  #root: Owner = { children: new Set<Child>(), fail: (thrown) => this.#unhandled({ address: `${this.node}/-`, failure: toFailure(thrown) }) };
  #failureListeners = new Set<(failure: UnhandledFailure) => void>();
  #peerListeners = new Set<(node: string, reason: string) => void>();
  #stopped: Promise<void> | undefined;
  #host: CellHost;

  constructor({ node, transport, clock = realClock, callTimeoutMs = 30_000, definitions = [] }: ActorSystemOptions) {
    this.node = checkName(node, "node");
    if (transport && transport.node !== node) throw new RuntimeError("ERR_ADDRESS", `system "${node}": its transport belongs to node "${transport.node}".`, { node });
    this.clock = clock;
    this.#self = `${node}/-`;
    this.#transport = transport;
    this.callTimeoutMs = callTimeoutMs;
    this.#deadlines = new Deadlines(clock);
    this.#calls = new CallTable(this.#deadlines, (id, { to, from }) => this.#cancel(to, id, from));
    this.#peers = new Peers({
      node, transport, deadlines: this.#deadlines,
      receive: (from, envelope) => this.#receive(from, envelope),
      refused: (from, error) => this.#unhandled({ address: formatAddress(from, "-"), failure: toFailure(error) }),
      down: (peer, down) => this.#peerIsDown(peer, down),
    });
    this.#monitors = new Monitors({
      node, fate: (address) => this.#fate(address),
      tell: (to, signal, payload) => this.#peers.send(parseAddress(to).node, this.#envelope("signal", to, signal, payload, {})),
    });
    this.#host = {
      clock, deadlines: this.#deadlines, system: this, schedule: createTurns(), newTrace: (from) => `${parseAddress(from).node}.${this.#incarnation.toString(36)}.${this.#traces++}`, stopping: () => this.#stopped !== undefined,
      spawnOwned: (owner) => (definition, config, spawnOptions) => this.#spawn(definition as unknown as AnyDefinition, config, spawnOptions, owner) as never,
      respond: (to, outcome) => this.#respond(to, outcome),
      gone: (cell, notice) => this.#gone(cell, notice),
      unhandled: (address, failure) => this.#unhandled({ address, failure }),
    };
    this.#remote = new RemoteSpawns({
      node, clock,
      ask: (peer, endpoint, payload) => this.#call(formatAddress(peer, "-"), endpoint, payload, {}, false),
      monitor: (address, down) => this.#monitors.monitor(address, down),
      spawn: (definition, config, name, owner) => this.#spawn(definition, config, { name }, owner).then(() => this.#cells.get(name)!),
      unhandled: (address, failure) => this.#unhandled({ address, failure }),
    }, definitions as unknown as readonly AnyDefinition[]);
    transport?.onMessage((from, frames) => this.#peers.arrived(from, frames));
    transport?.onPeerUp((peer) => this.peerUp(peer));
    transport?.onPeerDown((peer, reason) => this.peerDown(peer, reason.message));
  }

  get stats(): SystemStats {
    let waiting = 0;
    for (const cell of this.#cells.values()) waiting += cell.waiting;
    return { pendingCalls: this.#calls.size, actors: this.#cells.size, waitingMessages: waiting, deadlines: this.#deadlines.size, droppedMessages: this.#peers.dropped };
  }

  spawn<C, S, E extends Endpoints<S>>(definition: ActorDefinition<C, S, E>, config: C, options: SpawnOptions = {}): Promise<Ref<E>> {
    return this.#spawn(definition as unknown as AnyDefinition, config, options) as Promise<Ref<E>>;
  }

  remote<C, S, E extends Endpoints<S>>(definition: ActorDefinition<C, S, E>, node: string, name: string = definition.name): Ref<E> {
    return this.#ref(definition.endpoints, formatAddress(node, name));
  }

  async #spawn(definition: AnyDefinition, config: unknown, { name = definition.name, supervisor, node = this.node }: SpawnOptions = {}, owner?: Owner): Promise<Ref<Endpoints<unknown>>> {
    const address = formatAddress(node, name);
    if (this.#stopped) throw new RuntimeError("ERR_DEAD", `system ${this.node} has stopped; ${address} cannot start.`, { address });
    if (node !== this.node) {
      await this.#remote.start(node, { definition: definition.name, name, config, owner: owner instanceof Cell ? owner.address : `${this.node}/-` }, owner ?? this.#root, supervisor);
      return this.#ref(definition.endpoints, address);
    }
    if (this.#cells.has(name)) throw new RuntimeError("ERR_ADDRESS", `actor ${address} exists already; give this one another name.`, { address });
    const cell = new Cell(address, definition, config, this.#host, owner, supervisor);
    this.#cells.set(name, cell);
    this.#departed.delete(name);
    owner?.children.add(cell);
    await cell.start();
    return this.#ref(definition.endpoints, address);
  }

  #ref<E extends Endpoints<never>>(endpoints: E, address: string): Ref<E> {
    return makeRef(this.#port, endpoints, address);
  }

  readonly #port = {
    call: (to: string, endpoint: string, payload: unknown, o: CallOptions): Promise<unknown> => this.#call(to, endpoint, payload, o, false),
    fetch: (to: string, endpoint: string, payload: unknown, o: CallOptions): Promise<Answer> => this.#call(to, endpoint, payload, o, true) as Promise<Answer>,
    cast: (to: string, endpoint: string, payload: unknown, o: CastOptions): void => this.#cast(to, endpoint, payload, o),
  };

  #call(to: string, endpoint: string, payload: unknown, o: CallOptions, whole: boolean): Promise<unknown> {
    try {
      return this.#ask(to, endpoint, payload, o, whole);
    } catch (error) {
      return Promise.reject(error as Error);
    }
  }

  #ask(to: string, endpoint: string, payload: unknown, o: CallOptions, whole: boolean): Promise<unknown> {
    if (this.#stopped && !endpoint.startsWith("-")) throw new RuntimeError("ERR_ABORTED", `${callOf(to, endpoint)}: system ${this.node} has stopped.`, { call: callOf(to, endpoint) });
    const signals = o.signal || o.within ? [o.signal, o.within?.signal].filter((s): s is AbortSignal => s !== undefined) : noSignals;
    const aborted = signals.find((s) => s.aborted);
    if (aborted) throw new RuntimeError("ERR_ABORTED", `${callOf(to, endpoint)}: given up by its caller before it was sent.`, { call: callOf(to, endpoint) }, { cause: aborted.reason });
    const timeoutMs = o.within ? Math.min(o.timeoutMs ?? this.callTimeoutMs, o.within.deadline - this.clock.now()) : (o.timeoutMs ?? this.callTimeoutMs);
    if (!(timeoutMs <= longestTimeoutMs)) throw new RuntimeError("ERR_INPUT", `${callOf(to, endpoint)}: timeoutMs must be a number up to ${longestTimeoutMs}, got ${timeoutMs}.`, { timeoutMs });
    if (timeoutMs <= 0) throw new RuntimeError("ERR_DEADLINE", `${callOf(to, endpoint)}: no time is left before it is sent.`, { call: callOf(to, endpoint), timeoutMs });
    const { node } = parseAddress(to);
    const { id, answer } = this.#calls.open({ node, to, endpoint, timeoutMs, signals, whole, from: o.within?.self ?? this.#self });
    try {
      this.#send(node, this.#envelope("call", to, endpoint, payload, o, id, timeoutMs));
    } catch (error) {
      this.#calls.fail(id, error as Error);
    }
    return answer;
  }

  #cast(to: string, endpoint: string, payload: unknown, o: CastOptions): void {
    if (this.#stopped) throw new RuntimeError("ERR_DEAD", `cast to ${to}.${endpoint}: system ${this.node} has stopped.`, { address: to });
    this.#send(parseAddress(to).node, this.#envelope("cast", to, endpoint, payload, o));
  }

  #envelope(kind: Envelope["kind"], to: string, endpoint: string, payload: unknown, o: CastOptions, id = 0, deadlineMs = 0): Envelope {
    return {
      kind, id, from: o.within?.self ?? this.#self, to, endpoint, deadlineMs, trace: o.within?.trace ?? "",
      incarnation: this.#incarnation, session: 0, sequence: 0, payload, attachments: o.attachments ?? nothing,
    };
  }

  /** Throws when it is already known that the message cannot arrive. */
  #send(node: string, envelope: Envelope): void {
    if (node === this.node) this.#deliver(envelope);
    else this.#peers.send(node, envelope);
  }

  #deliver(envelope: Envelope): void {
    const { actor } = parseAddress(envelope.to);
    if (this.#cancelled.size > 0 && this.#cancelled.delete(callKey(envelope.from, envelope.id))) return; // its cancel has overtaken it
    if (actor === "-") return this.#serve(envelope);
    const cell = this.#cells.get(actor);
    if (cell) return cell.offer(envelope);
    const departed = this.#departed.get(actor);
    if (departed) throw new RuntimeError("ERR_DEAD", `actor ${envelope.to} is gone: ${departed.message}.`, { address: envelope.to }, departed.failure && { cause: fromFailure(departed.failure) });
    const near = nearest(actor, this.#cells.keys());
    throw new RuntimeError("ERR_ADDRESS", `node ${this.node} has no actor "${actor}"${near ? `; did you mean "${near}"?` : "."} It has: ${[...this.#cells.keys()].join(", ") || "none"}.`, { address: envelope.to });
  }

  /** What another system asks of this one: no actor's mailbox is in the way. */
  #serve(envelope: Envelope): void {
    this.#remote.serve(envelope.endpoint, envelope.payload).then(
      (reply) => this.#respond(envelope, { reply, attachments: nothing }),
      (error) => this.#respond(envelope, { failure: toFailure(error) }),
    );
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
    if (kind === "reply") this.#calls.settle(id, envelope.payload, envelope.attachments);
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
      else this.#calls.settle(to.id, outcome.reply, outcome.attachments);
      return;
    }
    const failed = "failure" in outcome;
    try {
      this.#peers.send(node, {
        kind: failed ? "failure" : "reply", id: to.id, from: to.to, to: to.from, endpoint: to.endpoint, deadlineMs: 0, trace: "", incarnation: to.incarnation,
        session: 0, sequence: 0, payload: failed ? outcome.failure : outcome.reply, attachments: failed ? nothing : outcome.attachments,
      });
    } catch (error) {
      const failure = toFailure(error);
      if (isGone(error)) return; // the caller's node is gone, and the call with it
      if (!("failure" in outcome)) return this.#respond(to, { failure }); // it cannot be packed, or the link has no room: the caller learns that
      this.#unhandled({ address: to.from, failure, undeliverable: to.endpoint });
    }
  }

  #cancel(to: string, id: number, from: string): void {
    const { node, actor } = parseAddress(to);
    if (node === this.node) return void this.#cells.get(actor)?.cancel(from, id);
    this.#tell(to, "cancel", { id, from });
  }

  /** A signal for another system. One that is gone wants no news. */
  #tell(to: string, signal: string, payload: unknown): void {
    try {
      this.#peers.send(parseAddress(to).node, this.#envelope("signal", to, signal, payload, {}));
    } catch (error) {
      if (!isGone(error)) throw error;
    }
  }

  #signalled(node: string, { endpoint, payload, to }: Envelope): void {
    if (endpoint === "monitor") this.#monitors.watchedFrom(node, to);
    else if (endpoint === "demonitor") this.#monitors.unwatchedFrom(node, to);
    else if (endpoint === "down") this.#monitors.notify(payload as DownNotice);
    else if (endpoint === "cancel") {
      const { id, from } = payload as { id: number; from: string };
      if (this.#cells.get(parseAddress(to).actor)?.cancel(from, id)) return;
      this.#cancelled.add(callKey(from, id)); // answered already, or still behind others on its way
      if (this.#cancelled.size > rememberedCancels) this.#cancelled.delete(this.#cancelled.values().next().value!);
    }
  }

  monitor(target: { address: string }, down: (notice: DownNotice) => void): () => void {
    return this.#monitors.monitor(target.address, down);
  }

  /** Why an address is already known to be gone, if it is. */
  #fate(address: string): DownNotice | undefined {
    const { node, actor } = parseAddress(address);
    const down = this.#peers.isDown(node);
    if (down) return noticeOf(address, node, down);
    if (node !== this.node || actor === "-" || this.#cells.has(actor)) return undefined;
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

  peerDown(node: string, reason: string, fact: Down["fact"] = "dead"): void {
    this.#peers.down(node, { fact, reason });
  }

  #peerIsDown(node: string, down: Down): void {
    this.#calls.failAll(down.fact === "dead" ? "ERR_DEAD" : "ERR_UNREACHABLE", `node ${node} is ${down.fact}: ${down.reason}`, node);
    this.#monitors.nodeDown(node, (address) => noticeOf(address, node, down));
    for (const listener of this.#peerListeners) listener(node, down.reason);
  }

  peerUp(node: string): void {
    this.#peers.up(node);
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
    await Promise.all([...this.#root.children, ...[...this.#cells.values()].filter((cell) => !cell.owned)].map((child) => child.stop()));
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
}

const noSignals: readonly AbortSignal[] = [];

const callOf = (to: string, endpoint: string): string => `call of ${to}.${endpoint}`;

const callKey = (from: string, id: number): string => `${from} ${id}`;

const noticeOf = (address: string, node: string, { fact, reason }: Down): DownNotice =>
  ({ address, reason: fact === "dead" ? "node-dead" : "unreachable", message: `node ${node} is ${fact}: ${reason}` });
