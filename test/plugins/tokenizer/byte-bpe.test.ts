import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readFileSync } from "node:fs";
import { encodeByteBpe, readByteBpe, trainByteBpe, type TokenizerFile } from "../../../plugins/tokenizer/index.ts";

const path = fileURLToPath(new URL("../../../examples/data/tokenizer.json", import.meta.url));
const odd = ["", " ", "  two  spaces ", "RM 9.00", "LOT 1851-A & 1851-B,", "\u{1f600} caf\u00e9 \u4e2d\u6587", "\u0000\u0001\n\t\r\n", "don't WE'LL", "<eos></box><loc_5><pad>", "\ufeffx", "a\u0301", "   "];

describe("the byte-level tokenizer of the examples", () => {
  const tokenizer = readByteBpe(path);
  const file = JSON.parse(readFileSync(path, "utf8")) as TokenizerFile;

  it("has the reserved ids", () => {
    assert.equal(tokenizer.vocabulary, 2048);
    assert.deepEqual(tokenizer.special, { pad: 0, bos: 1, eos: 2, unk: 3, mask: 4, sep: 5, ans: 6, box: 7, boxEnd: 8, none: 9, item: 10, kv: 11 });
    assert.deepEqual([tokenizer.locationBase, tokenizer.locationBins], [16, 128]);
    assert.deepEqual([file.model.vocab["<loc_0>"], file.model.vocab["<loc_127>"], file.model.vocab["!"]], [16, 143, 144]);
    assert.deepEqual(Object.values(file.model.vocab).sort((a, b) => a - b), Array.from({ length: 2048 }, (_, id) => id));
  });

  it("gives the ids of the plain encoder, on any text", () => {
    for (const text of odd) assert.deepEqual(tokenizer.encode(text), encodeByteBpe(text, file), JSON.stringify(text));
  });

  it("gives every text back exactly (BB-2)", () => {
    for (const text of odd) assert.equal(tokenizer.decode(tokenizer.encode(text)), text);
  });

  it("never takes text for a special token (BB-1)", () => {
    assert.ok(tokenizer.encode("<eos></box><loc_5><pad>").every((id) => id >= 144));
  });

  it("decodes specials and locations to nothing", () => {
    assert.equal(tokenizer.decode([1, ...tokenizer.encode(" 9.00"), 7, 20, 8, 2, 0]), " 9.00");
  });

  it("encodes words as running text, and knows which word a token is from (BB-3)", () => {
    const words = ["TOTAL", "RM", "1,204.50", "\u4e2d\u6587"];
    const { ids, wordIndex } = tokenizer.encodeWords(words);
    assert.deepEqual(ids, tokenizer.encode(` ${words.join(" ")}`));
    assert.equal(ids.length, wordIndex.length);
    words.forEach((word, i) => assert.equal(tokenizer.decode(ids.filter((_, t) => wordIndex[t] === i)), ` ${word}`));
  });
});

describe("training a tokenizer", () => {
  it("merges the most frequent pair first, ties by the smaller ids", () => {
    // " ab" five times, "cd" twice: pairs (space, a) 5, (a, b) 5, (c, d) 2; "a" (id 209) is smaller than the space's (id 364).
    const { model } = trainByteBpe([" ab ab ab ab ab", "cd", "cd"], { vocabulary: 16 + 128 + 256 + 3, locationBins: 128 });
    assert.deepEqual(model.merges, [["a", "b"], ["\u0120", "ab"], ["c", "d"]]);
    assert.equal(model.vocab["\u0120ab"], 16 + 128 + 256 + 1);
  });

  it("does not depend on the order of the texts (TR-1)", () => {
    const texts = ["TOTAL RM 9.00", "CASH 10.00 TOTAL", "CHANGE RM 1.00 CASH", "TOTAL"];
    const options = { vocabulary: 410, locationBins: 128 };
    assert.deepEqual(trainByteBpe(texts, options), trainByteBpe(texts.toReversed(), options));
  });

  it("agrees with its encoder on repeated letters", () => {
    const file = trainByteBpe(["aaaaaaa aaaa aaa aa", "aaab aab"], { vocabulary: 403, locationBins: 128 });
    const folder = mkdtempSync(join(tmpdir(), "octavo-tokenizer-"));
    writeFileSync(join(folder, "t.json"), JSON.stringify(file));
    const tokenizer = readByteBpe(join(folder, "t.json"));
    rmSync(folder, { recursive: true });
    for (const text of ["aaaaaaa", "aaaaaaaaaa aab", "baaab"]) assert.deepEqual(tokenizer.encode(text), encodeByteBpe(text, file));
  });

  it("refuses vocabularies that are too small for the reserved ids or too large for the text", () => {
    assert.throws(() => trainByteBpe(["a"], { vocabulary: 300, locationBins: 128 }), { code: "ERR_DATA", message: /needs? 400/ });
    assert.throws(() => trainByteBpe(["ab ab"], { vocabulary: 2048, locationBins: 128 }), { code: "ERR_DATA", message: /only 401 tokens/ });
  });
});

describe("reading a tokenizer file", () => {
  let folder: string;
  before(() => { folder = mkdtempSync(join(tmpdir(), "octavo-tokenizer-")); });
  after(() => rmSync(folder, { recursive: true }));

  it("is ERR_DATA when it is missing, broken or has other reserved ids", () => {
    assert.throws(() => readByteBpe(join(folder, "none.json")), { code: "ERR_DATA", message: /none\.json: cannot be read/ });
    writeFileSync(join(folder, "broken.json"), "{");
    assert.throws(() => readByteBpe(join(folder, "broken.json")), { code: "ERR_DATA" });
    const file = JSON.parse(readFileSync(path, "utf8")) as TokenizerFile;
    (file.added_tokens[7] as { content: string }).content = "<bos2>";
    writeFileSync(join(folder, "other.json"), JSON.stringify(file));
    assert.throws(() => readByteBpe(join(folder, "other.json")), { code: "ERR_DATA", message: /reserved id 7 is <bos2>, expected <box>/ });
  });
});
