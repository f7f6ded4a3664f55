import { realClock, type Clock } from "../clock.ts";
import { RuntimeError } from "../errors.ts";
import { checkName } from "./address.ts";
import { defaultQueueLimits, type QueueLimits } from "./outgoing-queue.ts";
import type { ConnectOptions, LinkStatus, PeerDown, Transport } from "./transport.ts";
import { socketPath } from "./socket-folder.ts";
import { ZeromqLink } from "./zeromq-link.ts";

export interface ZeromqOptions {
  node: string;
  /** A folder of mode 0700, the same for all nodes of a run (`createSocketFolder`). */
  folder: string;
  limits?: Partial<QueueLimits>;
  clock?: Clock;
}

/**
 * Links over ZeroMQ on one host: for each pair of nodes one DEALER socket at each end, meeting at
 * `<folder>/<a>--<b>.sock`; the lower name binds, the other connects (zeromq-link.ts).
 */
export function createZeromqTransport(options: ZeromqOptions): Transport {
  const { folder, clock = realClock } = options;
  const node = checkName(options.node, "node");
  const limits = { ...defaultQueueLimits, ...options.limits };
  const links = new Map<string, ZeromqLink>();
  const waiting: [string, Uint8Array[]][] = [];
  let onMessage: ((from: string, frames: Uint8Array[]) => void) | undefined;
  let onPeerUp: (node: string) => void = () => {};
  let onPeerDown: (node: string, reason: PeerDown) => void = () => {};
  let closed = false;

  return {
    node,
    onMessage(handler) {
      onMessage = handler;
      for (const [from, frames] of waiting.splice(0)) handler(from, frames);
    },
    onPeerUp: (handler) => void (onPeerUp = handler),
    onPeerDown: (handler) => void (onPeerDown = handler),

    async connect(peer: string, { timeoutMs = 30_000 }: ConnectOptions = {}) {
      if (closed) throw new RuntimeError("ERR_UNREACHABLE", `${node}: the transport is closed, it cannot connect to ${peer}.`, { node: peer });
      if (checkName(peer, "node") === node) throw new RuntimeError("ERR_ADDRESS", `${node}: a node has no link to itself.`, { node });
      let link = links.get(peer);
      if (!link) {
        const made = new ZeromqLink({
          node, peer, path: socketPath(folder, node, peer), limits, clock,
          onUp: () => onPeerUp(peer),
          onMessage: (frames) => (onMessage ? onMessage(peer, frames) : void waiting.push([peer, frames])),
          onDown(reason, wasUp) {
            if (links.get(peer) === made) links.delete(peer);
            if (wasUp) onPeerDown(peer, reason);
          },
        });
        links.set(peer, (link = made));
      }
      await link.open(timeoutMs);
    },

    send(to, frames, { urgent } = {}) {
      const link = links.get(to);
      if (!link) throw new RuntimeError("ERR_UNREACHABLE", `${node}: no link to ${to}. Links: ${[...links.keys()].join(", ") || "none"}.`, { node: to });
      link.send(frames, urgent);
    },

    peers: (): LinkStatus[] => [...links.values()].map((link) => link.status()),
    disconnect: async (peer) => links.get(peer)?.close(),
    async close() {
      closed = true;
      await Promise.all([...links.values()].map((link) => link.close()));
    },
  };
}
