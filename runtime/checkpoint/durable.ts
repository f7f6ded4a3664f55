import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readSync, readdirSync, renameSync, rmSync, writeSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { RuntimeError } from "../errors.ts";

/**
 * Files that are whole or not there. DU-1: what has its final name has been written and synced to its end. DU-2: a process killed at any
 * instant leaves at most a folder `.<name>.partial-<pid>` beside the target, which the next writer of the same target takes away.
 */
export async function createFolder<T>(target: string, fill: (partial: string) => Promise<T>): Promise<T> {
  const path = resolve(target);
  if (existsSync(path)) throw new RuntimeError("ERR_INPUT", `${target}: exists already, and nothing is overwritten. Choose another folder, or remove it first.`, { path });
  const [parent, prefix] = [dirname(path), `.${basename(path)}.partial-`];
  const partial = join(parent, `${prefix}${process.pid}`);
  try {
    mkdirSync(parent, { recursive: true });
    for (const name of readdirSync(parent)) if (name.startsWith(prefix) && !lives(Number(name.slice(prefix.length)))) rmSync(join(parent, name), { recursive: true, force: true });
    mkdirSync(partial);
    const result = await fill(partial);
    syncFolder(partial);
    renameSync(partial, path);
    syncFolder(parent);
    return result;
  } catch (cause) {
    rmSync(partial, { recursive: true, force: true });
    if (cause instanceof RuntimeError) throw cause;
    throw new RuntimeError("ERR_CHECKPOINT", `${target}: cannot be written (${reason(cause)}). Nothing is left of it.`, { path, reason: reason(cause) }, { cause });
  }
}

function lives(pid: number): boolean {
  if (pid === process.pid) return false; // a former process had this number
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

export function writeSynced(path: string, text: string): void {
  const file = openSync(path, "w");
  try {
    writeAll(file, Buffer.from(text));
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

export function syncFolder(path: string): void {
  const folder = openSync(path, "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

export function writeAll(file: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.byteLength;) done += writeSync(file, bytes, done, Math.min(bytes.byteLength - done, 1 << 30));
}

/** `length` bytes from `position`. Throws ERR_CHECKPOINT when the file ends before. */
export function readExactly(path: string, file: number, position: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let done = 0; done < length;) {
    const got = readSync(file, bytes, done, Math.min(length - done, 1 << 30), position + done);
    if (got === 0) throw new RuntimeError("ERR_CHECKPOINT", `${path}: ends at byte ${position + done}, ${length - done} more were promised.`, { path });
    done += got;
  }
  return bytes;
}

export function openForReading(path: string): number {
  try {
    return openSync(path, "r");
  } catch (cause) {
    throw new RuntimeError("ERR_CHECKPOINT", `${path}: cannot be opened (${reason(cause)}).`, { path }, { cause });
  }
}

export function reason(error: unknown): string {
  return error instanceof Error ? ((error as NodeJS.ErrnoException).code ?? error.message) : String(error);
}
