/**
 * A transport carries frames between nodes (processes). It knows names of nodes, not actors.
 *
 * TR-1: frames sent to one node arrive whole and in the order sent, or not at all; never twice.
 * TR-2: `send` never waits. It queues at most a stated number of messages and bytes per link, then throws ERR_MAILBOX_FULL.
 * TR-3: `send` to a node without a link throws ERR_UNREACHABLE.
 * TR-4: when a link ends, `onPeerDown` fires once, after every message that arrived before the end was delivered.
 * TR-5: frames belong to the transport from `send` on: the bytes are not copied, do not write to them again.
 * TR-6: `close` gives queued messages a short time to leave, never hangs, and leaves no file behind.
 * TR-7: urgent frames overtake all others that wait, and have room when the others have none. Their order among each other stays.
 */
export interface Transport {
  readonly node: string;
  send(to: string, frames: readonly Uint8Array[], options?: { urgent?: boolean }): void;
  /** Messages that arrive before the handler is set wait for it. One handler; a second call replaces it. */
  onMessage(handler: (from: string, frames: Uint8Array[]) => void): void;
  onPeerUp(handler: (node: string) => void): void;
  onPeerDown(handler: (node: string, reason: PeerDown) => void): void;
  /** Both ends call it with each other's name, in any order; resolves when messages can flow both ways. */
  connect(node: string, options?: ConnectOptions): Promise<void>;
  /** Ends one link (as `close` does for all). */
  disconnect(node: string): Promise<void>;
  peers(): LinkStatus[];
  close(): Promise<void>;
}

export interface ConnectOptions {
  /** Default 30 000. ERR_UNREACHABLE when the other end has not answered by then. */
  timeoutMs?: number;
}

/** `closed`: the peer said goodbye. `lost`: the connection broke without one (a killed process, a cut cable). */
export interface PeerDown {
  kind: "closed" | "lost";
  message: string;
}

export interface LinkStatus {
  node: string;
  state: "connecting" | "up" | "closing";
  endpoint: string;
  queuedMessages: number;
  queuedBytes: number;
}
