import { RuntimeError } from "../errors.ts";
import type { StoredDType } from "./stored.ts";

/**
 * Reads the pickles that torch writes for tensors, and nothing else.
 * PK-1: nothing is ever executed. A pickle names Python functions and asks to call them; here a name is looked up in `allowed`, and what is
 * not there is refused with its name. A call builds a plain description of a tensor. PK-2: whatever the bytes say, reading ends: no loops,
 * no recursion, no memory beyond what the bytes themselves hold. Source: the opcode table of Python's pickletools, protocols 2 to 4.
 */
export interface PickledTensor { kind: "tensor"; storage: PickledStorage; offset: number; shape: number[]; strides: number[] }
export interface PickledStorage { kind: "storage"; dtype: StoredDType; key: string; elements: number }
export type Pickled = null | boolean | number | bigint | string | Uint8Array | Pickled[] | Map<Pickled, Pickled> | PickledTensor | PickledStorage | Allowed;

interface Allowed { kind: "global"; name: string; dtype?: StoredDType; call?(args: Pickled[]): Pickled }

const mark = Symbol("mark");

const storage = (name: string, dtype: StoredDType): [string, Allowed] => [`torch.${name}`, { kind: "global", name: `torch.${name}`, dtype }];
const call = (name: string, build: (args: Pickled[]) => Pickled): [string, Allowed] => [name, { kind: "global", name, call: build }];

/** Every name a pickle may mention. */
const allowed = new Map<string, Allowed>([
  storage("DoubleStorage", "F64"), storage("FloatStorage", "F32"), storage("HalfStorage", "F16"), storage("BFloat16Storage", "BF16"),
  storage("LongStorage", "I64"), storage("IntStorage", "I32"), storage("CharStorage", "I8"), storage("ByteStorage", "U8"), storage("BoolStorage", "BOOL"),
  call("collections.OrderedDict", ([pairs]) => dictionary(pairs)),
  call("torch._utils._rebuild_tensor_v2", tensor),
  call("torch._utils._rebuild_tensor", tensor),
  call("torch._utils._rebuild_parameter", ([data]) => (isTensor(data) ? data : wrong("a parameter that holds no tensor"))),
]);

export const isTensor = (value: unknown): value is PickledTensor => (value as PickledTensor | null)?.kind === "tensor";

/** Throws ERR_CHECKPOINT naming the function or opcode that has no place in a file of tensors. */
export function unpickle(bytes: Buffer, path: string): Pickled {
  try {
    return new Machine(bytes).run();
  } catch (error) {
    const what = error instanceof Refused ? error.message : error instanceof RangeError ? "it ends within a value" : undefined;
    if (what === undefined) throw error;
    throw new RuntimeError("ERR_CHECKPOINT", `${path}: not a file of tensors alone: ${what}. Nothing in it was executed. Save the state dict by itself: torch.save(model.state_dict(), file).`, { path, what }, { cause: error });
  }
}

class Refused extends Error {}
const wrong = (what: string): never => { throw new Refused(what); };

class Machine {
  readonly #stack: (Pickled | typeof mark)[] = [];
  readonly #memo = new Map<number, Pickled>();
  #at = 0;

  constructor(private readonly bytes: Buffer) {}

  run(): Pickled {
    for (;;) {
      const opcode = this.bytes.readUInt8(this.#at++);
      if (opcode === 0x2e) return this.pop(); // STOP
      const step = steps[opcode];
      if (step === undefined) return wrong(`the opcode 0x${opcode.toString(16)} at byte ${this.#at - 1} of its pickle is not one that tensors need`);
      step(this);
    }
  }

  take(count: number): Buffer {
    if (count < 0 || this.#at + count > this.bytes.length) throw new RangeError("past the end");
    this.#at += count;
    return this.bytes.subarray(this.#at - count, this.#at);
  }

  line(): string {
    const end = this.bytes.indexOf(0x0a, this.#at);
    if (end < 0) throw new RangeError("past the end");
    const text = this.take(end - this.#at).toString("utf8");
    this.#at++;
    return text;
  }

  push(value: Pickled | typeof mark): void {
    this.#stack.push(value);
  }

  pop(): Pickled {
    const value = this.#stack.pop();
    return value === undefined || value === mark ? wrong("its pickle takes a value that is not there") : value;
  }

  popMany(count: number): Pickled[] {
    return Array.from({ length: count }, () => this.pop()).reverse();
  }

  sinceMark(): Pickled[] {
    const at = this.#stack.lastIndexOf(mark);
    if (at < 0) wrong("its pickle closes a list that was not opened");
    return this.#stack.splice(at).slice(1) as Pickled[];
  }

  top(): Pickled {
    const value = this.#stack.at(-1);
    return value === undefined || value === mark ? wrong("its pickle uses a value that is not there") : value;
  }

  remember(place: number): void {
    this.#memo.set(place, this.top());
  }

  memoize(): void {
    this.remember(this.#memo.size);
  }

  recall(place: number): void {
    this.push(this.#memo.has(place) ? this.#memo.get(place)! : wrong("its pickle recalls a value that it did not keep"));
  }
}

/** What each opcode does; one that is not here is refused. */
const steps: Partial<Record<number, (m: Machine) => void>> = {
  0x80: (m) => { const version = m.take(1)[0]; if (version < 2 || version > 4) wrong(`its pickle has protocol ${version}; 2 to 4 are read`); }, // PROTO
  0x95: (m) => void m.take(8), // FRAME
  0x28: (m) => m.push(mark), // MARK
  0x30: (m) => void m.pop(), // POP
  0x4e: (m) => m.push(null), // NONE
  0x88: (m) => m.push(true), // NEWTRUE
  0x89: (m) => m.push(false), // NEWFALSE
  0x4a: (m) => m.push(m.take(4).readInt32LE()), // BININT
  0x4b: (m) => m.push(m.take(1)[0]), // BININT1
  0x4d: (m) => m.push(m.take(2).readUInt16LE()), // BININT2
  0x8a: (m) => m.push(long(m.take(m.take(1)[0]))), // LONG1
  0x47: (m) => m.push(m.take(8).readDoubleBE()), // BINFLOAT
  0x58: (m) => m.push(m.take(m.take(4).readUInt32LE()).toString("utf8")), // BINUNICODE
  0x8c: (m) => m.push(m.take(m.take(1)[0]).toString("utf8")), // SHORT_BINUNICODE
  0x55: (m) => m.push(m.take(m.take(1)[0]).toString("latin1")), // SHORT_BINSTRING
  0x7d: (m) => m.push(new Map()), // EMPTY_DICT
  0x5d: (m) => m.push([]), // EMPTY_LIST
  0x29: (m) => m.push([]), // EMPTY_TUPLE
  0x74: (m) => m.push(m.sinceMark()), // TUPLE
  0x85: (m) => m.push(m.popMany(1)), // TUPLE1
  0x86: (m) => m.push(m.popMany(2)), // TUPLE2
  0x87: (m) => m.push(m.popMany(3)), // TUPLE3
  0x71: (m) => m.remember(m.take(1)[0]), // BINPUT
  0x72: (m) => m.remember(m.take(4).readUInt32LE()), // LONG_BINPUT
  0x94: (m) => m.memoize(), // MEMOIZE
  0x68: (m) => m.recall(m.take(1)[0]), // BINGET
  0x6a: (m) => m.recall(m.take(4).readUInt32LE()), // LONG_BINGET
  0x73: (m) => { const pair = m.popMany(2); fill(m.top(), pair); }, // SETITEM
  0x75: (m) => { const pairs = m.sinceMark(); fill(m.top(), pairs); }, // SETITEMS
  0x61: (m) => { const [value] = m.popMany(1); append(m.top(), [value]); }, // APPEND
  0x65: (m) => { const values = m.sinceMark(); append(m.top(), values); }, // APPENDS
  0x63: (m) => m.push(lookUp(m.line(), m.line())), // GLOBAL
  0x93: (m) => { const [module, name] = m.popMany(2); m.push(lookUp(String(module), String(name))); }, // STACK_GLOBAL
  0x51: (m) => m.push(persistent(m.pop())), // BINPERSID
  0x52: (m) => { const [called, args] = m.popMany(2); m.push(reduce(called, args)); }, // REDUCE
  // BUILD: attributes of the object below. A state dict carries its versions there, which nothing needs.
  0x62: (m) => { m.pop(); if (!(m.top() instanceof Map)) wrong("its pickle sets the state of an object that is no dictionary"); },
};

function lookUp(module: string, name: string): Allowed {
  return allowed.get(`${module}.${name}`) ?? wrong(`it names ${module}.${name}, and only tensors and the dictionaries that hold them are read`);
}

function reduce(called: Pickled, args: Pickled): Pickled {
  const known = called as Allowed | null;
  if (known?.kind !== "global" || !Array.isArray(args)) return wrong("its pickle calls what is no function");
  return known.call ? known.call(args) : wrong(`it calls ${known.name}`);
}

/** ("storage", torch.FloatStorage, key of the data, device, elements) */
function persistent(id: Pickled): PickledStorage {
  if (!Array.isArray(id) || id[0] !== "storage") return wrong("its pickle refers to something outside that is no storage");
  const [, type, key, , count] = id;
  const dtype = (type as Allowed | null)?.dtype;
  if (dtype === undefined || typeof key !== "string" || !isCount(count)) return wrong("it has a storage without type, key or size");
  return { kind: "storage", dtype, key, elements: count };
}

/** (storage, offset, size, strides, ...) -> a description; the numbers are checked against the storage. */
function tensor([data, offset, shape, strides]: Pickled[]): PickledTensor {
  if ((data as PickledStorage | null)?.kind !== "storage" || !isCount(offset) || !areCounts(shape) || !areCounts(strides) || shape.length !== strides.length) return wrong("it has a tensor without storage, offset, sizes or strides");
  const last = shape.reduce((sum, size, i) => sum + (size - 1) * strides[i], offset);
  const of = data as PickledStorage;
  if (!shape.includes(0) && last >= of.elements) wrong(`a tensor (${shape.join(", ")}) from ${offset} with strides (${strides.join(", ")}) leaves its storage of ${of.elements} elements`);
  return { kind: "tensor", storage: of, offset, shape, strides };
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const areCounts = (value: unknown): value is number[] => Array.isArray(value) && value.every(isCount);

function dictionary(pairs: Pickled | undefined): Map<Pickled, Pickled> {
  const map = new Map<Pickled, Pickled>();
  if (pairs === undefined) return map;
  if (!Array.isArray(pairs)) return wrong("it has a dictionary made of something that is no list");
  for (const pair of pairs) if (Array.isArray(pair) && pair.length === 2) map.set(pair[0], pair[1]);
    else wrong("it has a dictionary made of something that is no pair");
  return map;
}

function fill(map: Pickled, pairs: Pickled[]): void {
  if (!(map instanceof Map) || pairs.length % 2 !== 0) return wrong("its pickle sets items of what is no dictionary");
  for (let i = 0; i < pairs.length; i += 2) map.set(pairs[i], pairs[i + 1]);
}

function append(list: Pickled, values: Pickled[]): void {
  if (!Array.isArray(list)) return wrong("its pickle appends to what is no list");
  for (const value of values) list.push(value);
}

/** Little-endian two's complement. */
function long(bytes: Buffer): number | bigint {
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]);
  const signed = BigInt.asIntN(Math.max(1, bytes.length * 8), value);
  return signed >= BigInt(Number.MIN_SAFE_INTEGER) && signed <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(signed) : signed;
}
