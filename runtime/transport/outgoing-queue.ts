import { RuntimeError } from "../errors.ts";

export interface QueueLimits {
  /** Default 8192. */
  messages: number;
  /** Default 512 MiB: a microbatch's activations of a few MB, many times over, and still far from a host's memory. */
  bytes: number;
}

export const defaultQueueLimits: QueueLimits = { messages: 8192, bytes: 512 * 2 ** 20 };

/** What a link has accepted and not yet handed on: first in, first out, bounded (TR-2). */
export class OutgoingQueue {
  #items: { frames: readonly Uint8Array[]; bytes: number }[] = [];
  #head = 0;
  #bytes = 0;
  constructor(readonly to: string, readonly limits: QueueLimits) {}

  get messages(): number {
    return this.#items.length - this.#head;
  }
  get bytes(): number {
    return this.#bytes;
  }

  push(frames: readonly Uint8Array[]): void {
    const bytes = frames.reduce((sum, frame) => sum + frame.byteLength, 0);
    // One message larger than the limit may pass when nothing waits: otherwise it could never be sent at all.
    if (this.messages >= this.limits.messages || (this.messages > 0 && this.#bytes + bytes > this.limits.bytes)) {
      throw new RuntimeError("ERR_MAILBOX_FULL", `link to ${this.to}: ${this.messages} messages (${this.#bytes} bytes) wait already, limits are ` +
        `${this.limits.messages} messages and ${this.limits.bytes} bytes. The peer reads too slowly: send fewer before awaiting replies.`,
        { to: this.to, messages: this.messages, bytes: this.#bytes, limits: this.limits });
    }
    this.append(frames, bytes);
  }

  /** Past the limits: for the one message that ends a link. */
  append(frames: readonly Uint8Array[], bytes = 0): void {
    this.#items.push({ frames, bytes });
    this.#bytes += bytes;
  }

  first(): readonly Uint8Array[] | undefined {
    return this.#items[this.#head]?.frames;
  }

  shift(): void {
    this.#bytes -= this.#items[this.#head].bytes;
    this.#items[this.#head++] = { frames: [], bytes: 0 };
    if (this.#head === this.#items.length || this.#head > 1024) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
  }

  clear(): void {
    this.#items = [];
    this.#head = this.#bytes = 0;
  }
}
