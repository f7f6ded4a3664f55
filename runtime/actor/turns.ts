/** Runs work soon. Returned by `createTurns`. */
export type Schedule = (work: () => void) => void;

/**
 * Work runs as a microtask, which is fast, but at most `perTurn` of it before the event loop turns: two actors of one
 * process that answer each other for ever would otherwise keep timers, sockets and signals from ever being served.
 * A turn that uses less than half of it is not asked for: an Immediate for each message would be a good part of what it costs.
 */
export function createTurns(perTurn = 256): Schedule {
  let left = perTurn;
  let refillComes = false;
  return (work) => {
    if (!refillComes && left <= perTurn / 2) {
      refillComes = true;
      setImmediate(() => {
        left = perTurn;
        refillComes = false;
      });
    }
    if (left-- > 0) void soon.then(work); // not queueMicrotask, which makes an AsyncResource each time
    else setImmediate(work);
  };
}

const soon = Promise.resolve();
