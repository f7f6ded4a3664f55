import { join } from "node:path";
import type { Parameter, Parameters } from "../nn/index.ts";
import type { OptimizerLike } from "../plugin/index.ts";
import type { HostArray, Shape, Tensor } from "../tensor/index.ts";
import { RuntimeError } from "../errors.ts";
import { type Manifest, type ShardEntry, readManifest } from "./manifest.ts";
import { type SafetensorsFile, openSafetensors, writeSafetensors } from "./safetensors.ts";
import { formatEntry, readNumbers, type StoredDType, type StoredTensor, type TensorSource } from "./stored.ts";

const stored: Partial<Record<string, StoredDType>> = { f64: "F64", f32: "F32", bf16: "BF16", f16: "F16", i32: "I32", i64: "I64", u8: "U8", bool: "BOOL" };

/** Separates a parameter's name from the optimizer's slot in the name of a stored state: `vision.norm.weight@m`. */
const slotMark = "@";

/** Reads a parameter's value, or what an optimizer keeps for it, as a checkpoint shall hold it. */
export type ReadWhole = (parameter: Parameter, tensor: Tensor) => Promise<{ values: HostArray; shape: Shape }>;
const asItIs: ReadWhole = async (_, tensor) => ({ values: await tensor.read(), shape: tensor.shape });

/**
 * Writes what one process owns: `<shard>.safetensors` with its parameters and `<shard>.optimizer.safetensors` with what the
 * optimizer remembers of them. Reads the device in stream order, so the bits are those after the last step queued. Where parameters are shared
 * out, `read` puts them together: all members call this, one of them with a folder.
 */
export async function saveShard(folder: string | undefined, shard: string, parameters: Parameters, optimizer?: OptimizerLike, read: ReadWhole = asItIs): Promise<ShardEntry[]> {
  const weights = new Map<string, Owned>(), remembered = new Map<string, Owned>();
  for (const [name, parameter] of Object.entries(parameters)) {
    weights.set(name, { parameter, tensor: parameter.value });
    if (optimizer && parameter.trainable) {
      for (const [slot, tensor] of Object.entries(optimizer.state(parameter))) remembered.set(`${name}${slotMark}${slot}`, { parameter, tensor });
    }
  }
  return [
    ...(await writeTensors(folder, `${shard}.safetensors`, weights, "parameter", read)),
    ...(await writeTensors(folder, `${shard}.optimizer.safetensors`, remembered, "optimizer", read)),
  ];
}

interface Owned { parameter: Parameter; tensor: Tensor }

async function writeTensors(folder: string | undefined, file: string, tensors: ReadonlyMap<string, Owned>, role: ShardEntry["role"], read: ReadWhole): Promise<ShardEntry[]> {
  if (tensors.size === 0) return [];
  const host = new Map<string, StoredTensor>();
  for (const [name, { parameter, tensor }] of tensors) {
    const dtype = stored[tensor.dtype];
    if (!dtype) throw new RuntimeError("ERR_CHECKPOINT", `${name}: tensors of ${tensor.dtype} are not stored yet.`, { name, dtype: tensor.dtype });
    const { values, shape } = await read(parameter, tensor);
    if (folder !== undefined) host.set(name, { dtype, shape, data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) });
  }
  if (folder === undefined) return [];
  writeSafetensors(join(folder, file), host);
  return [...host].map(([name, { dtype, shape }]) => ({ name, shape, dtype, file, role }));
}

/** Reads single tensors of a checkpoint by name, whatever processes wrote it. */
export interface CheckpointReader {
  readonly manifest: Manifest;
  /** As f32 (f64 where f64 is stored), whatever it is stored as. */
  parameter(name: string): Float32Array | Float64Array | undefined;
  /** What the optimizer remembered of a parameter, by slot; empty when nothing was stored. */
  optimizerState(name: string): Record<string, Float32Array | Float64Array>;
  close(): void;
}

export function openCheckpoint(folder: string): CheckpointReader {
  const manifest = readManifest(folder);
  const files = new Shards(folder);
  const where = { parameter: new Map<string, ShardEntry>(), optimizer: new Map<string, ShardEntry>() };
  for (const entry of manifest.tensors) where[entry.role].set(entry.name, entry);
  const slots = new Map<string, string[]>();
  for (const name of where.optimizer.keys()) {
    const at = name.lastIndexOf(slotMark);
    slots.set(name.slice(0, at), [...(slots.get(name.slice(0, at)) ?? []), name.slice(at + 1)]);
  }
  const read = (entry: ShardEntry): Float32Array | Float64Array => readNumbers(files.holding(entry), entry.name);
  return {
    manifest,
    parameter: (name) => {
      const entry = where.parameter.get(name);
      return entry && read(entry);
    },
    optimizerState: (name) => Object.fromEntries((slots.get(name) ?? []).map((slot) => [slot, read(where.optimizer.get(`${name}${slotMark}${slot}`)!)])),
    close: () => files.close(),
  };
}

/** The files of a checkpoint, each opened when something in it is wanted. */
class Shards {
  readonly #files = new Map<string, SafetensorsFile>();

  constructor(readonly folder: string) {}

  /** Throws ERR_CHECKPOINT where the file does not hold what the manifest says. */
  holding({ name, file, dtype, shape }: ShardEntry): SafetensorsFile {
    let opened = this.#files.get(file);
    if (!opened) this.#files.set(file, (opened = openSafetensors(join(this.folder, file))));
    const found = opened.entry(name);
    if (found?.dtype === dtype && found.shape.join() === shape.join()) return opened;
    throw new RuntimeError("ERR_CHECKPOINT", `${join(this.folder, file)}: "${name}" is ${found ? formatEntry(found) : "missing"}, the manifest says ${dtype} (${shape.join(", ")}).`, { name });
  }

  get bytesRead(): number {
    return [...this.#files.values()].reduce((sum, file) => sum + file.bytesRead, 0);
  }

  close(): void {
    for (const file of this.#files.values()) file.close();
  }
}

/** The parameters of a checkpoint as a source of tensors: what export and inspect read. */
export function openCheckpointTensors(folder: string): TensorSource {
  const manifest = readManifest(folder);
  const where = new Map(manifest.tensors.filter(({ role }) => role === "parameter").map((entry) => [entry.name, entry]));
  const files = new Shards(folder);
  const file = (name: string): SafetensorsFile => {
    const entry = where.get(name);
    if (!entry) throw new RuntimeError("ERR_CHECKPOINT", `${folder}: holds no "${name}".`, { path: folder, name });
    return files.holding(entry);
  };
  return {
    path: folder, metadata: {},
    format: "octavo checkpoint",
    names: [...where.keys()],
    get bytesRead() { return files.bytesRead; },
    entry: (name) => {
      const entry = where.get(name);
      return entry && { dtype: entry.dtype as StoredDType, shape: entry.shape };
    },
    bytes: (name, from, length) => file(name).bytes(name, from, length),
    close: () => files.close(),
  };
}
