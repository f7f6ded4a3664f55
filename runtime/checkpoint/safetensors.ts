import { closeSync, fstatSync, fsyncSync, openSync, readSync, writeSync } from "node:fs";
import { RuntimeError } from "../errors.ts";

/**
 * The safetensors container: u64 little-endian header length n, n bytes of JSON `{name: {dtype, shape, data_offsets}}`,
 * then raw little-endian data; offsets count from the first byte after the header.
 * Promises. ST-1: a written file is synced to disk before `writeSafetensors` returns. ST-2: a header that lies about
 * sizes, overlaps or runs past the file is refused before a byte of data is used.
 * Source: format description of the safetensors project.
 */
export type StoredDType = "F64" | "F32" | "I32" | "I64" | "U8" | "BOOL";
export interface StoredTensor { dtype: StoredDType; shape: readonly number[]; data: Uint8Array }

const bytesPer: Record<StoredDType, number> = { F64: 8, F32: 4, I32: 4, I64: 8, U8: 1, BOOL: 1 };
const maxHeaderBytes = 100 * 1024 * 1024;

/** Writes `tensors` in the order given. Throws ERR_CHECKPOINT with the system's reason (disk full, no permission). */
export function writeSafetensors(path: string, tensors: ReadonlyMap<string, StoredTensor>, metadata: Record<string, string> = {}): void {
  const header: Record<string, unknown> = Object.keys(metadata).length > 0 ? { __metadata__: metadata } : {};
  let offset = 0;
  for (const [name, tensor] of tensors) {
    header[name] = { dtype: tensor.dtype, shape: tensor.shape, data_offsets: [offset, offset + tensor.data.byteLength] };
    offset += tensor.data.byteLength;
  }
  let text = JSON.stringify(header);
  text += " ".repeat((8 - (Buffer.byteLength(text) % 8)) % 8); // data stays 8-byte aligned, as the format recommends
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(Buffer.byteLength(text)));
  let file: number | undefined;
  try {
    file = openSync(path, "w");
    for (const part of [prefix, Buffer.from(text), ...[...tensors.values()].map((tensor) => tensor.data)]) writeAll(file, part);
    fsyncSync(file);
  } catch (cause) {
    throw new RuntimeError("ERR_CHECKPOINT", `${path}: cannot be written (${reason(cause)}). Free space or choose another run folder.`,
      { path, bytes: offset, reason: reason(cause) }, { cause });
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** The header of a file and a way to read single tensors without touching the rest. Close it when done. */
export interface SafetensorsFile {
  readonly names: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  entry(name: string): { dtype: StoredDType; shape: readonly number[] } | undefined;
  read(name: string): StoredTensor;
  close(): void;
}

export function openSafetensors(path: string): SafetensorsFile {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch (cause) {
    throw new RuntimeError("ERR_CHECKPOINT", `${path}: cannot be opened (${reason(cause)}).`, { path }, { cause });
  }
  try {
    const { entries, metadata, dataStart } = readHeader(path, file);
    const find = (name: string): Entry => {
      const entry = entries.get(name);
      if (!entry) throw new RuntimeError("ERR_CHECKPOINT", `${path}: holds no tensor "${name}".`, { path, name });
      return entry;
    };
    return {
      names: [...entries.keys()],
      metadata,
      entry: (name) => entries.get(name),
      read(name) {
        const { dtype, shape, begin, end } = find(name);
        return { dtype, shape, data: readExactly(path, file, dataStart + begin, end - begin) };
      },
      close: () => closeSync(file),
    };
  } catch (error) {
    closeSync(file);
    throw error;
  }
}

interface Entry { dtype: StoredDType; shape: readonly number[]; begin: number; end: number }

function readHeader(path: string, file: number): { entries: Map<string, Entry>; metadata: Record<string, string>; dataStart: number } {
  const refuse = (what: string, cause?: unknown): never => {
    throw new RuntimeError("ERR_CHECKPOINT", `${path}: not a readable safetensors file: ${what}.`, { path, what }, { cause });
  };
  const fileBytes = fstatSync(file).size;
  if (fileBytes < 8) refuse(`it has ${fileBytes} bytes, the header length alone takes 8`);
  const headerBytes = Number(readExactly(path, file, 0, 8).readBigUInt64LE());
  if (headerBytes > maxHeaderBytes || 8 + headerBytes > fileBytes) refuse(`its header claims ${headerBytes} bytes, the file has ${fileBytes}`);
  let parsed: Record<string, unknown>;
  try {
    parsed = JSON.parse(readExactly(path, file, 8, headerBytes).toString("utf8")) as Record<string, unknown>;
  } catch (cause) {
    return refuse("its header is not JSON", cause);
  }
  const metadata = (parsed.__metadata__ ?? {}) as Record<string, string>;
  const entries = new Map<string, Entry>();
  let expected = 0;
  const rows = Object.entries(parsed).filter(([name]) => name !== "__metadata__")
    .map(([name, value]) => ({ name, ...(value as { dtype: StoredDType; shape: number[]; data_offsets: [number, number] }) }))
    .sort((a, b) => (a.data_offsets?.[0] ?? 0) - (b.data_offsets?.[0] ?? 0));
  for (const { name, dtype, shape, data_offsets } of rows) {
    if (!(dtype in bytesPer) || !Array.isArray(shape) || !Array.isArray(data_offsets)) refuse(`the entry "${name}" lacks a known dtype, shape or offsets`);
    const [begin, end] = data_offsets;
    const bytes = shape.reduce((product, n) => product * n, 1) * bytesPer[dtype];
    if (begin !== expected || end - begin !== bytes) refuse(`the entry "${name}" claims bytes ${begin} to ${end}, its shape (${shape.join(", ")}) of ${dtype} needs ${bytes} from ${expected}`);
    entries.set(name, { dtype, shape, begin, end });
    expected = end;
  }
  if (8 + headerBytes + expected !== fileBytes) refuse(`its tensors end at byte ${8 + headerBytes + expected}, the file has ${fileBytes}`);
  return { entries, metadata, dataStart: 8 + headerBytes };
}

export function writeAll(file: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.byteLength;) done += writeSync(file, bytes, done, Math.min(bytes.byteLength - done, 1 << 30));
}

function readExactly(path: string, file: number, position: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let done = 0; done < length;) {
    const got = readSync(file, bytes, done, Math.min(length - done, 1 << 30), position + done);
    if (got === 0) throw new RuntimeError("ERR_CHECKPOINT", `${path}: ends at byte ${position + done}, ${length - done} more were promised.`, { path });
    done += got;
  }
  return bytes;
}

export function reason(error: unknown): string {
  return error instanceof Error ? ((error as NodeJS.ErrnoException).code ?? error.message) : String(error);
}
