import assert from "node:assert/strict";
import { createHost, createRegistry, type PageRecord, type Task, type Word } from "../../../runtime/index.ts";
import { findEvidence } from "../../../plugins/task/evidence.ts";
import { tasks } from "../../../plugins/task/index.ts";

const words = (text: string): Word[] => text.split(" ").map((word, i) => ({ text: word, box: [10 * i, 0, 10 * i + 8, 20] }));

describe("evidence for receipt fields", () => {
  it("finds the runs that published labels name", () => {
    // Document X51006414636 of SROIE, shortened: the company is its first four words, the date its last one.
    const page = words("SELASIH EKSLUSIF SDN BHD (CO. NO. 1234) 88 JALAN IBRAHIM SULTAN STULANG LAUT 80300 JOHOR BAHRU TOTAL 270.00 DATE 6/4/2018");
    const found = findEvidence(page, { company: "SELASIH EKSLUSIF SDN BHD", date: "6/4/2018", address: "88 JALAN IBRAHIM SULTAN, STULANG LAUT, 80300 JOHOR BAHRU.", total: "RM270.00" });
    assert.deepEqual(found.get("company"), [0, 4]);
    assert.deepEqual(found.get("address"), [7, 16]);
    assert.deepEqual(found.get("date"), [19, 20]);
    assert.equal(found.get("total"), undefined, "the currency is ignored on the page, not in the truth");
  });

  it("takes the last total and passes over its currency (E-1, E-3)", () => {
    assert.deepEqual(findEvidence(words("9.00 TOTAL RM9.00 CASH 10.00"), { total: "9.00" }).get("total"), [2, 3]);
    assert.deepEqual(findEvidence(words("9.00 x MYR9.00 y"), { total: "9.00" }).get("total"), [2, 3]);
  });

  it("takes the first of everything else, ignoring case and punctuation", () => {
    assert.deepEqual(findEvidence(words("Book ta.k SDN-BHD BOOK TAK SDNBHD"), { company: "BOOK TA .K (SDN) BHD" }).get("company"), [0, 3]);
  });

  it("gives a word to one field only (E-2)", () => {
    const found = findEvidence(words("ACME ACME"), { company: "ACME", address: "ACME ACME" });
    assert.deepEqual([found.get("company"), found.get("address")], [[0, 1], undefined]);
  });

  it("finds nothing where the words were read differently, or nothing is wanted", () => {
    assert.equal(findEvidence(words("ACNE LTD"), { company: "ACME LTD" }).size, 0);
    assert.equal(findEvidence(words("A"), { company: "---" }).size, 0);
    assert.equal(findEvidence([], { company: "A" }).size, 0);
  });
});

describe("task/receipt-fields", () => {
  const build = (options = {}) => createHost(createRegistry(tasks), { folder: ".", seed: 1 }).build<Task>("task/receipt-fields", options, "task");
  const page = (entities: unknown): PageRecord => ({ docId: "a", page: 0, source: "test", origSize: [1, 1], words: words("ACME LTD TOTAL 9.00"), lines: [], regions: [], meta: { entities } });

  it("asks each known field in all its wordings, the answer boxed", () => {
    const questions = build().questions(page({ company: "ACME LTD", total: "9.00", address: "" }));
    assert.equal(questions.length, 6);
    assert.deepEqual(questions[0], { prompt: "what is the company?", answer: "ACME LTD", boxes: [[0, 0, 18, 20]], field: "company" });
    assert.deepEqual(questions.slice(3).map(({ field, boxes }) => [field, boxes.length]), [["total", 1], ["total", 1], ["total", 1]]);
  });

  it("asks without a box when the words are not on the page", () => {
    assert.deepEqual(build({ fields: ["date"], wordings: false }).questions(page({ date: "1/1/2018" })), [{ prompt: "what is the date?", answer: "1/1/2018", boxes: [], field: "date" }]);
  });

  it("asks nothing about a page without entities", () => {
    assert.deepEqual(build().questions(page(undefined)), []);
  });
});
