import { type Clock, realClock } from "../clock.ts";
import { RuntimeError } from "../errors.ts";
import { checkName } from "./address.ts";
import { defaultQueueLimits, OutgoingQueue, type QueueLimits } from "./outgoing-queue.ts";
import type { LinkStatus, PeerDown, Transport } from "./transport.ts";

/** Where the in-process transports of one process meet; tests also hold and cut its links by hand. */
export interface Hub {
  transport(node: string, options?: { limits?: Partial<QueueLimits> }): Transport;
  /** While held, messages to `node` stay in their senders' queues, as they do with a peer that does not read. */
  hold(node: string): void;
  release(node: string): void;
  /** The links of `node` break without a goodbye, as when its process is killed. */
  kill(node: string): void;
}

interface Link {
  queue: OutgoingQueue;
  up: boolean;
  flushing: boolean;
}

/** Transports between nodes of one process: same promises as ZeroMQ (TR-1 to TR-6), frames go through the codec as there. */
export function createHub(options: { clock?: Clock } = {}): Hub {
  const clock = options.clock ?? realClock;
  const nodes = new Map<string, InProcessTransport>();
  const held = new Set<string>();
  return {
    transport(node, { limits } = {}) {
      if (nodes.has(checkName(node, "node"))) throw new RuntimeError("ERR_ADDRESS", `node "${node}" has a transport in this hub already.`, { node });
      const transport = new InProcessTransport(node, nodes, held, { ...defaultQueueLimits, ...limits }, clock);
      nodes.set(node, transport);
      return transport;
    },
    hold: (node) => void held.add(node),
    release(node) {
      held.delete(node);
      for (const transport of nodes.values()) transport.flush(node);
    },
    kill: (node) => nodes.get(node)?.end({ kind: "lost", message: `the process of ${node} is gone` }),
  };
}

class InProcessTransport implements Transport {
  #links = new Map<string, Link>();
  #waiting: [string, Uint8Array[]][] = [];
  #onMessage: ((from: string, frames: Uint8Array[]) => void) | undefined;
  #onPeerUp: (node: string) => void = () => {};
  #onPeerDown: (node: string, reason: PeerDown) => void = () => {};
  #expected = new Map<string, { up: () => void; failed: (error: Error) => void }>();

  constructor(readonly node: string, private nodes: Map<string, InProcessTransport>, private held: Set<string>, private limits: QueueLimits, private clock: Clock) {}

  onMessage(handler: (from: string, frames: Uint8Array[]) => void): void {
    this.#onMessage = handler;
    for (const [from, frames] of this.#waiting.splice(0)) handler(from, frames);
  }
  onPeerUp(handler: (node: string) => void): void {
    this.#onPeerUp = handler;
  }
  onPeerDown(handler: (node: string, reason: PeerDown) => void): void {
    this.#onPeerDown = handler;
  }

  async connect(node: string, options: { timeoutMs?: number } = {}): Promise<void> {
    if (this.#links.has(node)) return;
    const peer = this.nodes.get(node);
    if (peer && peer.#expected.has(this.node)) {
      const other = peer.#expected.get(this.node)!;
      peer.#expected.delete(this.node);
      peer.#open(this.node);
      this.#open(node);
      other.up();
      return;
    }
    const timeoutMs = options.timeoutMs ?? 30_000;
    await new Promise<void>((resolve, reject) => {
      const cancel = this.clock.after(timeoutMs, () => {
        this.#expected.delete(node);
        reject(new RuntimeError("ERR_UNREACHABLE", `${this.node}: ${node} did not connect within ${timeoutMs} ms.`, { node, timeoutMs }));
      });
      this.#expected.set(node, { up: () => (cancel(), resolve()), failed: (error) => (cancel(), reject(error)) });
    });
  }

  send(to: string, frames: readonly Uint8Array[], { urgent }: { urgent?: boolean } = {}): void {
    const link = this.#links.get(to);
    if (!link) throw new RuntimeError("ERR_UNREACHABLE", `${this.node}: no link to ${to}. Links: ${[...this.#links.keys()].join(", ") || "none"}.`, { node: to });
    link.queue.push(frames, urgent);
    this.flush(to);
  }

  /** Delivers in a later turn of the event loop, never inside `send`. */
  flush(to: string): void {
    const link = this.#links.get(to);
    if (!link || link.flushing || this.held.has(to)) return;
    link.flushing = true;
    setImmediate(() => {
      link.flushing = false;
      for (let head = link.queue.head(); head && link.up && !this.held.has(to); head = link.queue.head()) {
        link.queue.drop(head);
        const peer = this.nodes.get(to);
        if (peer) peer.#receive(this.node, [...head.messages[0]]);
      }
    });
  }

  peers(): LinkStatus[] {
    const waiting = [...this.#expected.keys()].map((node): LinkStatus => ({ node, state: "connecting", endpoint: "in-process", queuedMessages: 0, queuedBytes: 0 }));
    return [...waiting, ...[...this.#links].map(([node, { queue }]): LinkStatus =>
      ({ node, state: "up", endpoint: "in-process", queuedMessages: queue.messages, queuedBytes: queue.bytes }))];
  }

  async disconnect(node: string): Promise<void> {
    await this.#drained(node);
    this.#cut(node, { kind: "closed", message: `${this.node} closed the link` });
  }

  async close(): Promise<void> {
    await Promise.all([...this.#links.keys()].map((node) => this.#drained(node)));
    this.end({ kind: "closed", message: `${this.node} closed the link` });
  }

  end(reason: PeerDown): void {
    for (const { failed } of this.#expected.values()) failed(new RuntimeError("ERR_UNREACHABLE", `${this.node} closed its transport.`, { node: this.node }));
    this.#expected.clear();
    for (const node of [...this.#links.keys()]) this.#cut(node, reason);
    this.nodes.delete(this.node);
  }

  /** What is queued leaves within one turn unless the peer is held; then it is given up (TR-6). */
  async #drained(node: string): Promise<void> {
    if (this.#links.get(node)?.queue.messages) await new Promise((resolve) => setImmediate(resolve));
  }

  #open(node: string): void {
    this.#links.set(node, { queue: new OutgoingQueue(node, this.limits), up: true, flushing: false });
    this.#onPeerUp(node);
  }

  #receive(from: string, frames: Uint8Array[]): void {
    if (this.#onMessage) this.#onMessage(from, frames);
    else this.#waiting.push([from, frames]);
  }

  #cut(node: string, reason: PeerDown): void {
    const peer = this.nodes.get(node);
    for (const [end, other] of [[this, node], [peer, this.node]] as const) {
      const link = end && end.#links.get(other);
      if (!link) continue;
      link.up = false;
      end.#links.delete(other);
      end.#onPeerDown(other, reason);
    }
  }
}
