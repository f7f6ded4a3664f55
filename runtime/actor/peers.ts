import { randomInt } from "node:crypto";
import { RuntimeError, toFailure } from "../errors.ts";
import { parseAddress } from "../transport/address.ts";
import { decode, encode } from "../transport/codec.ts";
import { type Envelope, isUrgent } from "../transport/envelope.ts";
import type { Transport } from "../transport/transport.ts";
import { Arrivals } from "./arrivals.ts";
import type { Deadline, Deadlines } from "./deadlines.ts";

/** Why nothing goes to a node any more. `dead`: its process is gone. `unreachable`: it may live, but messages do not get through. */
export interface Down {
  fact: "dead" | "unreachable";
  reason: string;
}

export interface PeersHost {
  readonly node: string;
  readonly transport: Transport | undefined;
  readonly deadlines: Deadlines;
  receive(from: string, envelope: Envelope): void;
  /** Bytes that are no message, or not from whom they say. */
  refused(from: string, error: unknown): void;
  down(node: string, down: Down): void;
}

/** How long a message may be missing while later ones have come: then it is lost, and with it the trust in the link. */
export const missingMs = 5000;

/** The other nodes as this one knows them: the numbers of what goes to them, the order of what comes (arrivals.ts), and who is down. */
export class Peers {
  #going = new Map<string, { session: number; ordinary: number; urgent: number }>();
  #coming = new Map<string, Coming>();
  #down = new Map<string, Down>();
  constructor(private readonly host: PeersHost) {}

  isDown(node: string): Down | undefined {
    return this.#down.get(node);
  }

  get dropped(): number {
    return [...this.#coming.values()].reduce((sum, { arrivals }) => sum + arrivals.dropped, 0);
  }

  /** Throws when it is already known that the message cannot arrive. */
  send(node: string, envelope: Envelope): void {
    const down = this.#down.get(node);
    if (down) throw new RuntimeError(down.fact === "dead" ? "ERR_DEAD" : "ERR_UNREACHABLE", `${envelope.to}: node ${node} is ${down.fact}: ${down.reason}`, { address: envelope.to, node });
    if (!this.host.transport) throw new RuntimeError("ERR_UNREACHABLE", `${envelope.to}: system ${this.host.node} has no transport to other nodes.`, { address: envelope.to });
    let going = this.#going.get(node);
    if (!going) this.#going.set(node, (going = { session: randomInt(1, 2 ** 32), ordinary: 0, urgent: 0 }));
    const urgent = isUrgent(envelope), line = urgent ? "urgent" : "ordinary";
    envelope.session = going.session;
    envelope.sequence = going[line];
    this.host.transport.send(node, encode(envelope), urgent ? { urgent } : undefined);
    going[line]++; // a message that was refused has no number
  }

  arrived(from: string, frames: Uint8Array[]): void {
    try {
      const envelope = decode(frames);
      if (parseAddress(envelope.from).node !== from || parseAddress(envelope.to).node !== this.host.node) {
        throw new RuntimeError("ERR_ENVELOPE", `message on the link from ${from} to ${this.host.node} says it goes from ${envelope.from} to ${envelope.to}.`, { link: from });
      }
      let coming = this.#coming.get(from);
      if (!coming) this.#coming.set(from, (coming = { arrivals: new Arrivals(), patience: undefined, deliver: (next) => this.host.receive(from, next) }));
      const bounded = coming.arrivals.accept(envelope, coming.deliver);
      if (!bounded || coming.patience || coming.arrivals.waits) this.#watchGap(from, coming, bounded);
    } catch (error) {
      this.host.refused(from, error);
    }
  }

  down(node: string, down: Down): void {
    if (this.#down.has(node)) return;
    this.#down.set(node, down);
    const coming = this.#coming.get(node);
    if (coming?.patience) this.host.deadlines.cancel(coming.patience.deadline);
    if (coming) coming.patience = undefined;
    this.host.down(node, down);
  }

  /** The node is there again: what goes there is a session of its own. (A node that was not down has at most waited for its first link.) */
  up(node: string): void {
    if (this.#down.delete(node)) this.#going.delete(node);
  }

  /** A message is missing while later ones have come: after a while the link is given up, so that both ends know. */
  #watchGap(from: string, coming: Coming, bounded: boolean): void {
    const { missing } = coming.arrivals;
    if (missing === coming.patience?.missing && bounded) return;
    if (coming.patience) this.host.deadlines.cancel(coming.patience.deadline);
    coming.patience = undefined;
    if (!bounded) this.#lost(from, coming, "too many later ones wait for it");
    else if (missing !== undefined) {
      coming.patience = { missing, deadline: this.host.deadlines.after(missingMs, () => this.#lost(from, coming, `later ones came, it did not within ${missingMs} ms`)) };
    }
  }

  #lost(from: string, coming: Coming, how: string): void {
    const { missing } = coming.arrivals;
    coming.patience = undefined;
    coming.arrivals.end();
    this.down(from, { fact: "unreachable", reason: `message ${missing} of its link to ${this.host.node} was lost: ${how}` });
    this.host.transport?.disconnect(from).catch((error: unknown) => this.host.refused(from, error));
  }
}

interface Coming {
  readonly arrivals: Arrivals;
  readonly deliver: (envelope: Envelope) => void;
  /** While a message is missing. */
  patience: { missing: number; deadline: Deadline } | undefined;
}

export const isGone = (error: unknown): boolean => ["ERR_DEAD", "ERR_UNREACHABLE"].includes(toFailure(error).code);
