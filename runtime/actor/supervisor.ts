import { type FailureData, RuntimeError, fromFailure } from "../errors.ts";

/**
 * Restarts the actors spawned under it, each for itself (one-for-one), within a budget.
 *
 * SUP-1: an actor fails when its `cast` handler throws, or when an actor it owns fails unhandled. Under a supervisor it
 *        is started again with the same name and config; references to it stay good; waiting messages stay (MB-3).
 * SUP-2: at most `max` restarts within `withinMs`, counted over all children. One more: the supervisor gives up, stops
 *        its other children, and fails its owner (the actor whose context spawned them), or the system's `onFailure`.
 * SUP-3: a failing `init` during a restart counts as one more failure. The first `init` is the caller's: `spawn` rejects.
 */
export interface Supervisor {
  readonly name: string;
  readonly intensity: RestartIntensity;
  /** Restarts so far, over all children. */
  readonly restarts: number;
  /** For the system: a child joins, leaves, or has failed at `nowMs`. */
  join(child: SupervisedChild): void;
  leave(child: SupervisedChild): void;
  decide(child: SupervisedChild, failure: FailureData, nowMs: number): Decision;
}

/** At most `max` restarts within `withinMs`. */
export interface RestartIntensity {
  max: number;
  withinMs: number;
}

export interface SupervisorOptions {
  name: string;
  /** Default: 3 within 60 000 ms. `max: 0` never restarts. */
  intensity?: RestartIntensity;
  onRestart?(event: { address: string; failure: FailureData; restarts: number }): void;
}

export interface SupervisedChild {
  readonly address: string;
}

export type Decision = { restart: true } | { restart: false; others: SupervisedChild[]; reason: RuntimeError };

export function createSupervisor({ name, intensity = { max: 3, withinMs: 60_000 }, onRestart }: SupervisorOptions): Supervisor {
  const children = new Set<SupervisedChild>();
  const recent: number[] = [];
  let restarts = 0;
  return {
    name,
    intensity,
    get restarts() {
      return restarts;
    },
    join: (child) => void children.add(child),
    leave: (child) => void children.delete(child),
    decide(child, failure, nowMs) {
      while (recent.length > 0 && recent[0] <= nowMs - intensity.withinMs) recent.shift();
      if (recent.length >= intensity.max) {
        const reason = new RuntimeError("ERR_ACTOR", `supervisor "${name}" gives up: ${child.address} failed once more after ${recent.length} restarts ` +
          `within ${intensity.withinMs} ms (allowed: ${intensity.max}).`, { supervisor: name, address: child.address, restarts: recent.length }, { cause: fromFailure(failure) });
        children.delete(child);
        return { restart: false, others: [...children].reverse(), reason };
      }
      recent.push(nowMs);
      restarts++;
      onRestart?.({ address: child.address, failure, restarts });
      return { restart: true };
    },
  };
}
