import { RuntimeError } from "../errors.ts";

export interface QueueLimits {
  /** Default 8192. */
  messages: number;
  /** Default 512 MiB: a microbatch's activations of a few MB, many times over, and still far from a host's memory. */
  bytes: number;
}

export const defaultQueueLimits: QueueLimits = { messages: 8192, bytes: 512 * 2 ** 20 };

/** Urgent messages have a bound of their own, which no peer that reads ever meets. */
export const mostUrgent = 65_536;

/** What is next to go: messages of one kind, first in first out. Once they are out, the head is handed back to `drop`. */
export interface Head {
  readonly messages: readonly (readonly Uint8Array[])[];
  readonly urgent: boolean;
}

/**
 * What a link has accepted and not yet handed on, bounded (TR-2): first in, first out, but urgent messages before all others (TR-7).
 */
export class OutgoingQueue {
  #ordinary = new Fifo();
  #urgent = new Fifo();
  constructor(readonly to: string, readonly limits: QueueLimits) {}

  get messages(): number {
    return this.#ordinary.length + this.#urgent.length;
  }
  get bytes(): number {
    return this.#ordinary.bytes + this.#urgent.bytes;
  }

  push(frames: readonly Uint8Array[], urgent = false): void {
    const bytes = sizeOf(frames), { length, bytes: waiting } = this.#ordinary;
    // One message larger than the limit may pass when nothing waits: otherwise it could never be sent at all.
    if (urgent ? this.#urgent.length >= mostUrgent : length >= this.limits.messages || (length > 0 && waiting + bytes > this.limits.bytes)) {
      throw new RuntimeError("ERR_MAILBOX_FULL", `link to ${this.to}: ${this.messages} messages (${this.bytes} bytes) wait already, limits are ` +
        `${this.limits.messages} messages and ${this.limits.bytes} bytes. The peer reads too slowly: send fewer before awaiting replies.`,
        { to: this.to, messages: this.messages, bytes: this.bytes, limits: this.limits });
    }
    (urgent ? this.#urgent : this.#ordinary).push(frames, bytes);
  }

  /** Past the limits and behind everything: for the one message that ends a link. */
  append(frames: readonly Uint8Array[]): void {
    this.#ordinary.push(frames, 0);
  }

  /** The next messages, which stay in the queue until `drop`: one, or several in a row of one frame each, at most `mostBytes` together. */
  head(mostMessages = 1, mostBytes = 0): Head | undefined {
    const urgent = this.#urgent.length > 0;
    const messages = (urgent ? this.#urgent : this.#ordinary).head(mostMessages, mostBytes);
    return messages.length > 0 ? { messages, urgent } : undefined;
  }

  drop({ messages, urgent }: Head): void {
    (urgent ? this.#urgent : this.#ordinary).drop(messages.length);
  }

  clear(): void {
    this.#ordinary = new Fifo();
    this.#urgent = new Fifo();
  }
}

class Fifo {
  #items: (readonly Uint8Array[])[] = [];
  #sizes: number[] = [];
  #head = 0;
  bytes = 0;

  get length(): number {
    return this.#items.length - this.#head;
  }

  push(frames: readonly Uint8Array[], bytes: number): void {
    this.#items.push(frames);
    this.#sizes.push(bytes);
    this.bytes += bytes;
  }

  head(mostMessages: number, mostBytes: number): (readonly Uint8Array[])[] {
    const messages: (readonly Uint8Array[])[] = [];
    let bytes = 0;
    for (let i = this.#head; i < this.#items.length && messages.length < mostMessages; i++) {
      bytes += this.#sizes[i];
      const joins = this.#items[i].length === 1 && bytes <= mostBytes;
      if (messages.length > 0 && !joins) break;
      messages.push(this.#items[i]);
      if (!joins) break;
    }
    return messages;
  }

  drop(count: number): void {
    for (let i = 0; i < count; i++) {
      this.bytes -= this.#sizes[this.#head];
      this.#items[this.#head++] = [];
    }
    if (this.#head === this.#items.length || this.#head > 1024) {
      this.#items = this.#items.slice(this.#head);
      this.#sizes = this.#sizes.slice(this.#head);
      this.#head = 0;
    }
  }
}

function sizeOf(frames: readonly Uint8Array[]): number {
  let bytes = 0;
  for (const frame of frames) bytes += frame.byteLength;
  return bytes;
}
