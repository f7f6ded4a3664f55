/**
 * Values that arrive when they arrive, taken when they are needed, each once, by key.
 * IN-1: `take` resolves at once when the value is there, else when it comes. IN-2: a key that comes twice is an error, never overwritten.
 * IN-3: after `fail` every `take`, waiting or later, rejects with the reason.
 * IN-4: a `take` whose signal aborts rejects with the signal's reason and takes nothing: what comes later under its key stays for `drain`.
 */
export class Inbox<T> {
  readonly #arrived = new Map<string, T>();
  readonly #waiting = new Map<string, Waiter<T>>();
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

  take(key: string, signal?: AbortSignal): Promise<T> {
    if (this.#failure) return Promise.reject(this.#failure.reason);
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#arrived.has(key)) {
      const value = this.#arrived.get(key) as T;
      this.#arrived.delete(key);
      return Promise.resolve(value);
    }
    return waitFor<T>(signal, (waiter) => this.#waiting.set(key, waiter), () => this.#waiting.delete(key));
  }

  /** What arrived and was not taken; the inbox forgets it. */
  drain(): T[] {
    const left = [...this.#arrived.values()];
    this.#arrived.clear();
    return left;
  }

  /** How many `take`s wait. */
  get waiting(): number {
    return this.#waiting.size;
  }

  fail(reason: unknown): void {
    this.#failure ??= { reason }; // what fails later follows from it
    for (const { reject } of this.#waiting.values()) reject(this.#failure.reason);
    this.#waiting.clear();
  }
}

/**
 * A bounded number of permits: the microbatches an edge may have under way. `acquire` waits for a free one.
 * CR-1: permits go to those who wait in the order they came. CR-2: whoever gave up waiting, by its signal, gets none and costs none.
 * CR-3: after `fail` every `acquire`, waiting or later, rejects with the reason.
 */
export class Credits {
  #free: number;
  readonly #waiting = new Set<Waiter<void>>();
  #failure: { reason: unknown } | undefined;

  constructor(readonly limit: number) {
    this.#free = limit;
  }

  acquire(signal?: AbortSignal): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure.reason);
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#free > 0) {
      this.#free--;
      return Promise.resolve();
    }
    return waitFor<void>(signal, (waiter) => this.#waiting.add(waiter), (waiter) => this.#waiting.delete(waiter));
  }

  /** Gives one permit back: to the longest waiting, else to the pool. More than `limit` is an error of the peer. */
  giveBack(): void {
    const [next] = this.#waiting;
    if (next) {
      this.#waiting.delete(next);
      next.resolve();
    } else if (++this.#free > this.limit) throw new Error(`credits: more than ${this.limit} came back`);
  }

  fail(reason: unknown): void {
    this.#failure ??= { reason };
    for (const { reject } of this.#waiting) reject(this.#failure.reason);
    this.#waiting.clear();
  }
}

interface Waiter<T> {
  resolve(value: T): void;
  reject(reason: unknown): void;
}

/** A promise for what `enter` registers; `leave` takes it out again when the signal aborts first. */
function waitFor<T>(signal: AbortSignal | undefined, enter: (waiter: Waiter<T>) => void, leave: (waiter: Waiter<T>) => void): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const aborted = (): void => {
      leave(waiter);
      reject(signal!.reason as Error);
    };
    const ended = (): void => signal?.removeEventListener("abort", aborted);
    const waiter: Waiter<T> = {
      resolve: (value) => (ended(), resolve(value)),
      reject: (reason) => (ended(), reject(reason)),
    };
    signal?.addEventListener("abort", aborted, { once: true });
    enter(waiter);
  });
}
