/**
 * Webdataset shards: tar files whose consecutive members with one key are one sample.
 *
 * T-1: the key is the path up to the first dot of the base name, the rest (lower-cased) names the member: `a/0001.page.json` -> `a/0001`, `page.json`.
 * T-2: directories, names without a dot and `__name__` members or folders are passed over. Samples are not merged across shards or interruptions.
 * T-3: a shard that ends too early or turns to garbage gives the samples that were complete, and one fault naming the last member seen.
 * T-4: a second member of one name in one sample is a fault; the first one counts.
 */
import { closeSync, createReadStream, fstatSync, openSync, readdirSync, readSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { pipeline } from "node:stream";
import { createGunzip } from "node:zlib";
import tar from "tar-stream";
import { RuntimeError } from "../../runtime/index.ts";
import { dataError, type Place } from "./page-record.ts";

export interface Sample {
  key: string;
  shard: string;
  members: Map<string, Uint8Array>;
}

/** Something in the data that had to be passed over: where, and why. */
export interface Fault extends Place { problem: string }

/** One member may not be larger: a broken header must not ask for a terabyte. */
const largestMember = 256 * 2 ** 20;

export async function readShard(path: string): Promise<{ samples: Sample[]; faults: Fault[] }> {
  const samples: Sample[] = [];
  const faults: Fault[] = [];
  const extract = tar.extract();
  const source = createReadStream(path);
  // Failures of any part arrive in the loop below; the callback only keeps them from being thrown a second time.
  if (/\.(gz|tgz)$/.test(path)) pipeline(source, createGunzip(), extract, () => {});
  else pipeline(source, extract, () => {});
  let lastMember: string | undefined;
  try {
    for await (const entry of extract) {
      const { name, type, size } = entry.header;
      lastMember = name;
      if ((size ?? 0) > largestMember) throw new Error(`member of ${size} bytes, more than ${largestMember}`);
      const chunks: Buffer[] = [];
      for await (const chunk of entry) chunks.push(chunk as Buffer);
      const bytes = Buffer.concat(chunks);
      if (bytes.length !== size && type === "file") throw new Error(`member ends after ${bytes.length} of ${size} bytes`);
      const named = type === "file" ? sampleName(name) : undefined;
      if (!named) continue;
      let sample = samples.at(-1);
      if (sample?.key !== named.key) samples.push(sample = { key: named.key, shard: path, members: new Map() });
      if (sample.members.has(named.suffix)) faults.push({ file: path, member: name, problem: "a second member of this name in one sample" });
      else sample.members.set(named.suffix, bytes);
    }
    // A tar cut between two members reads like a whole one, but for the end mark.
    if (lastMember !== undefined && path.endsWith(".tar") && !hasEndMark(path)) {
      faults.push({ file: path, member: lastMember, problem: "the tar has no end mark after this member; what followed is lost" });
    }
    if (lastMember === undefined) faults.push({ file: path, problem: statSync(path).size === 0 ? "an empty file" : "no members" });
  } catch (cause) {
    const error = cause as NodeJS.ErrnoException;
    if (error.code === "ENOENT" || error.code === "EACCES" || error.code === "EISDIR") {
      throw dataError({ file: path }, `cannot be read (${error.code})`, "Check the path and its permissions.", cause);
    }
    faults.push({ file: path, member: lastMember, problem: `the tar ends or breaks here (${error.message})` });
  }
  return { samples, faults };
}

/** Two blocks of zeros end a tar. */
function hasEndMark(path: string): boolean {
  const file = openSync(path, "r");
  try {
    const { size } = fstatSync(file);
    const tail = Buffer.alloc(Math.min(size, 1024));
    readSync(file, tail, 0, tail.length, size - tail.length);
    return tail.every((byte) => byte === 0);
  } finally {
    closeSync(file);
  }
}

/** T-1, T-2; undefined for a member that belongs to no sample. */
export function sampleName(path: string): { key: string; suffix: string } | undefined {
  const parts = path.split("/");
  const base = parts.at(-1)!;
  const reserved = (part: string) => /^__.*__$/.test(part);
  if (reserved(parts[0]) || parts.slice(0, -1).some(reserved)) return undefined;
  const dot = base.indexOf(".");
  const key = [...parts.slice(0, -1), base.slice(0, Math.max(0, dot))].join("/");
  if (dot < 0 || key === "") return undefined;
  return { key, suffix: base.slice(dot + 1).toLowerCase() };
}

/** `data/train-{000..002}.tar` and `data/train-*.tar` -> the files, in order. Throws ERR_DATA when a pattern names nothing. */
export function findShards(patterns: readonly string[]): string[] {
  return patterns.flatMap((pattern) => expandBraces(pattern).flatMap((path) => {
    if (!/[*?]/.test(path)) return [path];
    const folder = dirname(path);
    if (/[*?]/.test(folder)) {
      throw new RuntimeError("ERR_DATA", `${pattern}: expected * and ? only in the file name. Name the folders one by one.`, { pattern });
    }
    const name = new RegExp(`^${basename(path).replace(/[.+^$()|[\]\\{}]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".")}$`);
    let entries: string[];
    try {
      entries = readdirSync(folder);
    } catch (cause) {
      throw new RuntimeError("ERR_DATA", `${pattern}: folder ${folder} cannot be read. Paths of a recipe start at the recipe's folder.`, { pattern, folder }, { cause });
    }
    const found = entries.filter((entry) => name.test(entry)).sort().map((entry) => join(folder, entry));
    if (found.length === 0) {
      throw new RuntimeError("ERR_DATA", `${pattern}: no file matches; the folder holds ${entries.slice(0, 8).join(", ") || "nothing"}. Paths of a recipe start at the recipe's folder.`, { pattern, folder });
    }
    return found;
  }));
}

/** `a{00..02}` -> a00 a01 a02; `{x,y}` -> x y. */
function expandBraces(pattern: string): string[] {
  const braces = /\{([^{}]*)\}/.exec(pattern);
  if (!braces) return [pattern];
  const range = /^(\d+)\.\.(\d+)$/.exec(braces[1]);
  const choices = range
    ? Array.from({ length: Math.max(0, Number(range[2]) - Number(range[1]) + 1) }, (_, i) => String(Number(range[1]) + i).padStart(range[1].length, "0"))
    : braces[1].split(",");
  return choices.flatMap((choice) => expandBraces(pattern.slice(0, braces.index) + choice + pattern.slice(braces.index + braces[0].length)));
}
