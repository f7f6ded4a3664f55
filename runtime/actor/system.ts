import type { Clock } from "../clock.ts";
import type { FailureData } from "../errors.ts";
import type { Transport } from "../transport/transport.ts";
import type { ActorDefinition, Endpoints, Ref } from "./definition.ts";
import { Node } from "./node.ts";
import type { Supervisor } from "./supervisor.ts";

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
  /** Stops one actor of this node: no new message starts, running handlers end (their signal aborts), children stop, `terminate` runs. A handler must not await the stop of its own actor. */
  stopActor(target: { address: string }): Promise<void>;
  /** Rejects pending calls with ERR_ABORTED, stops all actors (owners after what they own), then closes the transport. A handler must not await it. */
  stop(): Promise<void>;
  /**
   * Declares a node dead, or unreachable (it may live, but nothing gets through): its pending calls reject at once with ERR_DEAD or
   * ERR_UNREACHABLE, later messages to it throw that, monitors fire with `node-dead` or `unreachable`.
   */
  peerDown(node: string, reason: string, fact?: "dead" | "unreachable"): void;
  /** The node is there again (a new process under the old name): messages flow again. */
  peerUp(node: string): void;
  readonly stats: SystemStats;
}

export interface SystemStats {
  pendingCalls: number;
  actors: number;
  /** In the mailboxes of all actors here. */
  waitingMessages: number;
  /** Of calls and handlers. */
  deadlines: number;
  /** Messages that came again, or late from before a link broke (AR-1, AR-2). */
  droppedMessages: number;
}

export interface SpawnOptions {
  /** Default: the definition's name. */
  name?: string;
  supervisor?: Supervisor;
  /**
   * Where it lives; default here. There the system must have been given a definition of this name: code does not travel, `config` does.
   * It belongs to its spawner like a child here (SUP-6): its failure or its node's is the spawner's, and it stops with the spawner.
   */
  node?: string;
}

export interface DownNotice {
  address: string;
  /** `stopped`: ended in order. `failed`: by an unhandled failure. `node-dead`: its process is gone. `unreachable`: no link, or one that lost messages. `unknown`: no actor of this name was ever there. */
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

/** A definition of whatever state and endpoints, made by `defineActor`. */
export type AnyActor = Pick<ActorDefinition<never, never, never>, "name" | "interleave" | "mailbox">;

export interface ActorSystemOptions {
  node: string;
  transport?: Transport;
  clock?: Clock;
  /** Deadline of calls that name none. Default 30 000. */
  callTimeoutMs?: number;
  /** What other nodes may spawn here, by its name. */
  definitions?: readonly AnyActor[];
}

export function createActorSystem(options: ActorSystemOptions): ActorSystem {
  return new Node(options);
}
