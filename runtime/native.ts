/**
 * The native device as TypeScript sees it; the only file that loads the addon.
 *
 * NA-1: an operation is checked and enqueued at the call, in program order, and runs later on the device's own thread;
 *       only `read` and `fence` wait, and they wait as promises.
 * NA-2: memory is accounted exactly and an allocation that does not fit throws ERR_MEMORY at the call.
 * NA-3: a kernel that fails makes the fault sticky: later commands are skipped, every `read` and `fence` rejects with
 *       ERR_DEVICE (ERR_COLLECTIVE where another process is the cause) and details {op, sequence, message}, until `configure` is called on the idle device.
 * NA-4: the same call with the same operands gives the same bits whatever the number of threads.
 * NA-5: a replay gives the bits that the calls it was recorded from give (device/program.h: PR-1 to PR-6).
 */
import { createRequire } from "node:module";
import { addonPath } from "../native-cuda/index.ts";
import { RuntimeError, type Details, type ErrorCode } from "./errors.ts";

export interface Native {
  /**
   * Throws ERR_NATIVE while commands are pending. Ends a sticky fault. `limitBytes` 0 = no limit. `guard` (off, or OCTAVO_GUARD=1):
   * the first command that makes a NaN or infinity of finite numbers is a fault, "y[3, 17] is NaN; its inputs were finite".
   */
  configure(o: { threads?: number; kernels?: "fast" | "reference"; limitBytes?: number; guard?: boolean }): void;
  /** A new tensor, its bytes undefined. `dtype` is an index into `dtypes`. Never 0. Throws ERR_MEMORY, ERR_SHAPE. */
  allocate(dtype: number, shape: readonly number[]): number;
  /** Another handle on the same storage, with as many elements. Each handle is freed by itself. */
  view(handle: number, shape: readonly number[]): number;
  /** Throws ERR_HANDLE when the handle was freed before. Commands enqueued earlier still find the memory. */
  free(handle: number): void;
  vacate(handle: number): void;
  refill(handle: number): void;
  /** Number of a kernel. Throws ERR_NATIVE naming it when the addon has none. */
  kernel(name: string): number;
  /** Names of all kernels, sorted. */
  kernels(): string[];
  /** Enqueues a kernel; handle 0 is an absent operand. Blocks only while 65536 commands wait. */
  launch(kernel: number, handles: readonly number[], scalars: readonly number[]): void;
  /** Copies `data` now, writes it into the tensor in stream order. Byte lengths must agree (ERR_SHAPE). */
  upload(handle: number, data: ArrayBufferView): void;
  /** The tensor's bytes as they are at this point of the program. */
  read(handle: number): Promise<ArrayBuffer>;
  /** Resolves when everything enqueued so far is done. */
  fence(): Promise<void>;
  /** Enqueues a stamp: the stream writes down when it gets there. -> its number since the last `stampsTake`. */
  stamp(): number;
  /** The times of all stamps, by number, in microseconds of the system's monotonic clock (`process.hrtime`); forgets them. Throws ERR_NATIVE while commands are pending. */
  stampsTake(): Float64Array;
  /** Enqueues a wait of so many whole microseconds: the stream is busy, no core is. For measuring schedules. */
  occupy(microseconds: number): void;
  memory(): { bytesInUse: number; bytesReserved: number; bytesPeak: number; bytesLimit: number; tensors: number };
  /** `bytesPeak` starts again at what is in use now. */
  resetPeak(): void;
  /**
   * What each kernel took since timings were switched on, the largest first; then switches them on or off, empty. `milliseconds`
   * by the clock, `cpu` of the stream's thread alone. Throws ERR_NATIVE while commands are pending.
   */
  timings(on: boolean): { kernel: string; operands: string; calls: number; milliseconds: number; cpu: number; bytes: number }[];
  /** Commands not yet executed. */
  pending(): number;

  /** From here on allocations, launches and uploads are also written down. `configure`, `read`, `fence`, `replay`, `slabTensor`, `slabWrite` and `recordBegin` throw ERR_COMPILE until the end. */
  recordBegin(inputs: readonly number[]): void;
  /** A new program that gives `outputs`. Without outputs: ends the recording and forgets it. The recording is over also when this throws ERR_COMPILE. */
  recordEnd(outputs: readonly number[]): number;
  recordEnd(): void;
  /** "" when both recorded the same, else the first difference in words. */
  programDifference(a: number, b: number): string;
  /** Not dropped, and all its tensors from outside are alive. */
  programExists(program: number): boolean;
  /** Frees the record. Replays already enqueued still run. */
  programDrop(program: number): void;
  programDescribe(program: number): ProgramRecord;
  /**
   * Enqueues all commands of a program as one; returns new tensors for its outputs. An input is a handle, or its elements, copied before this
   * returns. Throws ERR_COMPILE when inputs do not fit or the program is gone.
   */
  replay(program: number, inputs: readonly (number | ArrayBufferView)[]): number[];

  /** Anonymous shared memory; a peer process of the same user maps it with `slabOpen(pid, fd, bytes, inode)`. */
  slabCreate(bytes: number): { slab: number; pid: number; fd: number; bytes: number; inode: number };
  /** Throws ERR_LANE when the peer or its slab is gone, or another slab has its number. */
  slabOpen(pid: number, fd: number, bytes: number, inode: number): number;
  /** The owner's descriptor is closed now, the memory unmapped in stream order once no tensor lives in it. Peers keep their mappings. */
  slabClose(slab: number): void;
  /** Enqueues a copy tensor -> slab; outside the slab throws ERR_LANE. */
  slabWrite(handle: number, slab: number, offset: number): void;
  /** Marks the slice at `offset` as that of `generation` in the 64 bytes before it, at once; 0 says that it is free. */
  slabStamp(slab: number, offset: number, generation: number): void;
  /**
   * A tensor that lives in the slice at `offset`, which must be of this generation (ERR_LANE). `freed` resolves when its last view was
   * freed and what was enqueued before has run; rejects after a device fault. `arrived`: the guard looks at it now.
   */
  slabTensor(slab: number, offset: number, dtype: number, shape: readonly number[], generation: number, arrived: boolean): { handle: number; freed: Promise<void> };

  /** Is libucp there, and why not. Opens the library, makes nothing. */
  ucxInfo(): { usable: boolean; version?: string; reason?: string };
  /** What a peer connects to. The first call makes the engine and its thread. Throws ERR_LANE without libucp or a transport. */
  ucxAddress(): Uint8Array;
  /** A slab like that of `slabCreate`, in registered memory of UCX's own: only `ucxRead` reaches it from elsewhere. */
  ucxSlab(bytes: number): { slab: number; pid: number; fd: number; bytes: number; inode: number };
  /** Registers a slab once, for reading by peers and for reads into it. `address` is where the slab begins here. */
  ucxRegister(slab: number): { address: number; key: Uint8Array };
  /** A way to the peer with this address; it opens with the first read. */
  ucxConnect(address: Uint8Array): number;
  /**
   * Reads the peer's slice at `address` of `generation` into our slice, which nothing queued may use. Rejects with ERR_LANE when the peer
   * is gone, the slice was taken back or the way was closed; then our slice must not be used again.
   */
  ucxRead(endpoint: number, address: number, key: Uint8Array, slab: number, offset: number, bytes: number, generation: number): Promise<void>;
  /** Ends the way and every read on it, whatever the peer does. */
  ucxClose(endpoint: number, reason: string): void;
  /** libucp's words about the transports of a way that was used. */
  ucxDescribe(endpoint: number): string;

  /**
   * A place in a group of processes: shared memory, a pipe that wakes its stream, and a listener at `address` unless that is "".
   * Throws ERR_COLLECTIVE, ERR_MEMORY.
   */
  groupSeat(o: { name: string; rank: number; size: number; address: string }): GroupSeatFacts;
  /**
   * Meets the members, by rank; tells `listener` how it went: "joined" with the number that kernels take, or "refused"; later "failed", once.
   * All seats use the first listener.
   */
  groupJoin(seat: number, members: readonly GroupMemberFacts[], timeoutMs: number,
    listener: (kind: "joined" | "refused" | "failed", seat: number, group: number, code: string, message: string) => void): void;
  /** The seat is no longer needed; its group lives on until it is left. */
  groupDrop(seat: number): void;
  groupAbort(group: number, reason: string): void;
  groupFailure(group: number): { code: string; message: string } | undefined;
  /** In stream order. */
  groupLeave(group: number): void;

  /**
   * The system kills this process when its parent ends. Give the parent's pid if it was told: a parent that is gone
   * already then ends this process at once.
   */
  dieWithParent(parentPid?: number): void;
  info(): {
    cores: number;
    /** Vector extensions in use, and what OCTAVO_ISA holds them to ("none" when it is not set). */
    isa: string[];
    isaLimit: "none" | "avx512" | "avx2" | "baseline";
    /** Which version of the hot loops runs. */
    clones: "avx512f" | "avx2" | "default";
    threads: number;
    /** `f32` and `bf16` say, for people, how products of each are computed. */
    gemm: { library: string; version?: string; f32: string; bf16: string; fastBf16: boolean; tried: string[] };
    cuda: { compiled: boolean; devices: number; note: string };
    openmp: boolean;
  };
}

/** What a member must know to reach another one: descriptors of that process, its port, the token that it believes. */
export interface GroupSeatFacts {
  seat: number;
  pid: number;
  start: number;
  segment: number;
  inode: number;
  wake: number;
  port: number;
  token: string;
}

export interface GroupMemberFacts extends GroupSeatFacts {
  member: string;
  host: string;
  shared: boolean;
  address: string;
}

/** A recorded step as data. Operands name storages by their position; -1 is an absent operand. */
export interface ProgramRecord {
  inputs: number;
  outputs: number;
  scratchBytes: number;
  /** `first` and `last`: the commands that use it; `offset`: the place of an internal one in the scratch block. */
  storages: { kind: "input" | "output" | "internal" | "outside"; index: number; bytes: number; offset: number; first: number; last: number }[];
  /** `form` is dtype and shape: "f32 (2, 3)". */
  commands: { op: string; operands: { storage: number; form: string }[]; scalars: number[]; constantBytes: number }[];
}

let loaded: Native | undefined;

/** The device of this process, loaded once. Throws ERR_NATIVE when the addon was not built. */
export function native(): Native {
  return (loaded ??= load());
}

/** Whether this process has a device yet: asking never makes one. */
export const addonIsLoaded = (): boolean => loaded !== undefined;

function load(): Native {
  const { path, exists } = addonPath();
  if (!exists)
    throw new RuntimeError("ERR_NATIVE", `The native addon is missing: expected ${path}. Build it: npm run setup`, { path });
  // Idle OpenMP threads must sleep: spinning ones take the cores from the other workers of this host.
  process.env.OMP_WAIT_POLICY ??= "passive";
  // But not at once: a kernel of 100 us is over before a sleeping thread has woken. Turns before sleeping, some tens of microseconds:
  // without them a third of the tiny step and half of a decoded token is waiting (2 cores; test/bench/compiled.ts). Launchers of several workers per host say 0.
  process.env.GOMP_SPINCOUNT ??= "20000";
  // libucp, if a lane opens it: its handler of SIGSEGV would take the place of the one that WebAssembly needs, its hooks into malloc and mmap
  // are for memory that is not registered ahead (ours is), and what it logs is no output of ours.
  process.env.UCX_HANDLE_ERRORS ??= "none";
  process.env.UCX_MEM_EVENTS ??= "n";
  // Its shared-memory transports then notice a peer that dies; without it UCX 1.13 leaves them out where that is asked for.
  process.env.UCX_MM_ERROR_HANDLING ??= "y";
  process.env.UCX_LOG_FILE ??= "stderr";
  process.env.UCX_WARN_UNUSED_ENV_VARS ??= "n";
  try {
    return coded(createRequire(import.meta.url)(path) as Native);
  } catch (cause) {
    if (cause instanceof Error && (cause as { code?: string }).code === "ERR_NATIVE") throw toRuntimeError(cause); // it loads, and refuses
    throw new RuntimeError("ERR_NATIVE", `The native addon ${path} does not load. Rebuild it: npm run setup`, { path }, { cause });
  }
}

/** The same functions, with native errors (code, message, details) thrown and rejected as RuntimeError. */
function coded(addon: Native): Native {
  const wrap = <A extends unknown[], R>(call: (...a: A) => R) => (...a: A): R => {
    try {
      return call(...a);
    } catch (thrown) {
      throw toRuntimeError(thrown);
    }
  };
  const settle = <A extends unknown[], R>(call: (...a: A) => Promise<R>) => {
    const checked = wrap(call);
    return (...a: A): Promise<R> => checked(...a).catch((thrown: unknown) => { throw toRuntimeError(thrown); });
  };
  // What every op calls, without the arguments as an array in between.
  const once = <A, R>(call: (a: A) => R) => (a: A): R => {
    try {
      return call(a);
    } catch (thrown) {
      throw toRuntimeError(thrown);
    }
  };
  const twice = <A, B, R>(call: (a: A, b: B) => R) => (a: A, b: B): R => {
    try {
      return call(a, b);
    } catch (thrown) {
      throw toRuntimeError(thrown);
    }
  };
  const launch: Native["launch"] = (kernel, handles, scalars) => {
    try {
      addon.launch(kernel, handles, scalars);
    } catch (thrown) {
      throw toRuntimeError(thrown);
    }
  };
  return {
    configure: wrap(addon.configure), allocate: twice(addon.allocate), view: twice(addon.view), free: once(addon.free), vacate: wrap(addon.vacate), refill: wrap(addon.refill),
    kernel: wrap(addon.kernel), kernels: wrap(addon.kernels), launch, upload: wrap(addon.upload),
    read: settle(addon.read), fence: settle(addon.fence), stamp: wrap(addon.stamp), stampsTake: wrap(addon.stampsTake), occupy: wrap(addon.occupy), memory: wrap(addon.memory), resetPeak: wrap(addon.resetPeak), timings: wrap(addon.timings), pending: wrap(addon.pending),
    recordBegin: wrap(addon.recordBegin), recordEnd: wrap(addon.recordEnd) as Native["recordEnd"], programDifference: wrap(addon.programDifference),
    programExists: wrap(addon.programExists), programDrop: wrap(addon.programDrop), programDescribe: wrap(addon.programDescribe), replay: wrap(addon.replay),
    slabCreate: wrap(addon.slabCreate), slabOpen: wrap(addon.slabOpen), slabClose: wrap(addon.slabClose),
    slabWrite: wrap(addon.slabWrite), slabStamp: wrap(addon.slabStamp), slabTensor: wrap(addon.slabTensor),
    ucxInfo: wrap(addon.ucxInfo), ucxAddress: wrap(addon.ucxAddress), ucxSlab: wrap(addon.ucxSlab), ucxRegister: wrap(addon.ucxRegister), ucxConnect: wrap(addon.ucxConnect),
    ucxRead: settle(addon.ucxRead), ucxClose: wrap(addon.ucxClose), ucxDescribe: wrap(addon.ucxDescribe),
    groupSeat: wrap(addon.groupSeat), groupJoin: wrap(addon.groupJoin), groupDrop: wrap(addon.groupDrop), groupAbort: wrap(addon.groupAbort),
    groupFailure: wrap(addon.groupFailure), groupLeave: wrap(addon.groupLeave),
    dieWithParent: wrap(addon.dieWithParent), info: wrap(addon.info),
  };
}

/** The same error in our clothes; not a `cause`, which would say everything twice. */
function toRuntimeError(thrown: unknown): unknown {
  if (!(thrown instanceof Error) || !("code" in thrown)) return thrown;
  const { code, details } = thrown as Error & { code: ErrorCode; details?: Details };
  return new RuntimeError(code, thrown.message, details ?? {});
}
