import type { Clock } from "../clock.ts";
import type { FailureData } from "../errors.ts";
import type { Transport } from "../transport/transport.ts";
import type { ActorDefinition, Endpoints, Ref } from "./definition.ts";
import type { Supervisor } from "./supervisor.ts";

/** All actors of one process (one node), and its way to the others. */
export interface ActorSystem {
  readonly node: string;
  readonly clock: Clock;
  /** Resolves when `init` has; rejects with its error. ERR_ADDRESS when the name is taken. */
  spawn<C, S, E extends Endpoints<S>>(definition: ActorDefinition<C, S, E>, config: C, options?: SpawnOptions): Promise<Ref<E>>;
  /** A reference to an actor of another node (or this one). Nothing is sent; the actor may not exist yet. */
  remote<C, S, E extends Endpoints<S>>(definition: ActorDefinition<C, S, E>, node: string, name?: string): Ref<E>;
  /** Calls `down` once when the actor is gone, at once if it already is (also when it never was). Returns the end of interest. */
  monitor(target: { address: string }, down: (notice: DownNotice) => void): () => void;
  /** Failures nobody else handles: of actors without owner or supervisor, and casts that came back. Returns the unsubscriber. */
  onFailure(listener: (failure: UnhandledFailure) => void): () => void;
  /** Stops one local actor: no new message starts, the running handler ends, children stop, `terminate` runs. */
  stopActor(target: { address: string }): Promise<void>;
  /** Stops all actors, the latest first, rejects pending calls with ERR_ABORTED, closes the transport. */
  stop(): Promise<void>;
  /** Declares a node dead: its pending calls reject at once with ERR_DEAD, later messages throw ERR_DEAD, monitors fire. */
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
  /** `stopped`: ended in order. `failed`: by an unhandled failure. `node-dead`: its process is gone. `unreachable`: no link. `unknown`: no actor ever had this name. */
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

export declare function createActorSystem(options: ActorSystemOptions): ActorSystem;
