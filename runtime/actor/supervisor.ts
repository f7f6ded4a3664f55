import { type FailureData, RuntimeError, fromFailure, toFailure } from "../errors.ts";

/**
 * Restarts the actors spawned under it, within a budget.
 *
 * SUP-1: an actor fails when its `cast` handler throws, or when an actor it owns fails unhandled. Under a supervisor it
 *        is started again with the same name and config; references to it stay good; waiting messages stay (MB-3).
 * SUP-2: at most `max` restarts within `withinMs`, counted over all children. One more: the supervisor gives up, stops
 *        its other children, and fails its owner (the actor whose context spawned them), or the system's `onFailure`.
 * SUP-3: a failing `init` during a restart counts as one more failure. The first `init` is the caller's: `spawn` rejects.
 * SUP-4: `one-for-one`: the failed actor alone begins again. `one-for-all`: all do. `rest-for-one`: it and those spawned after it.
 *        Those who must end do so in the reverse order of their spawning, then all begin again in that order. One restart is counted.
 * SUP-5: failures are taken one at a time; an actor that failed while it was being restarted with others is not restarted once more.
 * SUP-6: children on other nodes (SpawnOptions.node) are supervised alike; the death of their node is their failure. They begin again
 *        on the same node: while that is dead each try is a failing `init` (SUP-3). What waited for them is lost with their life.
 */
export interface Supervisor {
  readonly name: string;
  readonly strategy: RestartStrategy;
  readonly intensity: RestartIntensity;
  /** Restarts so far, over all children. */
  readonly restarts: number;
  /** For the system: a child joins, or is gone. */
  join(child: SupervisedChild): void;
  leave(child: SupervisedChild): void;
  /** For the system: a child's life has ended by a failure. Resolves once it lives again, or with the end of patience. */
  recover(child: SupervisedChild, failure: FailureData, now: () => number): Promise<GivenUp | undefined>;
}

export const restartStrategies = ["one-for-one", "one-for-all", "rest-for-one"] as const;
export type RestartStrategy = (typeof restartStrategies)[number];

/** At most `max` restarts within `withinMs`. */
export interface RestartIntensity {
  max: number;
  withinMs: number;
}

export interface SupervisorOptions {
  name: string;
  /** Default `one-for-one`. */
  strategy?: RestartStrategy;
  /** Default: 3 within 60 000 ms. `max: 0` never restarts. */
  intensity?: RestartIntensity;
  /** `address` failed, `restarted` begin again: itself and those that go with it, in the order of their spawning. */
  onRestart?(event: { address: string; failure: FailureData; restarts: number; restarted: string[] }): void;
}

export interface SupervisedChild {
  readonly address: string;
  readonly lives: boolean;
  /** Ends its present life, if it has one; name, config and place stay. */
  suspend(because: FailureData): Promise<void>;
  /** Begins its next life; rejects when that fails. Does nothing for a child that was asked to stop. */
  resume(): Promise<void>;
  stop(): Promise<void>;
}

/** The others are to stop, in this order. */
export interface GivenUp {
  others: SupervisedChild[];
  reason: RuntimeError;
}

export function createSupervisor({ name, strategy = "one-for-one", intensity = { max: 3, withinMs: 60_000 }, onRestart }: SupervisorOptions): Supervisor {
  const children = new Set<SupervisedChild>();
  const recent: number[] = [];
  let restarts = 0;
  let turn: Promise<unknown> = Promise.resolve();

  function concerned(child: SupervisedChild): SupervisedChild[] {
    const all = [...children];
    return strategy === "one-for-one" ? [child] : strategy === "one-for-all" ? all : all.slice(all.indexOf(child));
  }

  function exhausted(child: SupervisedChild, failure: FailureData, nowMs: number): RuntimeError | undefined {
    while (recent.length > 0 && recent[0] <= nowMs - intensity.withinMs) recent.shift();
    if (recent.length < intensity.max) return undefined;
    return new RuntimeError("ERR_ACTOR", `supervisor "${name}" gives up: ${child.address} failed once more after ${recent.length} restarts ` +
      `within ${intensity.withinMs} ms (allowed: ${intensity.max}).`, { supervisor: name, address: child.address, restarts: recent.length }, { cause: fromFailure(failure) });
  }

  async function recover(failed: SupervisedChild, first: FailureData, now: () => number): Promise<GivenUp | undefined> {
    if (failed.lives || !children.has(failed)) return undefined; // restarted with others (SUP-5), or stopped meanwhile
    for (let [child, failure] = [failed, first]; ; ) {
      const reason = exhausted(child, failure, now());
      if (reason) {
        children.delete(failed);
        return { others: [...children].reverse(), reason };
      }
      const group = concerned(child);
      recent.push(now());
      restarts++;
      onRestart?.({ address: child.address, failure, restarts, restarted: group.map(({ address }) => address) });
      for (const other of group.toReversed()) if (other !== child) await other.suspend(failure);
      try {
        for (const each of group) await (child = each).resume();
        return undefined;
      } catch (error) {
        failure = toFailure(error);
      }
    }
  }

  return {
    name,
    strategy,
    intensity,
    get restarts() {
      return restarts;
    },
    join: (child) => void children.add(child),
    leave: (child) => void children.delete(child),
    recover(child, failure, now) {
      const mine = turn.then(() => recover(child, failure, now));
      turn = mine.catch(() => undefined); // whoever asked hears it; the next in line is not concerned
      return mine;
    },
  };
}
