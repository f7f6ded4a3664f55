import type { Clock } from "../clock.ts";
import { type FailureData, RuntimeError, nearest, toFailure } from "../errors.ts";
import { formatAddress } from "../transport/address.ts";
import type { AnyDefinition, Cell, Child, Owner } from "./cell.ts";
import { RemoteChild, type SpawnRequest } from "./remote-child.ts";
import type { Supervisor } from "./supervisor.ts";
import type { DownNotice } from "./system.ts";

export interface RemoteSpawnsHost {
  readonly node: string;
  readonly clock: Clock;
  /** A call to another system itself. */
  ask(node: string, endpoint: string, payload: unknown): Promise<unknown>;
  monitor(address: string, down: (notice: DownNotice) => void): () => void;
  spawn(definition: AnyDefinition, config: unknown, name: string, owner: Owner): Promise<Cell>;
  unhandled(address: string, failure: FailureData): void;
}

/**
 * Actors with an owner on another node, seen from both ends: `start` here for one over there, `serve` here for an owner over there.
 * Names of definitions travel, never code. The one who stops an actor must be the one who owns it.
 */
export class RemoteSpawns {
  #definitions: ReadonlyMap<string, AnyDefinition>;
  /** What lives here for others, by name. */
  #guests = new Map<string, { cell: Promise<Child>; owner: string }>();

  constructor(private readonly host: RemoteSpawnsHost, definitions: readonly AnyDefinition[]) {
    this.#definitions = new Map(definitions.map((definition) => [definition.name, definition]));
  }

  /** Starts an actor on another node and keeps it for its owner here. */
  async start(node: string, request: SpawnRequest, owner: Owner, supervisor?: Supervisor): Promise<void> {
    const { host } = this, address = formatAddress(node, request.name);
    const stop = async (): Promise<void> => void (await host.ask(node, "-stop", request));
    const child = new RemoteChild(address, {
      async spawn() {
        try {
          await host.ask(node, "-spawn", request);
        } catch (error) {
          // Whether it lives over there is not known when nobody answered: it must not, for nobody would own it.
          if (["ERR_DEADLINE", "ERR_ABORTED"].includes(toFailure(error).code)) await stop().catch((also: unknown) => host.unhandled(address, toFailure(also)));
          throw error;
        }
      },
      stop,
      monitor: (down) => host.monitor(address, down),
      now: () => host.clock.now(),
      unhandled: host.unhandled,
    }, owner, supervisor);
    await child.start();
  }

  /** What the system of an owner over there asks. */
  async serve(endpoint: string, payload: unknown): Promise<null> {
    if (endpoint === "-spawn") await this.#spawn(payload as SpawnRequest);
    else if (endpoint === "-stop") await this.#stop(payload as SpawnRequest);
    else throw new RuntimeError("ERR_ENDPOINT", `system ${this.host.node} has no endpoint "${endpoint}". It has: -spawn, -stop.`, { endpoint });
    return null;
  }

  async #spawn({ definition: name, name: actor, config, owner }: SpawnRequest): Promise<void> {
    const definition = this.#definitions.get(name);
    if (!definition) {
      const near = nearest(name, this.#definitions.keys());
      throw new RuntimeError("ERR_ADDRESS", `node ${this.host.node} cannot start an actor "${name}"${near ? `; did you mean "${near}"?` : ":"} it was given the definitions ` +
        `${[...this.#definitions.keys()].join(", ") || "of none"}. Name it in createActorSystem({ definitions }).`, { node: this.host.node, definition: name });
    }
    // its failure is told to its owner by the monitor that the owner has on it
    const guest = { owner, cell: this.host.spawn(definition, config, actor, { children: new Set(), fail: () => {} }) };
    if (!this.#guests.has(actor)) this.#guests.set(actor, guest); // else the name is taken, and the spawn is about to say so
    const forget = (): boolean => this.#guests.get(actor) === guest && this.#guests.delete(actor);
    try {
      const cell = await guest.cell;
      const unwatch = this.host.monitor(owner, () => void cell.stop());
      this.host.monitor(cell.address, () => (unwatch(), forget()));
    } catch (error) {
      forget();
      throw error;
    }
  }

  async #stop({ name, owner }: SpawnRequest): Promise<void> {
    const guest = this.#guests.get(name);
    if (guest?.owner === owner) await guest.cell.then((cell) => cell.stop(), () => {}); // one that could not begin is gone
  }
}
