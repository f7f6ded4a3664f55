import { fstatSync } from "node:fs";
import { inflateRawSync } from "node:zlib";
import { RuntimeError } from "../errors.ts";
import { readExactly } from "./durable.ts";

/**
 * The members of a zip file by its central directory, zip64 included (torch writes it beyond 4 GiB). Stored members are read in ranges;
 * deflated ones are small here and are inflated whole, to the size they claim and no further. Source: PKWARE APPNOTE 6.3.10.
 */
export interface ZipMember { name: string; method: number; packed: number; size: number; header: number }

const endMark = 0x06054b50, end64Mark = 0x06064b50, locator64Mark = 0x07064b50, entryMark = 0x02014b50, localMark = 0x04034b50;
const endBytes = 22, locatorBytes = 20, entryBytes = 46, localBytes = 30, longestComment = 65535;
const maxDirectoryBytes = 256 * 1024 * 1024;

/** Whether the bytes at the start of a file are those of a zip. */
export const looksZipped = (start: Uint8Array): boolean => start.length >= 4 && Buffer.from(start).readUInt32LE(0) === localMark;

export function readDirectory(path: string, file: number): Map<string, ZipMember> {
  const refuse = refusal(path);
  const fileBytes = fstatSync(file).size;
  const tailBytes = Math.min(fileBytes, endBytes + longestComment + locatorBytes);
  const tail = readExactly(path, file, fileBytes - tailBytes, tailBytes);
  let end = tail.length - endBytes;
  while (end >= 0 && !(tail.readUInt32LE(end) === endMark && end + endBytes + tail.readUInt16LE(end + 20) === tail.length)) end--;
  if (end < 0) return refuse("it has no end-of-directory record, as a file cut short has not");
  let count = tail.readUInt16LE(end + 10), bytes = tail.readUInt32LE(end + 12), start = tail.readUInt32LE(end + 16);
  if (end >= locatorBytes && tail.readUInt32LE(end - locatorBytes) === locator64Mark) {
    const at = Number(tail.readBigUInt64LE(end - locatorBytes + 8));
    if (at + 56 > fileBytes) refuse("its zip64 record lies outside the file");
    const record = readExactly(path, file, at, 56);
    if (record.readUInt32LE(0) !== end64Mark) refuse("its zip64 record is none");
    [count, bytes, start] = [32, 40, 48].map((offset) => Number(record.readBigUInt64LE(offset)));
  }
  if (bytes > maxDirectoryBytes || start + bytes > fileBytes) refuse(`its directory claims ${bytes} bytes from ${start}, the file has ${fileBytes}`);
  return entriesOf(readExactly(path, file, start, bytes), count, fileBytes, refuse);
}

function entriesOf(directory: Buffer, count: number, fileBytes: number, refuse: Refuse): Map<string, ZipMember> {
  const members = new Map<string, ZipMember>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + entryBytes > directory.length || directory.readUInt32LE(at) !== entryMark) return refuse(`its directory ends after ${i} of ${count} members`);
    const nameBytes = directory.readUInt16LE(at + 28), extraBytes = directory.readUInt16LE(at + 30), commentBytes = directory.readUInt16LE(at + 32);
    const next = at + entryBytes + nameBytes + extraBytes + commentBytes;
    if (next > directory.length) return refuse(`its directory ends within member ${i}`);
    const name = directory.toString("utf8", at + entryBytes, at + entryBytes + nameBytes);
    const small = { size: directory.readUInt32LE(at + 24), packed: directory.readUInt32LE(at + 20), header: directory.readUInt32LE(at + 42) };
    const extra = directory.subarray(at + entryBytes + nameBytes, at + entryBytes + nameBytes + extraBytes);
    const member = { name, method: directory.readUInt16LE(at + 10), ...small, ...wide(extra, small) };
    if ((directory.readUInt16LE(at + 8) & 1) !== 0) refuse(`"${name}" is encrypted`);
    if (members.has(name)) refuse(`it holds "${name}" twice`);
    if (member.header + member.packed > fileBytes) refuse(`"${name}" claims ${member.packed} bytes from ${member.header}, the file has ${fileBytes}`);
    members.set(name, member);
    at = next;
  }
  return members;
}

/** The zip64 extra field holds, in this order, only those numbers whose 32-bit place is all ones. */
function wide(extra: Buffer, small: { size: number; packed: number; header: number }): Partial<typeof small> {
  for (let at = 0; at + 4 <= extra.length; at += 4 + extra.readUInt16LE(at + 2)) {
    if (extra.readUInt16LE(at) !== 1) continue;
    const result: Partial<typeof small> = {};
    let field = at + 4;
    for (const key of ["size", "packed", "header"] as const) {
      if (small[key] !== 0xffffffff || field + 8 > extra.length) continue;
      result[key] = Number(extra.readBigUInt64LE(field));
      field += 8;
    }
    return result;
  }
  return {};
}

/** Where a stored member's bytes begin. */
export function dataStart(path: string, file: number, member: ZipMember): number {
  const local = readExactly(path, file, member.header, localBytes);
  if (local.readUInt32LE(0) !== localMark) refusal(path)(`"${member.name}" does not begin where the directory says`);
  const start = member.header + localBytes + local.readUInt16LE(26) + local.readUInt16LE(28);
  if (start + member.packed > fstatSync(file).size) refusal(path)(`"${member.name}" runs past the end of the file`);
  return start;
}

/** A whole member, at most `most` bytes. */
export function readMember(path: string, file: number, member: ZipMember, most: number): Buffer {
  const refuse = refusal(path);
  if (member.size > most) refuse(`"${member.name}" claims ${member.size} bytes; at most ${most} are read at once`);
  const packed = readExactly(path, file, dataStart(path, file, member), member.packed);
  if (member.method === 0) return member.packed === member.size ? packed : refuse(`"${member.name}" is stored as ${member.packed} bytes and claims ${member.size}`);
  if (member.method !== 8) refuse(`"${member.name}" is packed by method ${member.method}; 0 (stored) and 8 (deflate) are known`);
  try {
    const bytes = inflateRawSync(packed, { maxOutputLength: Math.max(1, member.size) });
    return bytes.length === member.size ? bytes : refuse(`"${member.name}" inflates to ${bytes.length} bytes and claims ${member.size}`);
  } catch (cause) {
    if (cause instanceof RuntimeError) throw cause;
    return refuse(`"${member.name}" does not inflate to the ${member.size} bytes it claims`, cause);
  }
}

type Refuse = (what: string, cause?: unknown) => never;
const refusal = (path: string): Refuse => (what, cause) => {
  throw new RuntimeError("ERR_CHECKPOINT", `${path}: not a readable zip file: ${what}.`, { path, what }, { cause });
};
