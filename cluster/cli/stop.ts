import { realClock, type Clock } from "../../runtime/index.ts";

/** npx and npm pass a Ctrl-C on that the terminal has already sent to us: two within this time are one press. */
const samePressMs = 100;

interface StopOptions {
  clock?: Clock;
  /** When the work stops, in words. */
  after?: string;
}

/**
 * Ctrl-C and SIGTERM: the first asks the run to stop where it can, the second ends this process at once
 * (its workers die with it). Workers ignore both signals, so that the first one reaches only us.
 */
export function stopOnSignals(said: (message: string) => void, { clock = realClock, after = "after the current step and its checkpoint" }: StopOptions = {}): { signal: AbortSignal; dispose(): void } {
  const controller = new AbortController();
  let abortedAt = -Infinity;
  const names = ["SIGINT", "SIGTERM"] as const;
  const listeners = names.map((name) => {
    const listener = (): void => {
      if (!controller.signal.aborted) {
        said(`${name}: stopping ${after}; once more ends at once`);
        abortedAt = clock.now();
        controller.abort(name);
        return;
      }
      if (clock.now() - abortedAt < samePressMs) return;
      dispose();
      process.kill(process.pid, name); // the default action: we end by the signal, as the shell expects
    };
    process.on(name, listener);
    return () => process.off(name, listener);
  });
  const dispose = (): void => listeners.forEach((off) => off());
  return { signal: controller.signal, dispose };
}
