/** Time as a value one is given: real in production, moved by hand in tests. All times are milliseconds. */
export interface Clock {
  /** Milliseconds since an arbitrary origin; never runs backwards. */
  now(): number;
  /** Calls `fire` once after `delayMs`; the returned function cancels it. */
  after(delayMs: number, fire: () => void): Cancel;
}

export interface Cancel {
  (): void;
  /** Whether the process stays for this timer; at first it does. Clocks whose timers hold no process have none. */
  keepAlive?(on: boolean): void;
}

export const realClock: Clock = {
  now: () => performance.now(),
  after(delayMs, fire) {
    const timer = setTimeout(fire, delayMs);
    const cancel: Cancel = () => clearTimeout(timer);
    cancel.keepAlive = (on) => void (on ? timer.ref() : timer.unref());
    return cancel;
  },
};

/** A clock that stands still until `advance` is called; timers fire in the order of their due times. */
export function simulatedClock(): Clock & { advance(byMs: number): void } {
  let now = 0;
  const timers = new Set<{ due: number; fire: () => void }>();
  return {
    now: () => now,
    after(delayMs, fire) {
      const timer = { due: now + delayMs, fire };
      timers.add(timer);
      return () => timers.delete(timer);
    },
    advance(byMs) {
      const end = now + byMs;
      for (;;) {
        const due = [...timers].filter((t) => t.due <= end).sort((a, b) => a.due - b.due)[0];
        if (!due) break;
        timers.delete(due);
        now = Math.max(now, due.due);
        due.fire();
      }
      now = end;
    },
  };
}
