import { native, toFailure } from "../../runtime/index.ts";
import { failureMark } from "../launcher/process.ts";

/** Looks this often for its parent, while something would be left behind if it died with it at once. */
const lookMs = 100;

/**
 * What every program of ours does that another one started (worker, agent, coordinator):
 * it shows its title, it dies with its parent, and it leaves signals from the terminal to its parent, who decides.
 * With `orphaned` it does not die at once at first but calls that when its parent is gone, so that it can take things away
 * (a worker: the sockets that are not linked yet); `settle` ends this time.
 */
export function becomeChild(orphaned?: () => void): { settle(): void } {
  const parent = Number(process.env.OCTAVO_PARENT_PID);
  if (!parent) return { settle() {} }; // started by hand: signals from the terminal are ours
  process.title = process.env.OCTAVO_TITLE ?? process.title;
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => {});
  if (!orphaned) {
    native().dieWithParent(parent);
    return { settle() {} };
  }
  const look = (): void => {
    if (process.ppid === parent) return;
    orphaned();
    process.exit(1);
  };
  look();
  const timer = setInterval(look, lookMs);
  return {
    settle() {
      clearInterval(timer);
      native().dieWithParent(parent);
    },
  };
}

/** Ends this process with its error on stderr: readable text for the log, one JSON line for the parent. */
export function dieOf(thrown: unknown): never {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  // Writing to a pipe or a file is synchronous on Linux: the bytes are out before the exit.
  process.stderr.write(`${error.stack ?? error.message}\n${failureMark}${JSON.stringify(toFailure(thrown))}\n`);
  process.exit(1);
}
