import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createHost, createRegistry, isTextId, Philox, type DataLoader, type HostBatch, type HostMicrobatch } from "../../../runtime/index.ts";
import { dataLoaders } from "../../../plugins/data-loader/index.ts";
import { packedWindows, sentences, tokenMask } from "../../../plugins/data-loader/sequences.ts";
import { tokenizers } from "../../../plugins/tokenizer/index.ts";
import { temporaryFolder } from "../../process/octavo.ts";
import { packTar, record } from "./bad-shards.ts";
import { tinyTokenizer } from "../../runtime/trainer/tiny-world.ts";

const examples = fileURLToPath(new URL("../../../examples", import.meta.url));

function loader(options: Record<string, unknown>): DataLoader {
  const host = createHost(createRegistry([...dataLoaders, ...tokenizers]), { folder: examples, seed: 1 });
  return host.build<DataLoader>("data-loader/text", { tokenizer: "data/tokenizer.json", shards: "data/receipts/train-*.tar", held_out: "data/receipts/held-out-*.tar", length: 32, ...options }, "data-loader");
}

const rowsOf = ({ tensors }: HostMicrobatch, name: string): number[][] => {
  const { shape: [B, T], data } = tensors[name];
  return Array.from({ length: B }, (_, b) => Array.from((data as Int32Array).subarray(b * T, (b + 1) * T)));
};
const rows = (batch: HostBatch, name: string): number[][] => batch.microbatches.flatMap((part) => rowsOf(part, name));
const word = (text: string, line?: number) => ({ text, box: [0, 0, 1, 1] as const, line });
const page = (key: string, words: ReturnType<typeof word>[], lines: string[] = []) => ({
  key, page: { docId: key, page: 0, source: "test", origSize: [1, 1] as const, words, lines: lines.map((text) => ({ text, box: [0, 0, 1, 1] as const })), regions: [], meta: {} },
});

describe("data-loader/text", () => {
  it("C-3: shards without a usable page are refused with what was wrong with the first, whichever split they are of", async () => {
    const folder = temporaryFolder(), broken = join(folder.path, "broken.tar"), short = join(folder.path, "short.tar");
    writeFileSync(broken, await packTar([["a.json", "{"], ["b.json", record({ words: [{ text: "x", box: [1] }] })]]));
    writeFileSync(short, await packTar([["a.json", record()]]));
    try {
      for (const split of ["shards", "held_out"]) {
        await assert.rejects(loader({ [split]: broken }).open(), { code: "ERR_DATA", message: /broken\.tar: a\.json: 1 shard\(s\) hold no usable page; first problem: .*<key>\.json per page/ });
        await assert.rejects(loader({ [split]: short }).open(), { code: "ERR_DATA", message: /short\.tar: 1 pages hold no text of 32 tokens/ });
      }
    } finally {
      folder.remove();
    }
  });

  it("T-1: windows are the pages end to end, <eos> behind each, and leave out what is too short", () => {
    const pages = [page("a", [word("ab"), word("c")]), page("b", []), page("c", [word("defg")])];
    const all = pages.flatMap(({ page }) => [...tinyTokenizer.encodeWords(page.words.map(({ text }) => text)).ids, tinyTokenizer.special.eos]);
    const { windows, left } = packedWindows(pages, tinyTokenizer, 3);
    assert.deepEqual(windows.flatMap(({ ids }) => ids), all.slice(0, all.length - left));
    assert.ok(windows.every(({ ids }) => ids.length === 3) && left < 3 && windows.length > 1);
    assert.equal(windows[0].key, "a");
  });

  it("T-2: sentences are lines, or words of one line number; of like ones the first is kept", () => {
    const pages = [page("a", [], ["ab cd", "ab cd", "x"]), page("b", [word("ab", 0), word("cd", 0), word("cd", 1), word("ab", 1)])];
    const { sentences: found, repeated } = sentences(pages, tinyTokenizer, 64);
    const of = (text: string) => [tinyTokenizer.special.bos, ...tinyTokenizer.encodeWords(text.split(" ")).ids, tinyTokenizer.special.eos];
    const expected = [["a#0", of("ab cd")], ["b#1", of("cd ab")]];
    assert.deepEqual(found.filter(({ key }) => key !== "a#2").map(({ key, ids }) => [key, ids]), expected);
    assert.equal(repeated, 2);
  });

  it("T-3: hides the share asked for, no special token and never the first", () => {
    const ids = Array.from({ length: 20_000 }, (_, i) => (i % 10 === 0 ? 2 : 50));
    const hidden = tokenMask(new Philox(1, 2), ids, { share: 0.2, isText: (id) => id >= 16 });
    const share = hidden.reduce((a, b) => a + b, 0) / 18_000;
    assert.ok(Math.abs(share - 0.2) < 0.01, `hides ${share}`); // four standard deviations
    ids.forEach((id, i) => assert.ok(!hidden[i] || id === 50));
    assert.equal(tokenMask(new Philox(1, 2), [50, 50], { share: 1, isText: (id) => id >= 16 })[0], 0);
  });

  for (const objective of ["causal", "mntp", "sentences"]) {
    it(`TX-1, TX-2: ${objective}: a batch is a function of seed and step, its rows and counts the same however it is cut`, async () => {
      const text = loader({ objective });
      const draw = (step: number, seed: number, microbatches = 1) => text.batch({ step, seed, batch: 6, microbatches });
      const first = await draw(5, 1);
      assert.deepEqual(await draw(5, 1), first);
      for (const other of [await draw(6, 1), await draw(5, 2)]) assert.notDeepEqual(rows(other, "text_ids"), rows(first, "text_ids"));
      const cut = await draw(5, 1, 3), whole = first.microbatches[0];
      assert.deepEqual(cut.counts, first.counts);
      assert.deepEqual(cut.microbatches.flatMap(({ keys }) => keys), whole.keys);
      const real = (row: number[]) => row.filter((id) => id !== text.tokenizer.special.pad);
      assert.deepEqual(rows(cut, "text_ids").map(real), rows(first, "text_ids").map(real));
      await text.close();
    });
  }

  it("causal: windows without padding, labels are the tokens, counted but for the first", async () => {
    const text = loader({ objective: "causal" }), batch = await text.batch({ step: 0, seed: 1, batch: 4, microbatches: 2 });
    assert.deepEqual(rows(batch, "labels"), rows(batch, "text_ids"));
    assert.ok(rows(batch, "text_mask").flat().every((flag) => flag === 1));
    assert.deepEqual(batch.counts, { pages: 4, lm_tokens: 4 * 31 });
    await text.close();
  });

  it("mntp: the index points before each hidden token, the targets are what stood there, and the counts are theirs", async () => {
    const text = loader({ objective: "mntp" }), plain = loader({ objective: "causal" });
    const [masked, bare] = await Promise.all([text, plain].map((each) => each.batch({ step: 3, seed: 1, batch: 8, microbatches: 2 })));
    let hidden = 0;
    masked.microbatches.forEach((part, m) => {
      const [ids, labels, original] = [rowsOf(part, "text_ids"), rowsOf(part, "labels"), rowsOf(bare.microbatches[m], "text_ids")];
      const index = Array.from(part.tensors.mntp_index.data as Int32Array), targets = Array.from(part.tensors.mntp_targets.data as Int32Array);
      assert.deepEqual(index.map((at) => original.flat()[at + 1]), targets);
      original.flat().forEach((id, at) => {
        const isHidden = index.includes(at - 1);
        assert.equal(labels.flat()[at], isHidden ? id : -100);
        if (!isHidden) assert.equal(ids.flat()[at], id);
        else assert.ok(isTextId(text.tokenizer, id) && at % 32 > 0);
      });
      hidden += index.length;
    });
    assert.equal(masked.counts.mntp_tokens, hidden);
    assert.ok(hidden > 0.1 * 256 && hidden < 0.3 * 256, `${hidden} hidden`);
    await text.close(), await plain.close();
  });

  it("mntp as Mistral: four fifths hidden, all of them by <mask>", async () => {
    const text = loader({ objective: "mntp", mask_text: 0.8, mask_kept: 1 }), batch = await text.batch({ step: 0, seed: 1, batch: 8, microbatches: 1 });
    const [ids, labels] = [rows(batch, "text_ids").flat(), rows(batch, "labels").flat()];
    labels.forEach((label, at) => assert.equal(label !== -100, ids[at] === text.tokenizer.special.mask));
    assert.ok(batch.counts.mntp_tokens > 0.65 * 256);
    await text.close();
  });

  it("holds out other pages, the same for every step of training, and says what it left out", async () => {
    const text = loader({ objective: "mntp" });
    const [held, again] = [await text.evaluationBatches({ seed: 1, batch: 4, limit: 10 }), await text.evaluationBatches({ seed: 1, batch: 4, limit: 10 })];
    assert.deepEqual(held, again);
    assert.deepEqual(held.map(({ counts }) => counts.pages), [4, 4, 2]);
    const { train_pages, held_out_pages, train_texts, left_tokens } = text.stats();
    assert.deepEqual([train_pages, held_out_pages], [133, 32]);
    assert.ok(train_texts > 133 && left_tokens < 64);
    assert.deepEqual(await text.examples("train"), []);
    await assert.rejects(text.encode([]), { code: "ERR_INPUT" });
    await text.close();
    await assert.rejects(loader({ pages: 1, length: 4000 }).open(), { code: "ERR_DATA", message: /hold no text of 4000 tokens/ });
  });
});
