/**
 * Makes the page set of the examples from the original data sets:
 *
 *   npx tsx examples/convert/main.ts --sroie sroie/train --publaynet publaynet --pdf *.pdf --out examples/data
 *
 * Shards per set and split, `manifest.json` (what is where, with hashes), and `tokenizer.json` trained on the train pages alone.
 */
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { Command } from "commander";
import { receiptPrompts } from "../../plugins/task/index.ts";
import { trainByteBpe } from "../../plugins/tokenizer/index.ts";
import type { SourcePage } from "./page.ts";
import { documentName, readPdfs } from "./pdf.ts";
import { readPubLayNet } from "./publaynet.ts";
import { splitByDocument } from "./split.ts";
import { readSroie } from "./sroie.ts";
import { writeLoose, writeShards, type ShardEntry } from "./write.ts";

interface Options {
  sroie?: string; publaynet?: string; publaynetPages: string[]; pdf: string[]; pdfLicence: string;
  out: string; heldOut: number; side: number; quality: number; perShard: number; loose: number; vocabulary: number; locations: number;
}

const number = (text: string) => Number(text);
const options = new Command("convert")
  .option("--sroie <dir>", "SROIE folder with img/, box/ and key/")
  .option("--publaynet <dir>", "PubLayNet folder with images/ and samples.json")
  .option("--publaynet-pages <stems...>", "only these pages", [])
  .option("--pdf <files...>", "PDFs with a text layer", [])
  .option("--pdf-licence <name>", "licence of these PDFs, kept in each record", "unknown")
  .requiredOption("--out <dir>", "where the page set goes")
  .option("--held-out <pages>", "held-out receipts; of the other sets a quarter is held out", number, 32)
  .option("--loose <pages>", "this many held-out receipts, and a held-out PDF, also as plain files to ask about", number, 0)
  .option("--side <pixels>", "longest side of the images", number, 1000)
  .option("--quality <percent>", "JPEG quality", number, 60)
  .option("--per-shard <pages>", "pages in one tar", number, 48)
  .option("--vocabulary <size>", "tokens in all, reserved ones included", number, 2048)
  .option("--locations <bins>", "location tokens", number, 128)
  .parse().opts<Options>();

const sets: { folder: string; pages: SourcePage[]; heldOut: number }[] = [];
let identical: { key: string; sameAs: string }[] = [];
if (options.sroie) {
  const sroie = await readSroie(options.sroie);
  identical = sroie.identical;
  sets.push({ folder: "receipts", pages: sroie.pages, heldOut: options.heldOut });
}
if (options.publaynet) {
  const pages = readPubLayNet(options.publaynet, options.publaynetPages);
  sets.push({ folder: "layout", pages, heldOut: Math.floor(pages.length / 4) });
}
if (options.pdf.length > 0) {
  const pages = await readPdfs(options.pdf, options.pdfLicence);
  sets.push({ folder: "pdf", pages, heldOut: Math.floor(pages.length / 4) });
}

mkdirSync(options.loose > 0 ? join(options.out, "pages") : options.out, { recursive: true });
const shards: ShardEntry[] = [];
const trainText: string[] = Object.values(receiptPrompts).flat().map((prompt) => ` ${prompt}`);
for (const { folder, pages, heldOut } of sets) {
  const split = splitByDocument(pages, heldOut);
  for (const name of ["train", "held-out"] as const) {
    shards.push(...await writeShards({ out: options.out, folder, split: name, pages: split[name], perShard: options.perShard, shrink: options }));
  }
  const asked = folder === "pdf" && options.loose > 0 ? split["held-out"][0]?.group : undefined;
  for (const file of options.pdf.filter((path) => documentName(path) === asked)) copyFileSync(file, join(options.out, "pages", basename(file)));
  if (folder === "receipts") await writeLoose({ out: options.out, pages: split["held-out"].slice(0, options.loose), shrink: options });
  trainText.push(...split.train.flatMap((page) => page.record.words.map((word) => ` ${word.text}`)));
}
const tokenizer = trainByteBpe(trainText, { vocabulary: options.vocabulary, locationBins: options.locations });
writeFileSync(join(options.out, "tokenizer.json"), `${JSON.stringify(tokenizer)}\n`);
const { side, quality, vocabulary } = options;
writeFileSync(join(options.out, "manifest.json"), `${JSON.stringify({ version: 1, images: { side, quality, colour: "grey" }, vocabulary, identicalLeftOut: identical, shards }, null, 1)}\n`);
for (const shard of shards) process.stdout.write(`${shard.file}  ${shard.pages} pages  ${(shard.bytes / 1e6).toFixed(2)} MB\n`);
