/**
 * The pages of a set of shards, in memory: record, encoded image, and the pixels at the model's size, decoded once.
 *
 * C-1: what cannot be used (no record, no image, unreadable) is left out, counted, and kept as a fault with file and member.
 * C-2: the pages that are left are in the order of shards and members, whatever was left out.
 * C-3: shards without a single usable page are ERR_DATA.
 */
import type { PageRecord } from "../../runtime/index.ts";
import { dataError, readRecord, type Place } from "./page-record.ts";
import { decodePixels } from "./pixels.ts";
import { readShard, type Fault, type Sample } from "./tar.ts";

export interface CorpusPage {
  key: string;
  page: PageRecord;
  image: Uint8Array;
  /** side * side * 3 bytes. */
  rgb: Uint8Array;
}

export interface Corpus {
  pages: CorpusPage[];
  faults: Fault[];
  skipped: number;
  clamped: number;
}

const imageSuffixes = ["jpg", "jpeg", "png", "tif", "tiff", "webp"];
/** Pages decoded at a time: enough to keep two cores busy, few enough to keep memory flat. */
const decodedAtOnce = 4;

/** `most`: pages after so many usable ones are not read. */
export async function readCorpus(shards: readonly string[], side: number, most = Infinity): Promise<Corpus> {
  const corpus: Corpus = { pages: [], faults: [], skipped: 0, clamped: 0 };
  for (const shard of shards) {
    if (corpus.pages.length >= most) break;
    const { samples, faults } = await readShard(shard);
    corpus.faults.push(...faults);
    for (let from = 0; from < samples.length && corpus.pages.length < most; from += decodedAtOnce) {
      const read = await Promise.all(samples.slice(from, from + decodedAtOnce).map((sample) => readSample(sample, side)));
      for (const result of read) {
        if ("problem" in result) {
          corpus.faults.push(result);
          corpus.skipped++;
        } else if (corpus.pages.length < most) {
          corpus.pages.push(result.page);
          corpus.clamped += result.clamped;
        }
      }
    }
  }
  requireUsable(shards, corpus, "<key>.jpg and <key>.json");
  return corpus;
}

/** C-3 */
function requireUsable(shards: readonly string[], { pages, faults: [first] }: { pages: readonly unknown[]; faults: readonly Fault[] }, members: string): void {
  if (pages.length > 0 || shards.length === 0) return;
  throw dataError(first ?? { file: shards[0] }, `${shards.length} shard(s) hold no usable page${first ? `; first problem: ${first.problem}` : ""}`,
    `Expected tars with ${members} per page, as examples/convert writes them.`);
}

/** A page without its image. */
export interface TextPage { key: string; page: PageRecord }

/** The records of pages whose images are not wanted; C-1 to C-3 hold, an image may be missing. */
export async function readTexts(shards: readonly string[], most = Infinity): Promise<{ pages: TextPage[]; faults: Fault[]; skipped: number }> {
  const pages: TextPage[] = [], all: Fault[] = [];
  let skipped = 0;
  for (const shard of shards) {
    if (pages.length >= most) break;
    const { samples, faults } = await readShard(shard);
    all.push(...faults);
    for (const { key, members } of samples) {
      if (pages.length >= most) break;
      const json = members.get("json"), at = { file: shard, member: `${key}.json` };
      try {
        if (!json) throw dataError(at, "the page has no record", "Expected <key>.json for every page.");
        pages.push({ key, page: readRecord(json, at, key).page });
      } catch (error) {
        all.push(faultOf(error));
        skipped++;
      }
    }
  }
  requireUsable(shards, { pages, faults: all }, "<key>.json");
  return { pages, faults: all, skipped };
}

/** What was wrong with a page, where it is the page that was wrong. */
function faultOf(error: unknown): Fault {
  const { code, details } = error as { code?: string; details?: Fault };
  if (code !== "ERR_DATA" || !details) throw error;
  return { file: details.file, member: details.member, problem: details.problem };
}

async function readSample(sample: Sample, side: number): Promise<{ page: CorpusPage; clamped: number } | Fault> {
  const suffix = imageSuffixes.find((name) => sample.members.has(name));
  const json = sample.members.get("json");
  const at = (member: string): Place => ({ file: sample.shard, member });
  if (!json) return { ...at(`${sample.key}.json`), problem: "the page has no record" };
  if (!suffix) return { ...at(`${sample.key}.jpg`), problem: "the page has no image" };
  try {
    const { page, clamped } = readRecord(json, at(`${sample.key}.json`), sample.key);
    const image = sample.members.get(suffix)!;
    return { page: { key: sample.key, page, image, rgb: await decodePixels(image, side, at(`${sample.key}.${suffix}`)) }, clamped };
  } catch (error) {
    return faultOf(error);
  }
}
