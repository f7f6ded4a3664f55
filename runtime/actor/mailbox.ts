import { RuntimeError } from "../errors.ts";

/**
 * What an actor has been sent and has not begun: two queues, because interleaved messages do not wait for ordinary ones.
 *
 * MB-1: messages from one sender to ordinary endpoints are begun in the order sent; so are those to interleaved
 *       endpoints. Between the two kinds there is no order: that is what interleaving is for.
 * MB-2: at most `capacity` messages wait or run interleaved; one more is refused with ERR_MAILBOX_FULL, none is dropped.
 *       A refused call rejects, a refused local cast throws, a refused remote cast comes back to its system's `onFailure`.
 * MB-3: waiting messages outlive a restart by a supervisor, in order; the message that failed is not delivered again.
 */
export class Mailbox<Message> {
  #ordinary: Message[] = [];
  #interleaved: Message[] = [];
  /** Interleaved messages begun and not ended: they count, else a flood of them would be unbounded. */
  running = 0;

  constructor(readonly owner: string, readonly capacity: number) {}

  get waiting(): number {
    return this.#ordinary.length + this.#interleaved.length;
  }

  push(message: Message, interleaved: boolean): void {
    if (this.waiting + this.running >= this.capacity) {
      throw new RuntimeError("ERR_MAILBOX_FULL", `actor ${this.owner}: ${this.waiting + this.running} messages wait already, its capacity is ${this.capacity}. ` +
        "Await replies before sending more, or give the definition a larger mailbox.", { address: this.owner, capacity: this.capacity });
    }
    (interleaved ? this.#interleaved : this.#ordinary).push(message);
  }

  next(interleaved: boolean): Message | undefined {
    return (interleaved ? this.#interleaved : this.#ordinary).shift();
  }

  all(): Message[] {
    return [...this.#ordinary, ...this.#interleaved];
  }

  takeAll(): Message[] {
    return [...this.#ordinary.splice(0), ...this.#interleaved.splice(0)];
  }
}
