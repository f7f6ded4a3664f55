/** What the choice of an agent looks at. `threads` is what its workers were promised so far. */
export interface Load { workers: number; threads: number; cores: number }

/**
 * For each wanted worker the index of the agent that takes it: the one with the least threads per core, then the fewest workers,
 * then the first to have registered. A pure function, so that the same cluster gives the same placement.
 */
export function place(workers: readonly { threads: number }[], agents: readonly Load[]): number[] {
  const load = agents.map((agent) => ({ ...agent }));
  return workers.map(({ threads }) => {
    let best = 0;
    for (let i = 1; i < load.length; i++) {
      const difference = load[i].threads / load[i].cores - load[best].threads / load[best].cores;
      if (difference < 0 || (difference === 0 && load[i].workers < load[best].workers)) best = i;
    }
    load[best].threads += threads;
    load[best].workers += 1;
    return best;
  });
}
