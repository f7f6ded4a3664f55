import type { Cancel, Clock } from "../clock.ts";

/** Deadlines within one span of this many milliseconds are looked through together when the first of them is due. */
const spanMs = 64;

export interface Deadline {
  readonly dueMs: number;
  readonly expired: () => void;
}

/**
 * Many deadlines and one timer: nearly all of them are taken back before they are due, and a timer each would be most of what a call costs.
 *
 * DL-1: `expired` runs once, not before its time, in the order of the due times' spans; unless `cancel` came first.
 * DL-2: a deadline that waits keeps the process alive; a timer that only waits for cancelled ones does not.
 */
export class Deadlines {
  #spans = new Map<number, Set<Deadline>>();
  #size = 0;
  #armedFor = Infinity;
  #timer: Cancel | undefined;
  constructor(private readonly clock: Clock) {}

  get size(): number {
    return this.#size;
  }

  after(delayMs: number, expired: () => void): Deadline {
    const deadline = { dueMs: this.clock.now() + delayMs, expired };
    const span = Math.floor(deadline.dueMs / spanMs);
    const there = this.#spans.get(span);
    if (there) there.add(deadline);
    else this.#spans.set(span, new Set([deadline]));
    if (this.#size++ === 0) this.#timer?.keepAlive?.(true);
    if (deadline.dueMs < this.#armedFor) this.#arm(deadline.dueMs);
    return deadline;
  }

  cancel(deadline: Deadline): void {
    if (!this.#remove(deadline)) return;
    if (this.#size > 0) return;
    if (this.#timer?.keepAlive) this.#timer.keepAlive(false);
    else this.#disarm();
  }

  /** A span that is empty stays until it is over: the next deadline is likely to be in it. */
  #remove(deadline: Deadline): boolean {
    if (!this.#spans.get(Math.floor(deadline.dueMs / spanMs))?.delete(deadline)) return false;
    this.#size--;
    return true;
  }

  #arm(dueMs: number): void {
    this.#disarm();
    this.#armedFor = dueMs;
    this.#timer = this.clock.after(Math.max(0, dueMs - this.clock.now()), () => this.#ring());
  }

  #disarm(): void {
    this.#timer?.();
    this.#timer = undefined;
    this.#armedFor = Infinity;
  }

  #ring(): void {
    this.#disarm();
    const now = this.clock.now();
    for (const span of [...this.#spans.keys()].filter((one) => one * spanMs <= now).sort((a, b) => a - b)) {
      for (const deadline of [...this.#spans.get(span)!].filter(({ dueMs }) => dueMs <= now)) if (this.#remove(deadline)) deadline.expired();
      if (this.#spans.get(span)!.size === 0) this.#spans.delete(span);
    }
    const next = this.#next();
    if (next < this.#armedFor) this.#arm(next);
  }

  #next(): number {
    let first = Infinity;
    for (const [span, { size }] of this.#spans) if (size > 0 && span < first) first = span;
    return first === Infinity ? Infinity : Math.min(...[...this.#spans.get(first)!].map(({ dueMs }) => dueMs));
  }
}
