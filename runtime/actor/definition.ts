import { RuntimeError } from "../errors.ts";
import { checkName } from "../transport/address.ts";
import type { ActorSystem } from "./system.ts";

/**
 * An actor is state that only messages reach: `init` makes the state, endpoints are its methods, `terminate` frees it.
 *
 * AC-1: ordinary endpoints run one at a time, to the end of their promise, in the order their messages arrived.
 * AC-2: endpoints named in `interleave` start as soon as their message arrives, also while an ordinary endpoint awaits
 *       something. JavaScript still runs one of them at a time: they may meet only where one awaits. That is how a
 *       `deliver` reaches a stage whose `step` waits for data. Their order among each other is the order of arrival.
 * AC-3: an endpoint that throws in a `call` fails that call and nothing else: the error goes to the caller, the actor
 *       lives on. An endpoint that throws in a `cast` has nobody to tell: the actor itself fails (supervisor.ts).
 * AC-4: `terminate` runs exactly once for each successful `init`, after the last handler has ended.
 */
export interface ActorDefinition<Config, State, E extends Endpoints<State>> {
  readonly name: string;
  init(config: Config, context: InitContext): State | Promise<State>;
  readonly endpoints: E;
  readonly interleave: readonly string[];
  terminate?(state: State, context: InitContext): void | Promise<void>;
  readonly mailbox: { readonly capacity: number };
}

/** `payload` is `never` here so that an endpoint may ask for any payload type; the call site gets the real one. */
export type Endpoint<State> = (state: State, payload: never, context: ActorContext) => unknown;
export type Endpoints<State> = { readonly [endpoint: string]: Endpoint<State> };

/** What `init` and `terminate` get. */
export interface InitContext {
  /** This actor's address. */
  readonly self: string;
  readonly system: ActorSystem;
  /** Aborts when the actor stops. */
  readonly signal: AbortSignal;
  /** Starts a child owned by this actor: it stops with its owner, and its unhandled failure fails the owner. */
  spawn: ActorSystem["spawn"];
}

/** What an endpoint gets beside its payload. */
export interface ActorContext extends InitContext {
  /** The sender's address (`node/-` when the sender is not an actor). */
  readonly from: string;
  readonly attachments: readonly Uint8Array[];
  /** Aborts when the caller gave up, the deadline passed, or the actor stops. */
  readonly signal: AbortSignal;
  /** On `system.clock`; Infinity in a cast. */
  readonly deadline: number;
  /** One id for everything that follows from one first call. Pass the context on with `{ within: context }`. */
  readonly trace: string;
}

export interface CallOptions {
  /** Default: what is left of `within`, at most the system's `callTimeoutMs`. */
  timeoutMs?: number;
  signal?: AbortSignal;
  /** Bytes that travel beside the payload without being copied into it. */
  attachments?: readonly Uint8Array[];
  /** The context of the handler that makes this call: its deadline, signal and trace hold for the call too. */
  within?: ActorContext;
}
export type CastOptions = Pick<CallOptions, "attachments" | "within">;

/** The typed address of an actor: `ref.forward.call(payload)`. */
export type Ref<E> = { readonly [K in keyof E]: EndpointRef<PayloadOf<E[K]>, ReplyOf<E[K]>> } & { readonly address: string };

export interface EndpointRef<Payload, Reply> {
  /**
   * Asks and awaits the reply.
   * CALL-1: settles at its deadline at the latest, with ERR_DEADLINE.
   * CALL-2: rejects with ERR_DEAD at once when the receiver, or its process, is or becomes dead.
   * CALL-3: rejects with ERR_ABORTED at once when `signal` aborts; the handler's `context.signal` aborts too.
   * CALL-4: an error thrown by the handler arrives with its code, details and chain of causes.
   */
  call(...args: Args<Payload, CallOptions>): Promise<Reply>;
  /** `call`, together with the bytes the handler attached to its reply (`withAttachments`). */
  fetch(...args: Args<Payload, CallOptions>): Promise<{ reply: Reply; attachments: Uint8Array[] }>;
  /** Tells and moves on. Throws ERR_DEAD, ERR_UNREACHABLE or ERR_MAILBOX_FULL when that is already known here. */
  cast(...args: Args<Payload, CastOptions>): void;
}

type Args<P, O> = unknown extends P ? [payload?: P, options?: O] : undefined extends P ? [payload?: P, options?: O] : [payload: P, options?: O];
type PayloadOf<F> = F extends (state: never, payload: infer P, ...rest: never[]) => unknown ? P : unknown;
type ReplyOf<F> = F extends (...args: never[]) => infer R ? Unwrapped<Awaited<R>> : never;
type Unwrapped<R> = R extends Attached<infer T> ? T : R;

/** A reply with bytes beside it. */
export class Attached<T> {
  constructor(readonly reply: T, readonly attachments: readonly Uint8Array[]) {}
}
export function withAttachments<T>(reply: T, attachments: readonly Uint8Array[]): Attached<T> {
  return new Attached(reply, attachments);
}

/** The endpoints of a definition: `RefOf<typeof stage>` is the type of its references. */
export type RefOf<D> = D extends { readonly endpoints: infer E } ? Ref<E> : never;

export interface DefineActor<Config, State, E extends Endpoints<State>> {
  name: string;
  init(config: Config, context: InitContext): State | Promise<State>;
  endpoints: E;
  /** Endpoints that may run while an ordinary one awaits (AC-2). */
  interleave?: readonly (keyof E & string)[];
  terminate?(state: State, context: InitContext): void | Promise<void>;
  /** Default capacity 1024 messages waiting. */
  mailbox?: { capacity?: number };
}

/** Names that references and meshes use themselves, and `then`, which would make a reference look like a promise. */
const reserved = ["address", "then", "axes", "refs", "slice", "at"];

export function defineActor<Config, State, E extends Endpoints<State>>(d: DefineActor<Config, State, E>): ActorDefinition<Config, State, E> {
  checkName(d.name, "actor");
  for (const name of Object.keys(d.endpoints)) {
    if (!reserved.includes(name)) continue;
    throw new RuntimeError("ERR_ENDPOINT", `actor "${d.name}": an endpoint may not be called "${name}", references and meshes use that name.`, { actor: d.name, endpoint: name });
  }
  return { ...d, interleave: d.interleave ?? [], mailbox: { capacity: d.mailbox?.capacity ?? 1024 } };
}

