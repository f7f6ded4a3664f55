import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { type ErrorCode, RuntimeError } from "../../errors.ts";
import { type GroupSeatFacts, native } from "../../native.ts";
import { type DType, type Launch, type Shape, type Tensor, allocate, fence, kernel } from "../../tensor/index.ts";
import { checkMember, checkOffers, shapeWithAxis, summable } from "./collectives-check.ts";
import { type Whereabouts, whereabouts } from "../lanes/choice.ts";

/** What one member tells all others before they join: plain data, to be carried by whoever drives. It holds the member's token. */
export interface GroupOffer extends GroupSeatFacts {
  name: string;
  rank: number;
  size: number;
  /** The member's name, and its host's as people know it. */
  member: string;
  host: string;
  place: Whereabouts;
  /** Where it listens for members of other hosts; "" when it does not. */
  address: string;
}

/** A place in a group to be. */
export interface GroupSeat {
  readonly offer: GroupOffer;
  readonly members: readonly string[];
}

export interface SeatOptions {
  /** What the group is for: "tensor of text". It stands in every message. */
  name: string;
  rank: number;
  size: number;
  /** Names of all members, by rank. */
  members: readonly string[];
  /** Who moves the bytes. `embedded`: shared memory on a host, TCP between hosts. */
  engine?: "embedded" | "ucx";
  /** The address of this host where members of other hosts reach it. Without one, the group lives on one host. */
  address?: string;
}

/**
 * Processes that make the same collective calls in the same order. Every call is a command of the stream: it returns at once.
 *
 * CG-1: sums are the pairwise tree over ranks of `GradientTree`, whatever carries the bytes, so their bits do not depend on hosts.
 * CG-2: a member that ends, leaves or gives up ends the waits of all others within two seconds: the device fault names it, code ERR_COLLECTIVE,
 *       at the next `read` or `fence`, and `failed` resolves. A group that failed stays so; a device fault of one member fails its groups.
 * CG-3: members that call differently are told so by name.
 */
export interface Group {
  readonly name: string;
  readonly rank: number;
  readonly size: number;
  readonly members: readonly string[];
  /** Resolves with the error when the group fails; never when it does not. */
  readonly failed: Promise<RuntimeError>;
  /** The sum over members, in place, for all of them. f64, f32, bf16 (summed in f32), i32, i64. */
  allReduce(tensor: Tensor): void;
  /** x (..., c, ...) -> (..., N c, ...): those of all members along `axis` in rank order. */
  allGather(tensor: Tensor, axis?: number): Tensor;
  /** x (..., N c, ...) -> (..., c, ...): the sum over members, of it the part of this rank along `axis`. */
  reduceScatter(tensor: Tensor, axis?: number): Tensor;
  /** Everybody has the root's, in place. */
  broadcast(tensor: Tensor, root: number): void;
  /** The root has the sum, in place; the others keep what they have. */
  reduce(tensor: Tensor, root: number): void;
  /** x (..., N c, ...) -> the same shape: part p along `axis` goes to rank p, what came from rank p is part p. */
  allToAll(tensor: Tensor, axis?: number): Tensor;
  /** The tensor of the rank `by` places before this one, round the ring. */
  rotate(tensor: Tensor, by?: number): Tensor;
  /** Resolves when all members have come here, and done what they enqueued before. ERR_DEADLINE names those that have not; the group has then failed. */
  barrier(timeoutMs?: number): Promise<void>;
  /** Every wait of every member ends, with the reason. */
  abort(reason: string): void;
  /** In stream order: what was enqueued still runs. Others that need this member afterwards are told that it left. */
  close(): void;
}

const hostName = (): string => readFileSync("/proc/sys/kernel/hostname", "utf8").trim() || hostname();

/** Takes a seat: makes what the others need to reach this process. Throws ERR_COLLECTIVE when the options or the system refuse. */
export function offerGroup({ name, rank, size, members, engine = "embedded", address = "" }: SeatOptions): GroupSeat {
  checkMember({ name, rank, size, members, engine });
  const facts = native().groupSeat({ name, rank, size, address });
  const offer: GroupOffer = { ...facts, name, rank, size, member: members[rank], host: hostName(), place: whereabouts(), address };
  return { offer, members: [...members] };
}

export interface JoinOptions {
  timeoutMs?: number;
  /** Enqueues a call by calling `enqueue`, once: who wants to know when calls run puts stamps round it. */
  around?: (enqueue: () => void) => void;
}

/** Joins with the offers of all members, in rank order. Waits only for members of other hosts; ERR_COLLECTIVE when one cannot be reached. */
export async function joinGroup(seat: GroupSeat, offers: readonly GroupOffer[], { timeoutMs = 60_000, around = (enqueue) => enqueue() }: JoinOptions = {}): Promise<Group> {
  const { offer: own, members } = seat;
  checkOffers(own, members, offers);
  const described = offers.map((offer) => ({ ...offer, shared: sharesMemory(own.place, offer.place) }));
  const { joined, failed } = listen(own.seat);
  native().groupJoin(own.seat, described, timeoutMs, onEvent);
  const number = await joined.catch((error: RuntimeError) => {
    waiting.delete(own.seat);
    native().groupDrop(own.seat);
    throw new RuntimeError(error.code, `group ${own.name}: rank ${own.rank} (${own.member} on host ${own.host}) cannot join: ${error.message}`, { group: own.name, rank: own.rank });
  });
  return new NativeGroup(own, members, number, failed, around);
}

const sharesMemory = (here: Whereabouts, there: Whereabouts): boolean => here.host === there.host && here.user === there.user;

interface Waiting {
  joined: (group: number) => void;
  refused: (error: RuntimeError) => void;
  failed: (error: RuntimeError) => void;
}

/** By seat. */
const waiting = new Map<number, Waiting>();

function listen(seat: number): { joined: Promise<number>; failed: Promise<RuntimeError> } {
  let entry: Partial<Waiting> = {};
  const joined = new Promise<number>((resolve, reject) => { entry = { joined: resolve, refused: reject }; });
  const failed = new Promise<RuntimeError>((resolve) => { entry.failed = resolve; });
  waiting.set(seat, entry as Waiting);
  return { joined, failed };
}

function onEvent(kind: "joined" | "refused" | "failed", seat: number, group: number, code: string, message: string): void {
  const entry = waiting.get(seat);
  if (kind === "joined") entry?.joined(group);
  else entry?.[kind](new RuntimeError(code as ErrorCode, message, { seat }));
}

const calls = {
  allReduce: kernel("all_reduce"), allGather: kernel("all_gather"), reduceScatter: kernel("reduce_scatter"), broadcast: kernel("broadcast"),
  reduce: kernel("reduce"), allToAll: kernel("all_to_all"), rotate: kernel("rotate"), barrier: kernel("barrier"),
};

class NativeGroup implements Group {
  readonly name: string;
  readonly rank: number;
  readonly size: number;
  #closed = false;

  constructor(private readonly own: GroupOffer, readonly members: readonly string[], private readonly number: number, readonly failed: Promise<RuntimeError>, private readonly around: (enqueue: () => void) => void) {
    this.name = own.name;
    this.rank = own.rank;
    this.size = own.size;
  }

  allReduce(tensor: Tensor): void {
    summable("allReduce", tensor);
    tensor.mustBeWritable("allReduce");
    this.#call(calls.allReduce, [tensor]);
  }

  allGather(tensor: Tensor, axis = 0): Tensor {
    const { shape, rows } = shapeWithAxis("allGather", tensor, axis, (n) => n * this.size);
    return this.#into(calls.allGather, tensor, shape, [rows]);
  }

  reduceScatter(tensor: Tensor, axis = 0): Tensor {
    summable("reduceScatter", tensor);
    const { shape, rows } = shapeWithAxis("reduceScatter", tensor, axis, (n) => n / this.size);
    return this.#into(calls.reduceScatter, tensor, shape, [rows]);
  }

  broadcast(tensor: Tensor, root: number): void {
    tensor.mustBeWritable("broadcast");
    this.#call(calls.broadcast, [tensor], [this.#root("broadcast", root)]);
  }

  reduce(tensor: Tensor, root: number): void {
    summable("reduce", tensor);
    tensor.mustBeWritable("reduce");
    this.#call(calls.reduce, [tensor], [this.#root("reduce", root)]);
  }

  allToAll(tensor: Tensor, axis = 0): Tensor {
    const { rows } = shapeWithAxis("allToAll", tensor, axis, (n) => n / this.size);
    return this.#into(calls.allToAll, tensor, tensor.shape, [rows]);
  }

  rotate(tensor: Tensor, by = 1): Tensor {
    return this.#into(calls.rotate, tensor, tensor.shape, [((by % this.size) + this.size) % this.size]);
  }

  async barrier(timeoutMs = -1): Promise<void> {
    this.#call(calls.barrier, [], [timeoutMs]);
    await fence();
    const failure = this.#closed ? undefined : native().groupFailure(this.number);
    if (failure) throw new RuntimeError(failure.code as ErrorCode, failure.message, { group: this.name });
  }

  abort(reason: string): void {
    if (!this.#closed) native().groupAbort(this.number, reason);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    native().groupLeave(this.number);
    native().groupDrop(this.own.seat);
    waiting.delete(this.own.seat);
  }

  #call(launch: Launch, operands: readonly Tensor[], scalars: readonly number[] = []): void {
    if (this.#closed) throw new RuntimeError("ERR_COLLECTIVE", `group ${this.name}: it is closed.`, { group: this.name });
    this.around(() => launch(operands, [this.number, ...scalars]));
  }

  #into(launch: Launch, x: Tensor, shape: Shape, scalars: readonly number[]): Tensor {
    const y = allocate(shape, x.dtype satisfies DType);
    this.#call(launch, [x, y], scalars);
    return y;
  }

  #root(op: string, root: number): number {
    if (Number.isInteger(root) && root >= 0 && root < this.size) return root;
    throw new RuntimeError("ERR_COLLECTIVE", `${op} of group ${this.name}: root expected 0..${this.size - 1}, got ${root}.`, { group: this.name, root });
  }
}
