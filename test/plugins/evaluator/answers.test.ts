import assert from "node:assert/strict";
import type { Box } from "../../../runtime/index.ts";
import { createAnswerScores } from "../../../plugins/evaluator/answers.ts";
import { iou, matchedIou } from "../../../plugins/evaluator/boxes.ts";
import { KeyInformation } from "../../../plugins/evaluator/key-information.ts";
import { anls, exactMatch, normalise, tokenF1 } from "../../../plugins/evaluator/text-match.ts";

function near(got: number, expected: number, what: string): void {
  assert.ok(Math.abs(got - expected) < 1e-9, `${what}: ${got}, expected ${expected}`);
}

describe("ANLS", () => {
  // Computed with the MP-DocVQA evaluator (the rule of the DocVQA leaderboard).
  const cases: [prediction: string, answers: string[], score: number][] = [
    ["31.00", ["31.00"], 1], ["  abc trading ", ["ABC Trading"], 1], ["coca colla", ["coca cola"], 0.9], ["abxy", ["abcd"], 0.5], ["axyz", ["abcd"], 0],
    ["uc", ["university of california", "UC"], 1], ["", ["31.00"], 0], ["total amount due", ["total"], 0], ["strasse 5", ["Stra\u00dfe 5"], 7 / 9],
  ];
  for (const [prediction, answers, score] of cases) {
    it(`scores ${JSON.stringify(prediction)} against ${JSON.stringify(answers)}`, () => near(anls(prediction, answers), score, prediction));
  }
});

describe("exact match and token F1", () => {
  // Computed with the SQuAD 2.0 evaluation script.
  const cases: [prediction: string, answers: string[], normalised: string, em: number, f1: number][] = [
    ["total amount", ["The Total Amount"], "total amount", 1, 1], ["1204.50", ["$1,204.50"], "120450", 1, 1], ["ABC Trading", ["ABC Trading Sdn Bhd"], "abc trading", 0, 2 / 3],
    ["09/01/2019", ["9 January 2019", "09/01/2019"], "09012019", 1, 1], ["", [], "", 1, 1], ["31.00", [], "3100", 0, 0], ["", ["31.00"], "", 0, 0], ["a", ["the"], "", 1, 1],
    ["b b b", ["a b b c"], "b b b", 0, 2 / 3], ["Invoice", ["\u201cInvoice\u201d"], "invoice", 0, 0], ["state of the art", ["state-of-the-art"], "state of art", 0, 0], ["bank of west", ["bank of the west"], "bank of west", 1, 1],
  ];
  for (const [prediction, answers, normalised, em, f1] of cases) {
    it(`score ${JSON.stringify(prediction)} against ${JSON.stringify(answers)}`, () => {
      assert.equal(normalise(prediction), normalised);
      assert.equal(exactMatch(prediction, answers), em);
      near(tokenF1(prediction, answers), f1, prediction);
    });
  }
});

describe("box overlap", () => {
  const xywh = (x: number, y: number, w: number, h: number): Box => [x, y, x + w, y + h];
  // Computed with pycocotools' mask.iou.
  const cases: [a: Box, b: Box, value: number][] = [
    [xywh(0, 0, 10, 10), xywh(5, 5, 10, 10), 1 / 7], [xywh(0, 0, 10, 10), xywh(10, 0, 10, 10), 0], [xywh(2, 2, 4, 4), xywh(0, 0, 10, 10), 0.16],
    [xywh(20, 20, 5, 8.5), xywh(21, 21, 5, 5), 0.4210526316], [xywh(5, 5, 0, 0), xywh(0, 0, 10, 10), 0], [xywh(5, 5, 0, 0), xywh(5, 5, 0, 0), 0],
  ];
  for (const [a, b, value] of cases) it(`of ${a} and ${b} is ${value}`, () => assert.ok(Math.abs(iou(a, b) - value) < 1e-9, `${iou(a, b)}`));

  it("pairs the best boxes first, one to one; unpaired truth counts 0", () => {
    const truth = [xywh(0, 0, 10, 10), xywh(20, 0, 10, 10)];
    near(matchedIou([xywh(20, 0, 10, 10), xywh(2, 2, 4, 4), xywh(0, 0, 10, 10)], truth), 1, "all found");
    near(matchedIou([xywh(0, 0, 10, 10)], truth), 0.5, "one found");
    near(matchedIou([], truth), 0, "none found");
  });
});

describe("exact key information", () => {
  const truth = [{ company: "ABC HO TRADING", date: "09/01/2019", address: "NO.2&4, JALAN HARMONI 3/2", total: "31.00" }, { company: "BOOK TA .K (TAMAN DAYA) SDN BHD", date: "25/12/2018", address: "NO.53 55,57 & 59", total: "9.00" }];
  const scored = (predictions: Partial<Record<string, string>>[]) => {
    const scores = new KeyInformation();
    truth.forEach((entities, i) => { for (const [field, value] of Object.entries(entities)) scores.add(field, predictions[i][field], value); });
    return scores;
  };

  it("is micro-averaged, and a missing field costs recall only", () => {
    // By the definition of SROIE task 3: 5 of 7 predictions and of 8 truths are right.
    const scores = scored([{ company: "ABC HO TRADING", date: "09/01/2019", total: "31.0" }, { company: "BOOK TA K", date: "25/12/2018", address: "NO.53 55,57 & 59", total: "9.00" }]);
    near(scores.micro().precision, 5 / 7, "precision"), near(scores.micro().recall, 5 / 8, "recall"), near(scores.micro().f1, 2 / 3, "f1");
    near(scores.field("address").precision, 1, "address precision"), near(scores.field("address").recall, 0.5, "address recall"), near(scores.field("company").f1, 0.5, "company f1");
  });

  it("is 1 for perfect and 0 for empty predictions", () => {
    assert.deepEqual(scored(truth).micro(), { precision: 1, recall: 1, f1: 1 });
    assert.deepEqual(scored([{}, {}]).micro(), { precision: 0, recall: 0, f1: 0 });
  });
});

describe("evaluator/answers", () => {
  it("averages over examples, boxes over examples that have one", () => {
    const scores = createAnswerScores();
    scores.add({ key: "a", text: "coca colla", boxes: [[0, 0, 10, 10]] }, { key: "a", prompt: "?", answer: "coca cola", boxes: [[5, 5, 15, 15]], field: "company" });
    scores.add({ key: "b", text: "9.00", boxes: [] }, { key: "b", prompt: "?", answer: "9.00", boxes: [], field: "total" });
    scores.add({ key: "c", text: "", boxes: [] }, { key: "c", prompt: "?", answer: "1.00", boxes: [[0, 0, 1, 1]], field: "total" });
    const { examples, anls: similarity, exact_match, token_f1, boxed_examples, box_iou, box_found, kie_precision, kie_recall } = scores.result();
    assert.deepEqual({ examples, boxed_examples, box_found, kie_precision }, { examples: 3, boxed_examples: 2, box_found: 0, kie_precision: 0.5 });
    near(similarity, 1.9 / 3, "anls"), near(exact_match, 1 / 3, "exact match"), near(token_f1, (0.5 + 1) / 3, "token f1"), near(box_iou, 1 / 14, "box iou"), near(kie_recall, 1 / 3, "recall");
  });

  it("is 0 over nothing", () => {
    assert.ok(Object.values(createAnswerScores().result()).every((value) => value === 0));
  });
});
