import type { Transport } from "../../../runtime/transport/transport.ts";

/**
 * A transport that behaves as one does which connects again by itself and is not sure what had arrived: after `reconnect` it brings some of
 * what it had brought once more, late ones between the new ones and in any order. Nothing is ever lost, unless `lose` says so.
 */
export function unruly(inner: Transport, random: (n: number) => number): Transport & { reconnected(): void; lose(next: boolean): void } {
  let handler: ((from: string, frames: Uint8Array[]) => void) | undefined;
  const history: [string, Uint8Array[]][] = [];
  const jumbled: [string, Uint8Array[]][] = [];
  let losing = false, unsettled = 0, flushing = false;

  function arrive(from: string, frames: Uint8Array[]): void {
    if (losing) return void (losing = false);
    history.push([from, frames]);
    jumbled.push([from, frames]);
    if (unsettled > 0) {
      unsettled--;
      jumbled.push(history[random(history.length)]); // again, or from before the break
    }
    if (flushing) return;
    flushing = true;
    setImmediate(flush);
  }
  function flush(): void {
    flushing = false;
    const batch = jumbled.splice(0);
    if (unsettled > 0) for (let i = batch.length - 1; i > 0; i--) {
      const j = random(i + 1);
      [batch[i], batch[j]] = [batch[j], batch[i]];
    }
    for (const [from, frames] of batch) handler?.(from, frames);
  }
  inner.onMessage(arrive);
  return {
    node: inner.node,
    send: (to, frames, options) => inner.send(to, frames, options),
    onMessage: (given) => void (handler = given),
    onPeerUp: (given) => inner.onPeerUp(given),
    onPeerDown: (given) => inner.onPeerDown(given),
    connect: (node, options) => inner.connect(node, options),
    disconnect: (node) => inner.disconnect(node),
    peers: () => inner.peers(),
    close: () => inner.close(),
    /** The next hundred messages come jumbled with old ones. */
    reconnected: () => void (unsettled = 100),
    lose: (next) => void (losing = next),
  };
}
