/** Runs work soon. Returned by `createTurns`. */
export type Schedule = (work: () => void) => void;

/**
 * Work runs as a microtask, which is fast, but at most `perTurn` of it before the event loop turns: two actors of one
 * process that answer each other for ever would otherwise keep timers, sockets and signals from ever being served.
 */
export function createTurns(perTurn = 256): Schedule {
  let left = perTurn;
  let refillComes = false;
  return (work) => {
    if (!refillComes) {
      refillComes = true;
      setImmediate(() => {
        left = perTurn;
        refillComes = false;
      });
    }
    if (left-- > 0) queueMicrotask(work);
    else setImmediate(work);
  };
}
