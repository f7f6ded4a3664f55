import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createRegistry, createHost, type DataLoader, type HostBatch } from "../../../runtime/index.ts";
import { dataLoaders } from "../../../plugins/data-loader/index.ts";
import { tasks } from "../../../plugins/task/index.ts";
import { tokenizers } from "../../../plugins/tokenizer/index.ts";
import { greyPage, packTar, record } from "./bad-shards.ts";

const examples = fileURLToPath(new URL("../../../examples", import.meta.url));
type Loader = DataLoader & { faults(): readonly { file: string; member?: string; problem: string }[] };

function loader(options: Record<string, unknown>): Loader {
  const host = createHost(createRegistry([...dataLoaders, ...tasks, ...tokenizers]), { folder: examples, seed: 1 });
  return host.build<Loader>("data-loader/shards", { tokenizer: "data/tokenizer.json", ...options }, "data-loader");
}

/** The rows of a tensor with their padding, whatever microbatch they are in. */
function rows(batch: HostBatch, name: string, unpadded: (row: number[]) => number[] = (row) => row): number[][] {
  return batch.microbatches.flatMap(({ tensors }) => {
    const { shape, data } = tensors[name];
    const size = shape.slice(1).reduce((a, b) => a * b, 1);
    return Array.from({ length: shape[0] }, (_, b) => unpadded(Array.from((data as Int32Array).subarray(b * size, (b + 1) * size))));
  });
}

describe("data-loader/shards on the receipts, joint", () => {
  const joint = loader({ shards: "data/receipts/train-*.tar", held_out: "data/receipts/held-out-*.tar" });
  before(() => joint.open());
  after(() => joint.close());

  it("reads every page", () => {
    const { train_pages, held_out_pages, skipped_samples, faults, clamped_boxes, cut_pages } = joint.stats();
    assert.deepEqual({ train_pages, held_out_pages, skipped_samples, faults, clamped_boxes }, { train_pages: 133, held_out_pages: 32, skipped_samples: 0, faults: 0, clamped_boxes: 0 });
    assert.equal(cut_pages, 7);
  });

  it("reads the first pages alone where only so many are wanted, over the border of shards too", async () => {
    for (const pages of [3, 50]) {
      const few = loader({ shards: "data/receipts/train-*.tar", held_out: "data/receipts/held-out-*.tar", pages });
      await few.open();
      const { train_pages, held_out_pages, skipped_samples } = few.stats();
      assert.deepEqual([train_pages, held_out_pages, skipped_samples], [pages, Math.min(pages, 32), 0]);
      assert.deepEqual((await few.examples("train")).map(({ key }) => key), (await joint.examples("train")).map(({ key }) => key).slice(0, (await few.examples("train")).length));
      await few.close();
    }
  });

  it("has the ablations of masks and alignment: whole words, lines as segments, words hidden in part left out", async () => {
    const drawn = async (options: Record<string, unknown>): Promise<{ labels: number[][]; ids: number[][]; mlm: number[][]; words: number }> => {
      const other = loader({ shards: "data/receipts/train-000.tar", held_out: "data/receipts/held-out-*.tar", pages: 6, ...options });
      const batch = await other.batch({ step: 1, seed: 3, batch: 6, microbatches: 1 });
      await other.close();
      return { labels: rows(batch, "wpa_labels"), ids: rows(batch, "text_ids"), mlm: rows(batch, "mlm_labels"), words: batch.counts.mlm_tokens };
    };
    const [plain, strict, segments, whole] = await Promise.all([{}, { wpa: { strict: true } }, { wpa: { level: "segment" } }, { whole_word: true }].map(drawn));
    assert.deepEqual([strict.ids, strict.mlm], [plain.ids, plain.mlm], "what is hidden is the same");
    let left = 0;
    strict.labels.forEach((row, b) => row.forEach((label, t) => {
      if (label !== plain.labels[b][t]) left++, assert.deepEqual([label, plain.labels[b][t]], [-100, 1]);
    }));
    assert.ok(left > 0, "some words are hidden in part");
    assert.notDeepEqual(segments.labels, plain.labels);
    assert.ok(whole.words >= plain.words, `${whole.words} tokens hidden in whole words, ${plain.words} in spans`);
  });

  it("gives the same batch for the same seed and step, another for another (L-1)", async () => {
    const draw = (step: number, seed: number) => joint.batch({ step, seed, batch: 4, microbatches: 2 });
    const [first, again, later, other] = [await draw(5, 1), await draw(5, 1), await draw(6, 1), await draw(5, 2)];
    assert.deepEqual(first, again);
    assert.notDeepEqual(first.microbatches[0].keys, later.microbatches[0].keys);
    assert.notDeepEqual(first.microbatches[0].keys, other.microbatches[0].keys);
  });

  it("gives the same rows and counts however a batch is cut (L-2)", async () => {
    const one = await joint.batch({ step: 2, seed: 7, batch: 6, microbatches: 1 });
    const three = await joint.batch({ step: 2, seed: 7, batch: 6, microbatches: 3 });
    assert.deepEqual(three.counts, one.counts);
    assert.deepEqual(three.microbatches.map((m) => m.keys.length), [2, 2, 2]);
    assert.deepEqual(three.microbatches.flatMap((m) => m.sampleIds), one.microbatches[0].sampleIds);
    assert.deepEqual(three.microbatches.flatMap((m) => m.sampleIds).sort(), [12, 13, 14, 15, 16, 17]);
    for (const name of ["pixels", "patch_mask"]) assert.deepEqual(rows(three, name), rows(one, name));
    const trimmed = (row: number[]) => row.slice(0, row.lastIndexOf(2) + 1);
    assert.deepEqual(rows(three, "text_ids", trimmed), rows(one, "text_ids", trimmed));
  });

  it("puts pages of like length into one microbatch, so that little is padding", async () => {
    const { microbatches } = await joint.batch({ step: 2, seed: 7, batch: 16, microbatches: 4 });
    const lengths = microbatches.map((m) => rows({ microbatches: [m] } as HostBatch, "text_mask", (row) => row).map((row) => row.filter(Boolean).length));
    assert.deepEqual(lengths.flat(), [...lengths.flat()].sort((a, b) => a - b));
    assert.ok(Math.max(...lengths[0]) < Math.max(...lengths[3]), JSON.stringify(lengths));
  });

  it("draws every page once per epoch, in an order of its own", async () => {
    const epoch = async (first: number) => (await Promise.all(Array.from({ length: 19 }, (_, i) => joint.batch({ step: first + i, seed: 3, batch: 7, microbatches: 1 })))).flatMap((b) => b.microbatches[0].keys);
    const [one, two] = [await epoch(0), await epoch(19)];  // 19 * 7 = 133
    assert.equal(new Set(one).size, 133);
    assert.deepEqual([...two].sort(), [...one].sort());
    assert.notDeepEqual(two, one);
  });

  it("labels what is hidden and nothing else", async () => {
    const { microbatches: [{ tensors }], counts } = await joint.batch({ step: 0, seed: 1, batch: 8, microbatches: 1 });
    const data = (name: string) => tensors[name].data as Int32Array;
    const [B, T] = tensors.text_ids.shape;
    assert.equal(T % 8, 0);
    const index = [...data("mlm_index")], targets = [...data("mlm_targets")];
    assert.equal(counts.mlm_tokens, index.length);
    assert.deepEqual(index, [...data("mlm_labels").keys()].filter((i) => data("mlm_labels")[i] !== -100));
    assert.deepEqual(targets, index.map((i) => data("mlm_labels")[i]));
    assert.ok(targets.every((id) => id >= 144), "a special or location token is predicted");
    // 30 % of the words' tokens of every row, rounded; a row's specials are <bos>, <eos> and padding.
    for (let b = 0; b < B; b++) {
      const words = data("has_box").subarray(b * T, (b + 1) * T).reduce((sum, has) => sum + has, 0);
      assert.equal(index.filter((i) => Math.floor(i / T) === b).length, Math.floor(0.3 * words + 0.5));
    }
    assert.equal(counts.mim_patches, 8 * 26);
    assert.deepEqual([...data("mim_index")], [...data("patch_mask").keys()].filter((i) => data("patch_mask")[i] === 1));
    const alignment = data("wpa_labels");
    assert.equal(counts.wpa_tokens, alignment.filter((label) => label !== -100).length);
    assert.ok(alignment.some((label) => label === 0) && alignment.some((label) => label === 1), "both classes occur");
    for (const i of index) assert.equal(alignment[i], -100, "a hidden word is asked for its patch");
  });

  it("pads with nothing (B-1)", async () => {
    const { microbatches: [{ tensors }] } = await joint.batch({ step: 1, seed: 1, batch: 4, microbatches: 1 });
    const mask = tensors.text_mask.data as Uint8Array;
    mask.forEach((real, i) => {
      if (real) return;
      for (const [name, nothing] of [["text_ids", 0], ["has_box", 0], ["mlm_labels", -100], ["wpa_labels", -100]] as const) assert.equal((tensors[name].data as Int32Array)[i], nothing, name);
      assert.deepEqual([...(tensors.text_boxes.data as Float32Array).subarray(4 * i, 4 * i + 4)], [0, 0, 0, 0]);
    });
    assert.ok(mask.includes(0), "no row was padded");
    assert.ok((tensors.text_boxes.data as Float32Array).every((v) => v >= 0 && v <= 1));
  });

  it("masks held-out pages the same way every time", async () => {
    const [one, two] = [await joint.evaluationBatches({ seed: 1, batch: 16 }), await joint.evaluationBatches({ seed: 1, batch: 16 })];
    assert.deepEqual(one, two);
    assert.deepEqual(one.map((b) => b.microbatches[0].keys.length), [16, 16]);
    const train = new Set((await joint.examples("train")).map((e) => e.page.docId));
    for (const e of await joint.examples("held-out")) assert.ok(!train.has(e.page.docId), `${e.page.docId} is in both splits`);
  });

  it("gives the tensors its ports promise", async () => {
    const plugin = dataLoaders[0];
    for (const objective of ["joint", "answer"]) {
      const options = plugin.options.parse({ shards: "x", tokenizer: "y", objective });
      const { out } = plugin.ports(options);
      const source = objective === "joint" ? joint : loader({ shards: "data/receipts/train-000.tar", objective });
      const { microbatches: [{ tensors }], counts } = await source.batch({ step: 0, seed: 1, batch: 3, microbatches: 1 });
      assert.deepEqual(Object.keys(tensors).sort(), Object.keys(out).sort());
      assert.deepEqual(Object.keys(counts).sort(), [...plugin.counts(options)].sort());
      const dims: Record<string, number> = {};
      for (const [name, { dtype, dims: promised }] of Object.entries(out)) {
        assert.equal(tensors[name].dtype, dtype, name);
        assert.equal(tensors[name].shape.length, promised.length, name);
        promised.forEach((dim, i) => assert.equal(tensors[name].shape[i], typeof dim === "number" ? dim : (dims[dim] ??= tensors[name].shape[i]), `${name} dimension ${dim}`));
      }
    }
  });
});

describe("data-loader/shards on the receipts, answer", () => {
  const answers = loader({ shards: "data/receipts/train-000.tar", held_out: "data/receipts/held-out-*.tar", objective: "answer" });
  before(() => answers.open());
  after(() => answers.close());

  it("asks, answers, and labels the answer alone", async () => {
    const { microbatches: [{ tensors }], counts } = await answers.batch({ step: 0, seed: 1, batch: 8, microbatches: 1 });
    const { special } = answers.tokenizer;
    const data = (name: string) => tensors[name].data as Int32Array;
    const [B, A] = tensors.dec_ids.shape;
    let labels = 0;
    for (let b = 0; b < B; b++) {
      const ids = [...data("dec_ids").subarray(b * A, (b + 1) * A)], label = [...data("dec_labels").subarray(b * A, (b + 1) * A)];
      const asked = ids.indexOf(special.ans), ended = ids.indexOf(special.eos);
      assert.equal(ids[0], special.bos);
      assert.ok(asked > 0 && ended > asked);
      assert.deepEqual(label, ids.map((_, i) => (i >= asked && i < ended ? ids[i + 1] : -100)));
      labels += ended - asked;
    }
    assert.deepEqual([...data("dec_targets")], [...data("dec_index")].map((i) => data("dec_labels")[i]));
    assert.equal(counts.answer_text_tokens + counts.answer_loc_tokens, labels);
    assert.equal(counts.answer_loc_tokens, 4 * counts.boxes);
    assert.deepEqual([...data("box_index")], [...data("dec_ids").keys()].filter((i) => data("dec_ids")[i] === special.box));
    assert.ok((tensors.patch_mask.data as Uint8Array).every((bit) => bit === 0));
  });

  it("leaves the instruction out of the decoder where it shall reach it through the prompt encoder alone", async () => {
    const without = loader({ shards: "data/receipts/train-000.tar", objective: "answer", prompt_in_decoder: false }), at = { step: 0, seed: 1, batch: 4, microbatches: 1 };
    const [given, bare] = [await answers.batch(at), await without.batch(at)], { special } = answers.tokenizer;
    assert.deepEqual(rows(bare, "prompt_ids"), rows(given, "prompt_ids"));
    for (const row of rows(bare, "dec_ids")) assert.deepEqual(row.slice(0, 2), [special.bos, special.ans]);
    assert.deepEqual(bare.counts, given.counts);
    await without.close();
  });

  it("gives the box head the true box of the location tokens", async () => {
    const { microbatches: [{ tensors }] } = await answers.batch({ step: 3, seed: 1, batch: 8, microbatches: 1 });
    const ids = tensors.dec_ids.data as Int32Array, targets = tensors.box_targets.data as Float32Array;
    (tensors.box_index.data as Int32Array).forEach((at, k) => {
      const [cx, cy, w, h] = targets.subarray(4 * k, 4 * k + 4);
      const bins = [...ids.subarray(at + 1, at + 5)].map((id) => id - 16);
      [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2].forEach((v, i) => assert.ok(Math.abs(v - (bins[i] + 0.5) / 128) <= 0.5 / 128 + 1e-6, `box ${k}: ${v} is not in bin ${bins[i]}`));
    });
  });

  it("uses every wording in training and the first one in evaluation", async () => {
    const seen = new Set<string>();
    for (let step = 0; step < 12; step++) {
      for (const row of rows(await answers.batch({ step, seed: 1, batch: 16, microbatches: 1 }), "prompt_ids")) seen.add(answers.tokenizer.decode(row).trim());
    }
    assert.equal(seen.size, 12, [...seen].join(" | "));
    const held = await answers.examples("held-out");
    assert.deepEqual(new Set(held.map((e) => e.prompt)), new Set(["what is the company?", "what is the date?", "what is the address?", "what is the total?"]));
    assert.equal((await answers.evaluationBatches({ seed: 1, batch: 16, limit: 40 })).reduce((n, b) => n + b.microbatches[0].keys.length, 0), 40);
  });

  it("encodes a question without its answer", async () => {
    const [example] = await answers.examples("held-out");
    const { tensors, keys } = await answers.encode([example]);
    const ids = [...(tensors.dec_ids.data as Int32Array)].filter((_, i) => (tensors.dec_mask.data as Uint8Array)[i]);
    assert.deepEqual([ids[0], ids.at(-1)], [answers.tokenizer.special.bos, answers.tokenizer.special.ans]);
    assert.equal(answers.tokenizer.decode(ids).trim(), example.prompt);
    assert.deepEqual(tensors.box_targets.shape, [0, 4]);
    assert.deepEqual(keys, [example.key]);
  });

  it("counts answers it must cut, and cuts neither a box nor its end in half", async () => {
    const short = loader({ shards: "data/receipts/train-000.tar", objective: "answer", max_answer: 20 });
    const { microbatches } = await short.batch({ step: 0, seed: 1, batch: 64, microbatches: 1 });
    assert.ok(short.stats().cut_answers > 0);
    const { tensors } = microbatches[0];
    assert.ok(tensors.dec_ids.shape[1] <= 24);
    for (const row of rows({ step: 0, counts: {}, microbatches }, "dec_ids")) {
      assert.equal(row.filter((id) => id === short.tokenizer.special.box).length, row.filter((id) => id === short.tokenizer.special.boxEnd).length);
    }
    await short.close();
  });
});

describe("data-loader/shards on bad data", () => {
  let folder: string;
  const write = async (name: string, members: Parameters<typeof packTar>[0]) => { writeFileSync(join(folder, name), await packTar(members)); return join(folder, name); };
  before(() => { folder = mkdtempSync(join(tmpdir(), "octavo-shards-")); });
  after(() => rmSync(folder, { recursive: true }));

  it("leaves out what it cannot use, and says what and where (L-4, C-1)", async () => {
    const shard = await write("mixed.tar", [
      ["good.png", await greyPage(200)], ["good.json", record()],
      ["broken-json.png", await greyPage(10)], ["broken-json.json", `{"words": [`],
      ["no-words.png", await greyPage(90)], ["no-words.json", record({ words: [] })],
      ["no-image.json", record()],
      ["no-record.png", await greyPage(10)],
      ["bad-image.png", Buffer.from("not an image")], ["bad-image.json", record()],
      ["empty-image.png", Buffer.alloc(0)], ["empty-image.json", record()],
      ["bad-box.png", await greyPage(10)], ["bad-box.json", record({ words: [{ text: "A", box: [0, 0, null, 1] }] })],
      ["outside.png", await greyPage(120)], ["outside.json", record({ words: [{ text: "A", box: [-50, 0, 2000, 100] }] })],
    ]);
    const mixed = loader({ shards: shard });
    await mixed.open();
    const { train_pages, skipped_samples, clamped_boxes, pages_without_words } = mixed.stats();
    assert.deepEqual({ train_pages, skipped_samples, clamped_boxes, pages_without_words }, { train_pages: 3, skipped_samples: 6, clamped_boxes: 1, pages_without_words: 1 });
    assert.deepEqual(mixed.faults().map(({ member }) => member), ["broken-json.json", "no-image.jpg", "no-record.json", "bad-image.png", "empty-image.png", "bad-box.json"]);
    for (const fault of mixed.faults()) assert.equal(fault.file, shard);
    const { microbatches: [{ keys, tensors }] } = await mixed.batch({ step: 0, seed: 1, batch: 3, microbatches: 1 });
    assert.deepEqual([...keys].sort(), ["good", "no-words", "outside"]);
    const blank = keys.indexOf("no-words");
    assert.deepEqual([...(tensors.text_ids.data as Int32Array).subarray(8 * blank, 8 * blank + 3)], [1, 2, 0]);
  });

  it("keeps the order of good pages whatever lies between them (C-2)", async () => {
    const good: [string, string | Uint8Array][] = [["a.png", await greyPage(1)], ["a.json", record()], ["b.png", await greyPage(2)], ["b.json", record()], ["c.png", await greyPage(3)], ["c.json", record()]];
    const clean = loader({ shards: await write("clean.tar", good) });
    const dirty = loader({ shards: await write("dirty.tar", [...good.slice(0, 2), ["x.json", "{"], ...good.slice(2), ["y.png", "?"]]) });
    const keys = async (from: Loader) => (await from.batch({ step: 4, seed: 9, batch: 3, microbatches: 1 })).microbatches[0].keys;
    assert.deepEqual(await keys(dirty), await keys(clean));
  });

  it("is ERR_DATA when nothing is left (C-3)", async () => {
    const shard = await write("useless.tar", [["a.json", "{"], ["b.png", "?"]]);
    await assert.rejects(loader({ shards: shard }).open(), { code: "ERR_DATA", message: /useless\.tar.*hold no usable page; first problem: the page has no image/ });
  });

  it("is ERR_DATA when no page can be asked", async () => {
    const shard = await write("unasked.tar", [["a.png", await greyPage(5)], ["a.json", record({ entities: {} })]]);
    await assert.rejects(loader({ shards: shard, objective: "answer" }).open(), { code: "ERR_DATA", message: /none of 1 pages has a question for task\/receipt-fields/ });
  });

  it("reads pages without words and pages of PDFs", async () => {
    const layout = loader({ shards: ["data/layout/train-*.tar", "data/pdf/train-*.tar"], held_out: "data/layout/held-out-*.tar" });
    const { counts } = await layout.batch({ step: 0, seed: 1, batch: 9, microbatches: 2 });
    assert.equal(counts.mim_patches, 9 * 26);
    assert.ok(counts.mlm_tokens > 0);
    assert.equal(layout.stats().pages_without_words, 8);
    const [held] = await layout.evaluationBatches({ seed: 1, batch: 4 });
    assert.deepEqual(held.counts, { pages: 2, mlm_tokens: 0, mim_patches: 52, wpa_tokens: 0 });
  });

  it("refuses sizes that do not divide", () => {
    assert.throws(() => loader({ shards: "x", image_size: 100, patch_size: 16 }), /image_size must be a multiple of patch_size/);
  });
});
