import { closeSync, fstatSync } from "node:fs";
import { RuntimeError } from "../errors.ts";
import { openForReading, readExactly } from "./durable.ts";
import { isTensor, type Pickled, type PickledTensor, unpickle } from "./pickle.ts";
import { bytesOf, bytesPer, elements, type TensorSource } from "./stored.ts";
import { dataStart, looksZipped, readDirectory, readMember, type ZipMember } from "./zip.ts";

const maxPickleBytes = 256 * 1024 * 1024;
/** Under these keys training scripts keep the state dict beside other things. */
const wrappers = ["model", "module", "state_dict"];

/**
 * A `.pth` or `.bin` of torch (zip container, torch 1.6 and later): the tensors of its state dict, found at the top or under `model`,
 * `module` or `state_dict`. Nothing in it is executed (pickle.ts). Throws ERR_CHECKPOINT for the older bare-pickle format, for names of
 * functions, for a state dict that holds anything but tensors, and for sizes that lie.
 */
export function openTorchFile(path: string): TensorSource {
  const file = openForReading(path);
  try {
    const start = readExactly(path, file, 0, Math.min(4, fstatSync(file).size));
    if (!looksZipped(start)) {
      throw refusal(path, "it is no zip file, and torch before 1.6 wrote bare pickles, which are not read", "Load and save it once with a later torch: torch.save(torch.load(file, weights_only=True), file).");
    }
    const members = readDirectory(path, file);
    const pickle = [...members.values()].find(({ name }) => name === "data.pkl" || name.endsWith("/data.pkl"));
    if (!pickle) throw refusal(path, "it has no data.pkl", "Was it written by torch.save?");
    const folder = pickle.name.slice(0, -"data.pkl".length);
    const order = members.get(`${folder}byteorder`);
    const byteOrder = order ? readMember(path, file, order, 64).toString("utf8") : "little";
    if (byteOrder !== "little") throw refusal(path, `its numbers are ${byteOrder}-endian`, "Save it on a little-endian machine.");
    const bytes = readMember(path, file, pickle, maxPickleBytes);
    const tensors = stateDict(unpickle(bytes, path), path);
    return new TorchSource(path, file, tensors, (tensor, name) => storageOf(path, members, folder, tensor, name), pickle.packed);
  } catch (error) {
    closeSync(file);
    throw error;
  }
}

class TorchSource implements TensorSource {
  readonly format = "torch";
  readonly metadata = {};
  readonly names: readonly string[];
  /** Where stored members begin, and the whole of deflated ones, by member name. */
  readonly #starts = new Map<string, number>();
  readonly #inflated = new Map<string, Buffer>();

  constructor(readonly path: string, private readonly file: number, private readonly tensors: ReadonlyMap<string, PickledTensor>,
    private readonly storage: (tensor: PickledTensor, name: string) => ZipMember, public bytesRead: number) {
    this.names = [...tensors.keys()];
    for (const [name, tensor] of tensors) storage(tensor, name); // a lying size shows now, not at the first read
  }

  entry(name: string) {
    const tensor = this.tensors.get(name);
    return tensor && { dtype: tensor.storage.dtype, shape: tensor.shape };
  }

  bytes(name: string, from: number, length: number): Uint8Array {
    const tensor = this.tensors.get(name);
    if (!tensor) throw new RuntimeError("ERR_CHECKPOINT", `${this.path}: holds no tensor "${name}".`, { path: this.path, name });
    const { shape, storage: { dtype } } = tensor, size = bytesPer[dtype];
    const total = bytesOf({ dtype, shape });
    if (from < 0 || length < 0 || from + length > total) throw new RuntimeError("ERR_CHECKPOINT", `${this.path}: "${name}" has ${total} bytes, ${from} to ${from + length} were asked for.`, { path: this.path, name });
    const member = this.storage(tensor, name);
    if (isContiguous(tensor)) return this.#read(member, tensor.offset * size + from, length);
    const span = 1 + shape.reduce((sum, n, i) => sum + (n - 1) * tensor.strides[i], 0);
    return gathered(tensor, this.#read(member, tensor.offset * size, elements(shape) === 0 ? 0 : span * size), size).subarray(from, from + length);
  }

  #read(member: ZipMember, from: number, length: number): Buffer {
    this.bytesRead += length;
    if (member.method !== 0) {
      if (!this.#inflated.has(member.name)) this.#inflated.set(member.name, readMember(this.path, this.file, member, member.size));
      return this.#inflated.get(member.name)!.subarray(from, from + length);
    }
    if (!this.#starts.has(member.name)) this.#starts.set(member.name, dataStart(this.path, this.file, member));
    return readExactly(this.path, this.file, this.#starts.get(member.name)! + from, length);
  }

  close(): void {
    closeSync(this.file);
  }
}

function stateDict(root: Pickled, path: string): Map<string, PickledTensor> {
  let dict = root;
  for (const key of wrappers) {
    const inner = dict instanceof Map ? dict.get(key) : undefined;
    if (inner instanceof Map) dict = inner;
  }
  if (!(dict instanceof Map)) throw refusal(path, "it holds no dictionary of tensors", "Save a state dict.");
  const tensors = new Map<string, PickledTensor>();
  for (const [name, value] of dict) {
    if (typeof name !== "string" || !isTensor(value)) throw refusal(path, `under ${JSON.stringify(name)} it holds ${describe(value)} instead of a tensor`, "Save the state dict alone, or under \"model\" or \"module\".");
    tensors.set(name, value);
  }
  return tensors;
}

function storageOf(path: string, members: ReadonlyMap<string, ZipMember>, folder: string, { storage }: PickledTensor, name: string): ZipMember {
  const member = members.get(`${folder}data/${storage.key}`);
  if (!member) throw refusal(path, `the data of "${name}" (${storage.key}) is missing`, "The file is damaged.");
  const claimed = storage.elements * bytesPer[storage.dtype];
  if (member.size !== claimed || (member.method === 0 && member.packed !== member.size)) throw refusal(path, `"${name}" claims a storage of ${claimed} bytes, the file has ${member.packed}`, "The file is damaged.");
  return member;
}

function isContiguous({ shape, strides }: PickledTensor): boolean {
  let expected = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== 1 && strides[i] !== expected) return false;
    expected *= shape[i];
  }
  return true;
}

/** The elements of a strided view in row-major order. */
function gathered({ shape, strides }: PickledTensor, data: Buffer, size: number): Uint8Array {
  const count = elements(shape), result = new Uint8Array(count * size), index = shape.map(() => 0);
  for (let k = 0, at = 0; k < count; k++) {
    data.copy(result, k * size, at * size, (at + 1) * size);
    for (let d = shape.length - 1; d >= 0; d--) {
      at += strides[d];
      if (++index[d] < shape[d]) break;
      at -= strides[d] * shape[d];
      index[d] = 0;
    }
  }
  return result;
}

const describe = (value: Pickled): string => (value instanceof Map ? "a dictionary" : Array.isArray(value) ? "a list" : value === null ? "nothing" : typeof value === "object" ? "something else" : JSON.stringify(value, (_, v) => (typeof v === "bigint" ? String(v) : v)));

const refusal = (path: string, what: string, fix: string): RuntimeError =>
  new RuntimeError("ERR_CHECKPOINT", `${path}: not a readable file of tensors: ${what}. ${fix}`, { path, what });
