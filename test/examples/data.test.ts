import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync, mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import type { PageRecord } from "../../runtime/index.ts";
import { readShard } from "../../plugins/data-loader/tar.ts";
import { readPubLayNet } from "../../examples/convert/publaynet.ts";
import { splitByDocument } from "../../examples/convert/split.ts";
import { readSroie } from "../../examples/convert/sroie.ts";
import { writeShards, type ShardEntry } from "../../examples/convert/write.ts";
import type { SourcePage } from "../../examples/convert/page.ts";

const data = fileURLToPath(new URL("../../examples/data", import.meta.url));

describe("the page set of the examples", () => {
  const manifest = JSON.parse(readFileSync(join(data, "manifest.json"), "utf8")) as { shards: ShardEntry[] };
  const files = (folder: string): string[] => readdirSync(folder, { withFileTypes: true }).flatMap((e) => (e.isDirectory() ? files(join(folder, e.name)) : [join(folder, e.name)]));

  it("is what its manifest says, and at most 12 MB", () => {
    for (const shard of manifest.shards) {
      const bytes = readFileSync(join(data, shard.file));
      assert.equal(createHash("sha256").update(bytes).digest("hex"), shard.sha256, shard.file);
    }
    assert.deepEqual(files(data).filter((file) => file.endsWith(".tar")).length, manifest.shards.length);
    const total = files(data).reduce((sum, file) => sum + statSync(file).size, 0);
    assert.ok(total <= 12e6, `${total} bytes`);
  });

  it("has licence and notice beside every set", () => {
    for (const folder of new Set(manifest.shards.map(({ file }) => file.split("/")[0]))) {
      const names = readdirSync(join(data, folder));
      assert.ok(names.includes("NOTICE.md") && names.some((name) => name.startsWith("LICENSE")), `${folder}: ${names}`);
      assert.match(readFileSync(join(data, folder, "NOTICE.md"), "utf8"), /Changes: /);
    }
  });

  it("never has a document on both sides, nor the same words under two names", async () => {
    const sides = new Map<string, string>();
    const texts = new Map<string, string>();
    for (const { file, split, keys } of manifest.shards) {
      const { samples, faults } = await readShard(join(data, file));
      assert.deepEqual(faults, []);
      assert.deepEqual(samples.map((sample) => sample.key), keys);
      for (const sample of samples) {
        const record = JSON.parse(Buffer.from(sample.members.get("json")!).toString()) as PageRecord;
        assert.ok((sides.get(record.docId) ?? split) === split, `${record.docId} is on both sides`);
        sides.set(record.docId, split);
        const text = record.words.map((word) => word.text).join(" ");
        if (text !== "") assert.ok((texts.get(text) ?? split) === split, `${sample.key} repeats a page of the other side`);
        texts.set(text, split);
        for (const word of record.words) assert.ok(word.box.length === 4 && word.box.every((v) => v >= 0 && v <= 1024), `${sample.key}: ${word.box}`);
      }
    }
  });
});

describe("converting SROIE", () => {
  let folder: string;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "octavo-sroie-"));
    for (const part of ["img", "box", "key"]) mkdirSync(join(folder, part));
    const add = async (key: string, shade: number, box: string, entities: object) => {
      writeFileSync(join(folder, "img", `${key}.jpg`), await sharp({ create: { width: 100, height: 200, channels: 3, background: { r: shade, g: 0, b: 0 } } }).jpeg().toBuffer());
      writeFileSync(join(folder, "box", `${key}.csv`), box);
      writeFileSync(join(folder, "key", `${key}.json`), JSON.stringify(entities));
    };
    await add("A", 10, "10,20,60,20,60,40,10,40,NO.5, JALAN 1\r\n10,50,60,50,60,60,10,60,TOTAL 9.00\n\n", { total: "9.00" });
    await add("B", 10, "10,20,60,20,60,40,10,40,NO.5 JALAN 1\n", { total: "9.00" });            // the image of A
    await add("C", 90, "0,0,60,0,60,40,0,40,NO.5; JALAN 1\n0,50,60,50,60,60,0,60,TOTAL: 9.00", { total: "9.00" });  // another scan of A
    await add("D", 200, "0,0,60,0,60,40,0,40,OTHER SHOP\n", { company: "OTHER SHOP" });
    writeFileSync(join(folder, "box", "E.csv"), "");  // no image
  });
  after(() => rmSync(folder, { recursive: true }));

  it("keeps commas of the transcript, splits words by the width, scales to the frame", async () => {
    const { pages } = await readSroie(folder);
    const [{ record }] = pages;
    assert.deepEqual(record.words.map((word) => [word.text, word.line]), [["NO.5,", 0], ["JALAN", 0], ["1", 0], ["TOTAL", 1], ["9.00", 1]]);
    // 13 characters on 50 of 100 pixels from x = 10: "JALAN" is [6, 11).
    assert.deepEqual(record.words[1].box, [Math.round((10 + (50 * 6) / 13) * 1024) / 100, 102.4, Math.round((10 + (50 * 11) / 13) * 1024) / 100, 204.8]);
    assert.deepEqual([record.origSize, record.meta.entities], [[100, 200], { total: "9.00" }]);
  });

  it("leaves out identical images and groups scans of one document", async () => {
    const { pages, identical } = await readSroie(folder);
    assert.deepEqual(identical, [{ key: "B", sameAs: "A" }]);
    assert.deepEqual(pages.map(({ key, group }) => [key, group]), [["A", "A"], ["C", "A"], ["D", "D"]]);
  });

  it("refuses a region without eight coordinates", async () => {
    const box = join(folder, "box", "D.csv");
    const whole = readFileSync(box);
    writeFileSync(box, "1,2,3,4,TEXT");
    await assert.rejects(readSroie(folder), /without eight coordinates: 1,2,3,4,TEXT/);
    writeFileSync(box, whole);
  });

  it("writes the same shards for the same pages", async () => {
    const { pages } = await readSroie(folder);
    const write = (folder: string) => writeShards({ out: folder, folder: "r", split: "train", pages, perShard: 2, shrink: { side: 50, quality: 60 } });
    const [one, two] = [await write(join(folder, "one")), await write(join(folder, "two"))];
    assert.deepEqual(one, two);
    assert.deepEqual(one.map(({ file, keys }) => [file, keys]), [["r/train-000.tar", ["A", "C"]], ["r/train-001.tar", ["D"]]]);
    const { samples } = await readShard(join(folder, "one", one[0].file));
    const { width, height, channels } = await sharp(samples[0].members.get("jpg")).metadata();
    assert.deepEqual([width, height, channels], [25, 50, 1]);
  });
});

describe("converting PubLayNet", () => {
  it("names regions by category name and scales COCO boxes", () => {
    const folder = mkdtempSync(join(tmpdir(), "octavo-publaynet-"));
    mkdirSync(join(folder, "images"));
    writeFileSync(join(folder, "images", "PMC1_00003.jpg"), "x");
    writeFileSync(join(folder, "samples.json"), JSON.stringify({
      images: [{ id: 9, file_name: "PMC1_00003.jpg", width: 596, height: 794 }], categories: [{ id: 4, name: "table" }],
      annotations: [{ image_id: 9, category_id: 4, bbox: [37.59, 360.34, 251.07, 41.36] }, { image_id: 8, category_id: 4, bbox: [0, 0, 1, 1] }],
    }));
    const [{ key, group, record }] = readPubLayNet(folder, []);
    rmSync(folder, { recursive: true });
    // x * 1024 / 596 and y * 1024 / 794 of the corners, rounded to hundredths.
    assert.deepEqual(record.regions, [{ label: "table", box: [64.58, 464.72, 495.95, 518.06] }]);
    assert.deepEqual([key, group, record.docId, record.page, record.words], ["PMC1_00003", "PMC1", "PMC1", 3, []]);
  });
});

describe("splitting by document", () => {
  const page = (key: string, group: string) => ({ key, group }) as SourcePage;
  const pages = Array.from({ length: 40 }, (_, i) => page(`p${i}`, `g${Math.floor(i / 2)}`));

  it("keeps groups together, whatever the order of the pages", () => {
    const split = splitByDocument(pages, 11);
    assert.equal(split["held-out"].length, 10);
    const held = new Set(split["held-out"].map((p) => p.group));
    assert.ok(split.train.every((p) => !held.has(p.group)));
    const shuffled = splitByDocument(pages.toReversed(), 11);
    assert.deepEqual(new Set(shuffled["held-out"].map((p) => p.key)), new Set(split["held-out"].map((p) => p.key)));
  });
});
