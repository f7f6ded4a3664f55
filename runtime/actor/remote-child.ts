import { type FailureData, RuntimeError, fromFailure, toFailure } from "../errors.ts";
import type { Child, Owner } from "./cell.ts";
import { isGone } from "./peers.ts";
import type { SupervisedChild, Supervisor } from "./supervisor.ts";
import type { DownNotice } from "./system.ts";

/** What one system asks of another; the call is to `node/-`, no mailbox is in its way. */
export interface SpawnRequest {
  definition: string;
  name: string;
  config: unknown;
  /** The actor that owns the new one (`node/-`: the system itself). When it is gone, the new one stops. */
  owner: string;
}

export interface RemoteChildHost {
  /** Starts the actor there, or rejects. */
  spawn(): Promise<void>;
  /** Stops it there; rejects with ERR_DEAD or ERR_UNREACHABLE when there is nobody to ask any more. */
  stop(): Promise<void>;
  monitor(down: (notice: DownNotice) => void): () => void;
  now(): number;
  unhandled(address: string, failure: FailureData): void;
}

/**
 * An actor on another node, as its owner has it: its failure, or its node's, is a failure to the supervisor, else to the owner.
 * It holds no state of the actor; that lives and ends over there.
 */
export class RemoteChild implements Child, SupervisedChild {
  lives = false;
  #unwatch = (): void => {};
  #stopping: Promise<void> | undefined;
  #recovering: Promise<void> | undefined;

  constructor(readonly address: string, private readonly host: RemoteChildHost, private readonly owner: Owner, private readonly supervisor?: Supervisor) {}

  async start(): Promise<void> {
    this.owner.children.add(this);
    try {
      await this.#begin();
      this.supervisor?.join(this);
    } catch (error) {
      this.#leave();
      throw error;
    }
  }

  async suspend(): Promise<void> {
    if (this.lives) await this.#end();
  }

  async resume(): Promise<void> {
    if (this.#stopping || this.lives) return;
    await this.#begin();
    if (this.#stopping) await this.#end();
  }

  stop(): Promise<void> {
    return (this.#stopping ??= this.#stop());
  }

  async #stop(): Promise<void> {
    await this.#recovering;
    if (this.lives) await this.#end();
    this.#leave();
  }

  async #begin(): Promise<void> {
    await this.host.spawn();
    this.lives = true;
    this.#unwatch = this.host.monitor((notice) => this.#down(notice));
  }

  async #end(): Promise<void> {
    this.lives = false;
    this.#unwatch();
    try {
      await this.host.stop();
    } catch (error) {
      if (!isGone(error)) this.host.unhandled(this.address, toFailure(error)); // it is told to stop, and its own node sees to it
    }
  }

  #down(notice: DownNotice): void {
    if (!this.lives) return;
    this.lives = false;
    if (notice.reason === "stopped") return this.#leave();
    const failure = notice.failure ?? toFailure(new RuntimeError(notice.reason === "unreachable" ? "ERR_UNREACHABLE" : "ERR_DEAD", notice.message, { address: this.address }));
    this.#recovering = this.#recover(failure);
  }

  async #recover(failure: FailureData): Promise<void> {
    const givenUp = await this.supervisor?.recover(this, failure, () => this.host.now());
    if (this.supervisor && !givenUp) return;
    this.#leave();
    if (this.#stopping) return;
    for (const other of givenUp?.others ?? []) await other.stop();
    this.owner.fail(givenUp?.reason ?? new RuntimeError("ERR_ACTOR", `actor ${this.address} failed.`, { address: this.address }, { cause: fromFailure(failure) }));
  }

  #leave(): void {
    this.#unwatch();
    this.supervisor?.leave(this);
    this.owner.children.delete(this);
  }
}
