/** Writes webdataset shards: `<key>.jpg` and `<key>.json` per page. The same pages give the same bytes. */
import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import tar from "tar-stream";
import { shrink, type ShrinkOptions, type SourcePage } from "./page.ts";

export interface ShardEntry { file: string; split: string; pages: number; bytes: number; sha256: string; keys: string[] }

export async function writeShards(o: { out: string; folder: string; split: string; pages: readonly SourcePage[]; perShard: number; shrink: ShrinkOptions }): Promise<ShardEntry[]> {
  const entries: ShardEntry[] = [];
  for (let from = 0; from < o.pages.length; from += o.perShard) {
    const pages = o.pages.slice(from, from + o.perShard);
    const bytes = await packShard(pages, o.shrink);
    const file = join(o.out, o.folder, `${o.split}-${String(entries.length).padStart(3, "0")}.tar`);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, bytes);
    entries.push({
      file: relative(o.out, file), split: o.split, pages: pages.length, bytes: bytes.length,
      sha256: createHash("sha256").update(bytes).digest("hex"), keys: pages.map((page) => page.key),
    });
  }
  return entries;
}

/** Pages as plain files, `pages/<key>.jpg` beside `pages/<key>.json`, without the entities: they are what one asks for. */
export async function writeLoose(o: { out: string; pages: readonly SourcePage[]; shrink: ShrinkOptions }): Promise<void> {
  mkdirSync(join(o.out, "pages"), { recursive: true });
  for (const { key, record, image } of o.pages) {
    const { entities: _, ...meta } = record.meta;
    writeFileSync(join(o.out, "pages", `${key}.jpg`), await shrink(image, o.shrink));
    writeFileSync(join(o.out, "pages", `${key}.json`), `${JSON.stringify({ ...record, meta })}\n`);
  }
}

async function packShard(pages: readonly SourcePage[], options: ShrinkOptions): Promise<Buffer> {
  const pack = tar.pack();
  const chunks: Buffer[] = [];
  const whole = (async () => { for await (const chunk of pack) chunks.push(chunk as Buffer); })();
  const add = (name: string, bytes: Buffer) => new Promise<void>((resolve, reject) => {
    pack.entry({ name, size: bytes.length, mtime: new Date(0), mode: 0o444 }, bytes, (error) => (error ? reject(error) : resolve()));
  });
  for (const { key, record, image } of pages) {
    await add(`${key}.jpg`, await shrink(image, options));
    await add(`${key}.json`, Buffer.from(JSON.stringify(record)));
  }
  pack.finalize();
  await whole;
  return Buffer.concat(chunks);
}
