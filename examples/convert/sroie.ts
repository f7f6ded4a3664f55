/**
 * SROIE as it is published: `img/<key>.jpg`, `box/<key>.csv` (eight corner coordinates, then the transcript, which may hold
 * commas), `key/<key>.json` (company, date, address, total). Receipts without image are left out.
 */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Line, PageRecord, Word } from "../../runtime/index.ts";
import { imageSize, rounded, splitWords, toFrame } from "../../plugins/data-loader/index.ts";
import { groupCopies } from "./copies.ts";
import type { SourcePage } from "./page.ts";

export interface SroiePages {
  pages: SourcePage[];
  /** Receipts left out because their image is byte for byte that of another. */
  identical: { key: string; sameAs: string }[];
}

export async function readSroie(folder: string): Promise<SroiePages> {
  const keys = readdirSync(join(folder, "img")).filter((name) => name.endsWith(".jpg")).map((name) => name.slice(0, -4)).sort();
  const byImage = new Map<string, string>();
  const identical: SroiePages["identical"] = [];
  const pages: SourcePage[] = [];
  for (const key of keys) {
    const image = readFileSync(join(folder, "img", `${key}.jpg`));
    const hash = createHash("sha256").update(image).digest("hex");
    const sameAs = byImage.get(hash);
    if (sameAs) { identical.push({ key, sameAs }); continue; }
    byImage.set(hash, key);
    const size = await imageSize(image, { file: `${key}.jpg` });
    const lines = readLines(readFileSync(join(folder, "box", `${key}.csv`), "utf8"), size);
    const words: Word[] = lines.flatMap((line, i) => splitWords(line.text, line.box).map((word) => ({ text: word.text, box: rounded(word.box), line: i })));
    const record: PageRecord = {
      docId: key, page: 0, source: "sroie", origSize: size, words, lines: lines.map((line) => ({ ...line, box: rounded(line.box) })), regions: [],
      meta: { licence: "CC-BY-4.0", entities: JSON.parse(readFileSync(join(folder, "key", `${key}.json`), "utf8")) },
    };
    pages.push({ key, record, image, group: key });
  }
  groupCopies(pages);
  return { pages, identical };
}

/** One region per line of the CSV; the transcript is everything after the eighth comma. */
function readLines(csv: string, [width, height]: readonly [number, number]): Line[] {
  return csv.split(/\r?\n/).filter((line) => line.trim() !== "").map((line) => {
    const parts = line.split(",");
    const corners = parts.slice(0, 8).map(Number);
    const xs = corners.filter((_, i) => i % 2 === 0), ys = corners.filter((_, i) => i % 2 === 1);
    if (corners.length < 8 || corners.some((value) => !Number.isFinite(value))) throw new Error(`SROIE region without eight coordinates: ${line}`);
    const { box } = toFrame([Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)], width, height);
    return { text: parts.slice(8).join(",").trim(), box };
  }).filter((line) => line.text !== "");
}
