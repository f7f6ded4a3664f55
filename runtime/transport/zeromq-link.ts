import { rmSync } from "node:fs";
import { Dealer } from "zeromq";
import type { Clock } from "../clock.ts";
import { RuntimeError } from "../errors.ts";
import { bundle, isBundle, unbundle } from "./bundle.ts";
import { pack, unpack } from "./codec.ts";
import { envelopeVersion } from "./envelope.ts";
import { type Head, OutgoingQueue, type QueueLimits } from "./outgoing-queue.ts";
import type { LinkStatus, PeerDown } from "./transport.ts";

/**
 * One end of a link: a DEALER of its own, so that a peer which does not read can hold up nobody else.
 *
 * ZL-1: the connecting end says HELLO, the binding end answers WELCOME; only then is the link up. The binding end unlinks
 *       the socket file at that moment: the connection lives on, and no later kill -9 can leave the file behind.
 * ZL-2: `sendTimeout` is 0 and what ZeroMQ does not take waits in our own queue (OutgoingQueue). With the default
 *       timeout a send to a frozen peer never settles.
 * ZL-3: a disconnection ends the link for good: ZeroMQ would reconnect silently and lose what was under way.
 * ZL-4: `close` sends BYE behind the queued messages and waits for the peer's BYE, at most `goodbyeMs`; then the socket
 *       closes with linger 0, so nothing can hang. Both ends then know that it was `closed`, not `lost`.
 * ZL-5: neither loop keeps the event loop for more than about `burst` messages in a row.
 * ZL-6: the first messages of a turn of the event loop leave at once; small ones that follow in the same turn leave together at its end,
 *       as one frame (bundle.ts).
 *
 * A control frame is a single empty frame followed by its body; messages of the actor system never start with an empty frame.
 */
export interface LinkOptions {
  node: string;
  peer: string;
  path: string;
  limits: QueueLimits;
  clock: Clock;
  onUp(): void;
  onMessage(frames: Uint8Array[]): void;
  onDown(reason: PeerDown, wasUp: boolean): void;
}

type Control = { say: "hello" | "welcome"; version: number; node: string } | { say: "bye" } | { say: "refused"; why: string };

/** Messages ZeroMQ itself holds per direction; with ours waiting in the queue, enough to keep the socket busy. */
const highWaterMark = 64;
const burst = 64;
/** So many messages leave at once before the turn of the event loop ends; the others wait for its end, and leave together. */
const alonePerTurn = 8;
/** What goes into one frame: a larger message is worth a frame of its own. */
const bundled = { messages: 256, bytes: 65_536 };
const goodbyeMs = 500;
/** First and longest pause before looking again whether a full socket takes a message. */
const retryMs = { first: 1, longest: 16 };
const empty = new Uint8Array(0);

export class ZeromqLink {
  #socket = new Dealer({
    linger: 0, sendTimeout: 0, sendHighWaterMark: highWaterMark, receiveHighWaterMark: highWaterMark,
    reconnectInterval: 10, reconnectMaxInterval: 100, handshakeInterval: 5000,
  });
  #state: "new" | "connecting" | "up" | "closing" | "down" = "new";
  #queue: OutgoingQueue;
  #pumping = false;
  #turnEnds = false;
  #alone = alonePerTurn;
  #opened = deferred<void>();
  #ended = deferred<void>();
  #binds: boolean;
  #refusal = "";
  #cancelGoodbye = (): void => {};

  constructor(private readonly o: LinkOptions) {
    this.#queue = new OutgoingQueue(o.peer, o.limits);
    this.#binds = o.node < o.peer;
    this.#opened.promise.catch(() => {}); // `open` hands the rejection on; a link closed before anyone waited is no error
  }

  status(): LinkStatus {
    const state = this.#state === "up" || this.#state === "closing" ? this.#state : "connecting";
    return { node: this.o.peer, state, endpoint: `ipc://${this.o.path}`, queuedMessages: this.#queue.messages, queuedBytes: this.#queue.bytes };
  }

  async open(timeoutMs: number): Promise<void> {
    const { clock, node, peer, path } = this.o;
    if (this.#state === "new") void this.#start();
    const cancel = clock.after(timeoutMs, () => {
      this.#down({ kind: "lost", message: `${node}: ${peer} did not answer at ${path} within ${timeoutMs} ms. ${this.#refusal || "Is it running, with the same socket folder?"}` });
    });
    return this.#opened.promise.finally(cancel);
  }

  send(frames: readonly Uint8Array[], urgent?: boolean): void {
    if (this.#state === "closing" || this.#state === "down") {
      throw new RuntimeError("ERR_UNREACHABLE", `${this.o.node}: the link to ${this.o.peer} is closing.`, { node: this.o.peer });
    }
    this.#queue.push(frames, urgent);
    if (this.#state === "up") this.#turn();
  }

  /** At once while the turn may, else when it ends. */
  #turn(): void {
    if (!this.#turnEnds && --this.#alone <= alonePerTurn / 2) {
      this.#turnEnds = true;
      setImmediate(() => {
        this.#turnEnds = false;
        this.#alone = alonePerTurn;
        void this.#pump();
      });
    } else if (this.#turnEnds) this.#alone--;
    if (this.#alone > 0) void this.#pump();
  }

  async close(): Promise<void> {
    if (this.#state === "up") this.#goodbye(`${this.o.node} closed the link`);
    else if (this.#state !== "closing") this.#down({ kind: "closed", message: `${this.o.node} closed the link` });
    await this.#ended.promise;
  }

  #goodbye(message: string): void {
    this.#state = "closing";
    this.#queue.append(control({ say: "bye" }));
    void this.#pump();
    this.#cancelGoodbye = this.o.clock.after(goodbyeMs, () => this.#down({ kind: "closed", message }));
  }

  async #start(): Promise<void> {
    this.#state = "connecting";
    this.#socket.events.on("disconnect", () => void this.#disconnected());
    try {
      if (this.#binds) await this.#socket.bind(`ipc://${this.o.path}`);
      else this.#socket.connect(`ipc://${this.o.path}`);
    } catch (cause) {
      return this.#down({ kind: "lost", message: `${this.o.node}: cannot open ${this.o.path}` }, cause);
    }
    if (!this.#binds) await this.#control({ say: "hello", version: envelopeVersion, node: this.o.node });
    await this.#read();
  }

  async #read(): Promise<void> {
    for (let inARow = 0; this.#state !== "down"; ) {
      let frames: Uint8Array[];
      try {
        frames = await this.#socket.receive();
      } catch (error) {
        if (this.#socket.closed) return; // ZeroMQ ends a waiting receive with EAGAIN when the socket closes
        return this.#down({ kind: "lost", message: `${this.o.node}: reading from ${this.o.peer} failed` }, error);
      }
      if (frames[0].byteLength === 0) this.#hear(frames);
      else if (this.#state === "up" || this.#state === "closing") inARow += this.#deliver(frames);
      if (inARow < burst) continue;
      inARow = 0;
      await turn();
    }
  }

  /** Returns how many messages these frames are. */
  #deliver(frames: Uint8Array[]): number {
    const messages = isBundle(frames) ? unbundle(frames[0])?.map((message) => [message]) : [frames];
    if (!messages) this.#down({ kind: "lost", message: `${this.o.peer} sent a bundle of messages that is cut short` });
    for (const message of messages ?? []) this.o.onMessage(message);
    return messages?.length ?? 0;
  }

  #hear(frames: readonly Uint8Array[]): void {
    const heard = readControl(frames);
    if (!heard) return this.#down({ kind: "lost", message: `${this.o.peer} sent a control frame that is not one` });
    if (heard.say === "refused") {
      this.#refusal = heard.why;
      return this.#down({ kind: "lost", message: `${this.o.peer} refused the link: ${heard.why}` });
    }
    if (heard.say === "bye") {
      if (this.#state === "closing") return this.#down({ kind: "closed", message: `the link between ${this.o.node} and ${this.o.peer} was closed` });
      return this.#goodbye(`${this.o.peer} closed the link`); // what is still queued goes first: the peer reads until our BYE
    }
    const wrong = heard.version !== envelopeVersion ? `it speaks version ${heard.version}, we speak ${envelopeVersion}`
      : heard.node !== this.o.peer ? `it calls itself "${heard.node}", expected "${this.o.peer}"` : undefined;
    if (wrong) {
      void this.#control({ say: "refused", why: `${this.o.node} says: ${wrong}` });
      this.#refusal = wrong;
      return;
    }
    if (this.#state !== "connecting") return;
    if (this.#binds) {
      rmSync(this.o.path, { force: true });
      void this.#control({ say: "welcome", version: envelopeVersion, node: this.o.node });
    }
    this.#state = "up";
    this.o.onUp();
    this.#opened.resolve();
    void this.#pump();
  }

  /** Hands the queue to ZeroMQ in order; one loop at a time. It leaves what came later in its turn to the turn's end. */
  async #pump(): Promise<void> {
    if (this.#pumping) return;
    this.#pumping = true;
    let pauseMs = retryMs.first;
    for (let sent = 1; this.#state !== "down"; sent++) {
      const head = this.#queue.head(bundled.messages, bundled.bytes);
      if (!head) break;
      try {
        await this.#socket.send(wire(head));
        this.#queue.drop(head);
        pauseMs = retryMs.first;
        if (this.#alone <= 0) break;
        if (sent % burst === 0) await turn();
      } catch (error) {
        if (this.#socket.closed) break;
        if ((error as { code?: string }).code !== "EAGAIN") {
          this.#down({ kind: "lost", message: `${this.o.node}: sending to ${this.o.peer} failed` }, error);
          break;
        }
        const wait = deferred<void>();
        this.o.clock.after(pauseMs, wait.resolve);
        pauseMs = Math.min(2 * pauseMs, retryMs.longest);
        await wait.promise;
      }
    }
    this.#pumping = false;
  }

  /** Handshake frames do not pass the queue: they come before everything in it. */
  async #control(body: Control): Promise<void> {
    try {
      await this.#socket.send(control(body));
    } catch (error) {
      if (!this.#socket.closed) this.#down({ kind: "lost", message: `${this.o.node}: the handshake with ${this.o.peer} failed` }, error);
    }
  }

  /** Messages that arrived before the break are read first (TR-4): they are in the socket already, or one turn away from it. */
  async #disconnected(): Promise<void> {
    if (this.#state === "connecting") return; // a handshake that failed half-way: ZeroMQ tries again until the deadline
    for (let quiet = 0; quiet < 3 && this.#state !== "down"; quiet = this.#socket.readable ? 0 : quiet + 1) await turn();
    if (this.#state === "closing") this.#down({ kind: "closed", message: `${this.o.peer} closed the link` });
    else this.#down({ kind: "lost", message: `the connection to ${this.o.peer} broke: its process has ended or was killed` });
  }

  #down(reason: PeerDown, cause?: unknown): void {
    if (this.#state === "down") return;
    const wasUp = this.#state === "up" || this.#state === "closing";
    this.#state = "down";
    this.#cancelGoodbye();
    this.#queue.clear();
    this.#socket.close();
    if (this.#binds && !wasUp) rmSync(this.o.path, { force: true });
    this.#opened.reject(new RuntimeError("ERR_UNREACHABLE", reason.message, { node: this.o.peer }, cause === undefined ? undefined : { cause }));
    this.#ended.resolve();
    this.o.onDown(reason, wasUp);
  }
}

/** What ZeroMQ gets: it takes a lone buffer faster than a list of one. */
function wire({ messages }: Head): Uint8Array | Uint8Array[] {
  if (messages.length > 1) return bundle(messages);
  return messages[0].length === 1 ? messages[0][0] : (messages[0] as Uint8Array[]);
}

const control = (body: Control): Uint8Array[] => [empty, pack(body)];

function readControl(frames: readonly Uint8Array[]): Control | undefined {
  try {
    const body = unpack(frames[1]) as Control;
    return typeof body === "object" && body !== null && ["hello", "welcome", "bye", "refused"].includes(body.say) ? body : undefined;
  } catch {
    return undefined; // garbage: the caller ends the link with a message
  }
}

/** One turn of the event loop: timers, sockets and everything else get theirs. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function deferred<T>(): { promise: Promise<T>; resolve(value: T): void; reject(error: unknown): void } {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((res, rej) => ([resolve, reject] = [res, rej]));
  return { promise, resolve, reject };
}
