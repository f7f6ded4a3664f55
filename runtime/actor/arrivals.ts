import type { Envelope } from "../transport/envelope.ts";
import { isUrgent } from "../transport/envelope.ts";

/** How many sessions of one peer are remembered as over. */
const rememberedSessions = 16;
/** Messages that wait for an earlier one; more means that it will not come. */
const mostHeld = 4096;

interface Line {
  next: number;
  held: Map<number, Envelope>;
}

/**
 * What comes from one peer, put in order. A transport that connects again by itself may bring what it had brought, late and in any order.
 *
 * AR-1: of each session every message is let through once, in the order of its number; what comes again is dropped. Urgent messages are
 *       numbered by themselves.
 * AR-2: a session begins with its first message. What still comes of those before it is dropped: their senders were told of the break.
 * AR-3: a message ahead of its turn waits. `missing` names the one it waits for, so that a loss can be told from a delay.
 */
export class Arrivals {
  #session: number | undefined;
  #over: number[] = [];
  #lines: { ordinary: Line; urgent: Line } = { ordinary: newLine(), urgent: newLine() };
  dropped = 0;

  /** Lets through what is now in order; false when the gap before it has grown beyond its bound. */
  accept(envelope: Envelope, deliver: (envelope: Envelope) => void): boolean {
    if (envelope.session !== this.#session && !this.#begins(envelope.session)) return true;
    const line = isUrgent(envelope) ? this.#lines.urgent : this.#lines.ordinary;
    if (envelope.sequence < line.next || line.held.has(envelope.sequence)) {
      this.dropped++;
      return true;
    }
    if (envelope.sequence > line.next) {
      line.held.set(envelope.sequence, envelope);
      return line.held.size <= mostHeld;
    }
    line.next++;
    deliver(envelope);
    if (line.held.size > 0) for (let next = line.held.get(line.next); next && envelope.session === this.#session; next = line.held.get(line.next)) {
      line.held.delete(line.next++);
      deliver(next);
    }
    return true;
  }

  /** A message waits for an earlier one. */
  get waits(): boolean {
    return this.#lines.ordinary.held.size > 0 || this.#lines.urgent.held.size > 0;
  }

  /** The number of a message that others wait for, if there is one. */
  get missing(): number | undefined {
    const line = [this.#lines.ordinary, this.#lines.urgent].find(({ held }) => held.size > 0);
    return line?.next;
  }

  /** The present session is over: a message of it is lost. */
  end(): void {
    if (this.#session !== undefined) this.#over = [...this.#over.slice(1 - rememberedSessions), this.#session];
    this.#session = undefined;
    this.#lines = { ordinary: newLine(), urgent: newLine() };
  }

  #begins(session: number): boolean {
    if (this.#over.includes(session)) {
      this.dropped++;
      return false;
    }
    this.end();
    this.#session = session;
    return true;
  }
}

const newLine = (): Line => ({ next: 0, held: new Map() });
