import { closeSync, fstatSync, fsyncSync, openSync } from "node:fs";
import { RuntimeError } from "../errors.ts";
import { openForReading, readExactly, reason, writeAll } from "./durable.ts";
import { bytesOf, bytesPer, readStored, type StoredDType, type StoredEntry, type StoredTensor, type TensorSource } from "./stored.ts";

/**
 * The safetensors container: u64 little-endian header length n, n bytes of JSON `{name: {dtype, shape, data_offsets}}`,
 * then raw little-endian data; offsets count from the first byte after the header.
 * Promises. ST-1: a written file is synced to disk before `writeSafetensors` returns. ST-2: a header that lies about
 * sizes, overlaps, names a tensor twice or runs past the file is refused before a byte of data is used. ST-3: reading one tensor
 * touches its bytes alone.
 * Source: format description of the safetensors project.
 */
const maxHeaderBytes = 100 * 1024 * 1024;

/** A tensor to write whose bytes are made when they are needed. */
export interface WritableTensor extends StoredEntry { pieces(): Iterable<Uint8Array> }

/** Writes `tensors` in the order given. Throws ERR_CHECKPOINT with the system's reason (disk full, no permission). */
export function writeSafetensors(path: string, tensors: ReadonlyMap<string, StoredTensor>, metadata: Record<string, string> = {}): void {
  const steps = writeInSteps(path, new Map([...tensors].map(([name, tensor]) => [name, { ...tensor, pieces: () => [tensor.data] }])), metadata);
  while (!steps.next().done);
}

/**
 * Writes tensors without holding more than a piece of one; yields after each, so that the caller can give others a turn or give up
 * (`return` closes the unfinished file). Done: the file is synced.
 */
export function* writeInSteps(path: string, tensors: ReadonlyMap<string, WritableTensor>, metadata: Record<string, string> = {}): Generator<string, void> {
  const header: Record<string, unknown> = Object.keys(metadata).length > 0 ? { __metadata__: metadata } : {};
  let offset = 0;
  for (const [name, tensor] of tensors) {
    header[name] = { dtype: tensor.dtype, shape: tensor.shape, data_offsets: [offset, offset + bytesOf(tensor)] };
    offset += bytesOf(tensor);
  }
  let text = JSON.stringify(header);
  text += " ".repeat((8 - (Buffer.byteLength(text) % 8)) % 8); // data stays 8-byte aligned, as the format recommends
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(Buffer.byteLength(text)));
  let file: number | undefined;
  try {
    file = openSync(path, "w");
    writeAll(file, prefix);
    writeAll(file, Buffer.from(text));
    for (const [name, tensor] of tensors) {
      let written = 0;
      for (const piece of tensor.pieces()) {
        writeAll(file, piece);
        written += piece.byteLength;
      }
      if (written !== bytesOf(tensor)) throw new Error(`"${name}" gave ${written} bytes instead of ${bytesOf(tensor)}`);
      yield name;
    }
    fsyncSync(file);
  } catch (cause) {
    if (cause instanceof RuntimeError) throw cause; // what a source could not give
    throw new RuntimeError("ERR_CHECKPOINT", `${path}: cannot be written (${reason(cause)}). Free space or choose another run folder.`,
      { path, bytes: offset, reason: reason(cause) }, { cause });
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** A file with its header read, from which single tensors are taken. Close it when done. */
export interface SafetensorsFile extends TensorSource {
  read(name: string): StoredTensor;
}

export function openSafetensors(path: string): SafetensorsFile {
  const file = openForReading(path);
  try {
    const { entries, metadata, dataStart } = readHeader(path, file);
    let bytesRead = dataStart;
    const source: SafetensorsFile = {
      path, metadata,
      format: "safetensors",
      names: [...entries.keys()],
      get bytesRead() { return bytesRead; },
      entry: (name) => entries.get(name),
      bytes(name, from, length) {
        const entry = entries.get(name);
        if (!entry) throw new RuntimeError("ERR_CHECKPOINT", `${path}: holds no tensor "${name}".`, { path, name });
        if (from < 0 || length < 0 || entry.begin + from + length > entry.end) throw new RuntimeError("ERR_CHECKPOINT", `${path}: "${name}" has ${entry.end - entry.begin} bytes, ${from} to ${from + length} were asked for.`, { path, name });
        bytesRead += length;
        return readExactly(path, file, dataStart + entry.begin + from, length);
      },
      read: (name) => {
        const { dtype, shape, data } = readStored(source, name);
        return { dtype, shape, data };
      },
      close: () => closeSync(file),
    };
    return source;
  } catch (error) {
    closeSync(file);
    throw error;
  }
}

interface Entry extends StoredEntry { begin: number; end: number }
interface Row { name: string; dtype: StoredDType; shape: number[]; data_offsets: [number, number] }

function readHeader(path: string, file: number): { entries: Map<string, Entry>; metadata: Record<string, string>; dataStart: number } {
  const refuse = (what: string, cause?: unknown): never => {
    throw new RuntimeError("ERR_CHECKPOINT", `${path}: not a readable safetensors file: ${what}.`, { path, what }, { cause });
  };
  const fileBytes = fstatSync(file).size;
  if (fileBytes < 8) refuse(`it has ${fileBytes} bytes, the header length alone takes 8`);
  const headerBytes = Number(readExactly(path, file, 0, 8).readBigUInt64LE());
  if (headerBytes > maxHeaderBytes || 8 + headerBytes > fileBytes) refuse(`its header claims ${headerBytes} bytes, the file has ${fileBytes}`);
  const text = readExactly(path, file, 8, headerBytes).toString("utf8");
  let parsed: Record<string, unknown>;
  try {
    parsed = JSON.parse(text) as Record<string, unknown>;
  } catch (cause) {
    return refuse("its header is not JSON", cause);
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) refuse("its header is not a map of names");
  const twice = repeatedKey(text);
  if (twice !== undefined) refuse(`it names "${twice}" twice`);
  const metadata = (parsed.__metadata__ ?? {}) as Record<string, string>;
  const entries = new Map<string, Entry>();
  let expected = 0;
  for (const { name, dtype, shape, data_offsets } of inOrder(parsed)) {
    if (!Object.hasOwn(bytesPer, dtype ?? "") || !areSizes(shape) || !areSizes(data_offsets) || data_offsets.length !== 2) refuse(`the entry "${name}" lacks a known dtype, shape or offsets (${JSON.stringify(parsed[name])?.slice(0, 200)})`);
    const [begin, end] = data_offsets;
    const bytes = bytesOf({ dtype, shape });
    if (begin !== expected || end - begin !== bytes) refuse(`the entry "${name}" claims bytes ${begin} to ${end}, its shape (${shape.join(", ")}) of ${dtype} needs ${bytes} from ${expected}`);
    entries.set(name, { dtype, shape, begin, end });
    expected = end;
  }
  if (8 + headerBytes + expected !== fileBytes) refuse(`its tensors end at byte ${8 + headerBytes + expected}, the file has ${fileBytes}`);
  return { entries, metadata, dataStart: 8 + headerBytes };
}

/** By where they begin; one without bytes comes before the one that begins there too. */
function inOrder(parsed: Record<string, unknown>): Row[] {
  const at = (row: Row, side: 0 | 1): number => (Array.isArray(row.data_offsets) ? Number(row.data_offsets[side]) : 0);
  return Object.entries(parsed).filter(([name]) => name !== "__metadata__").map(([name, value]) => ({ ...(value as Row), name }))
    .sort((a, b) => at(a, 0) - at(b, 0) || at(a, 1) - at(b, 1));
}

const areSizes = (list: unknown): boolean => Array.isArray(list) && list.every((n) => Number.isSafeInteger(n) && n >= 0);

/** JSON.parse keeps the last of two equal keys: a second "name" at the top of the map would go unseen. */
function repeatedKey(text: string): string | undefined {
  const seen = new Set<string>();
  let depth = 0;
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?|[{}[\]]/g)) {
    if (token === "{" || token === "[") depth++;
    else if (token === "}" || token === "]") depth--;
    else if (depth === 1 && token.endsWith(":")) {
      const key = JSON.parse(token.slice(0, -1)) as string;
      if (seen.has(key)) return key;
      seen.add(key);
    }
  }
  return undefined;
}
