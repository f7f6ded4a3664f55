import { realClock, type Clock } from "../../runtime/index.ts";

/** npx and npm pass a Ctrl-C on that the terminal has already sent to us: two within this time are one press. */
const samePressMs = 100;

/**
 * Ctrl-C and SIGTERM: the first asks the run to stop after saving, the second ends this process at once
 * (its workers die with it). Workers ignore both signals, so that the first one reaches only us.
 */
export function stopOnSignals(said: (message: string) => void, clock: Clock = realClock): { signal: AbortSignal; dispose(): void } {
  const controller = new AbortController();
  let abortedAt = -Infinity;
  const names = ["SIGINT", "SIGTERM"] as const;
  const listeners = names.map((name) => {
    const listener = (): void => {
      if (!controller.signal.aborted) {
        said(`${name}: stopping after the current step and its checkpoint; once more ends at once`);
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
