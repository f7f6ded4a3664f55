import { type Clock, realClock } from "../clock.ts";

export interface EventLoopDelay {
  /** Ticks of the timer since the start or the last `reset`. */
  ticks: number;
  /** Those that came more than `lateMs` after they were due. */
  late: number;
  worstMs: number;
}

/**
 * Does JavaScript get its turn? A timer of 1 ms measures it: a tick is late by the time something held the event loop.
 * ED-1: `late` counts ticks more than `lateMs` behind their due time, which is `intervalMs` after the tick before.
 * ED-2: the meter keeps the process alive until `stop`.
 */
export interface EventLoopMeter {
  read(): EventLoopDelay;
  reset(): void;
  stop(): void;
}

export function measureEventLoop({ intervalMs = 1, lateMs = 50, clock = realClock }: { intervalMs?: number; lateMs?: number; clock?: Clock } = {}): EventLoopMeter {
  let delay: EventLoopDelay = { ticks: 0, late: 0, worstMs: 0 };
  let cancel: () => void;
  function arm(): void {
    const due = clock.now() + intervalMs;
    cancel = clock.after(intervalMs, () => {
      const behindMs = Math.max(0, clock.now() - due);
      delay.ticks++;
      if (behindMs > lateMs) delay.late++;
      delay.worstMs = Math.max(delay.worstMs, behindMs);
      arm();
    });
  }
  arm();
  return {
    read: () => ({ ...delay }),
    reset: () => void (delay = { ticks: 0, late: 0, worstMs: 0 }),
    stop: () => cancel(),
  };
}
