/**
 * Values that arrive when they arrive, taken when they are needed, each once, by key.
 * IN-1: `take` resolves at once when the value is there, else when it comes. IN-2: a key that comes twice is an error, never overwritten.
 * IN-3: after `fail` every `take`, waiting or later, rejects with the reason.
 */
export class Inbox<T> {
  readonly #arrived = new Map<string, T>();
  readonly #waiting = new Map<string, { resolve(value: T): void; reject(reason: unknown): void }>();
  #failure: { reason: unknown } | undefined;

  put(key: string, value: T): void {
    const waiting = this.#waiting.get(key);
    if (waiting) {
      this.#waiting.delete(key);
      waiting.resolve(value);
    } else if (this.#arrived.has(key)) {
      throw new Error(`inbox: ${key} arrived twice`);
    } else {
      this.#arrived.set(key, value);
    }
  }

  take(key: string): Promise<T> {
    if (this.#failure) return Promise.reject(this.#failure.reason);
    if (this.#arrived.has(key)) {
      const value = this.#arrived.get(key) as T;
      this.#arrived.delete(key);
      return Promise.resolve(value);
    }
    return new Promise<T>((resolve, reject) => this.#waiting.set(key, { resolve, reject }));
  }

  /** What arrived and was not taken; the inbox forgets it. */
  drain(): T[] {
    const left = [...this.#arrived.values()];
    this.#arrived.clear();
    return left;
  }

  fail(reason: unknown): void {
    this.#failure = { reason };
    for (const { reject } of this.#waiting.values()) reject(reason);
    this.#waiting.clear();
  }
}

/** A bounded number of permits: the microbatches an edge may have under way. `acquire` waits for a free one. */
export class Credits {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(readonly limit: number) {
    this.#free = limit;
  }

  acquire(): Promise<void> {
    if (this.#free > 0) {
      this.#free--;
      return Promise.resolve();
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Gives one permit back: to the longest waiting, else to the pool. More than `limit` is an error of the peer. */
  giveBack(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else if (++this.#free > this.limit) throw new Error(`credits: more than ${this.limit} came back`);
  }
}
