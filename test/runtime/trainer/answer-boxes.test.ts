import assert from "node:assert/strict";
import { decideBox, withHeadBoxes } from "../../../runtime/trainer/answer-boxes.ts";

describe("a box said twice", () => {
  const tokens = [104, 200, 312, 408] as const, bins = 128; // two bins are 16 of 1024

  it("AB-1 is the head's where no coordinate is further than two bins from the tokens', else the tokens'", () => {
    for (const head of [[104, 200, 312, 408], [120, 184, 328, 392], [88, 216, 312, 408]] as const) assert.equal(decideBox(tokens, head, bins), head);
    for (const head of [[120.1, 200, 312, 408], [104, 183.9, 312, 408], [104, 200, 312, 500]] as const) assert.equal(decideBox(tokens, head, bins), tokens);
    assert.equal(decideBox(tokens, [104, 200, 314.5, 408], 1024), tokens, "finer bins are stricter");
  });

  it("shows both beside the one that is believed, box by box; an item without a box has none", () => {
    const near = [105, 200, 312, 408] as const, far = [0, 0, 1, 1] as const;
    assert.deepEqual(withHeadBoxes([{ text: "a", box: tokens }, { text: "b" }, { type: "c", text: "", box: tokens }], [near, far], bins), [
      { text: "a", box: near, tokenBox: tokens, headBox: near }, { text: "b" }, { type: "c", text: "", box: tokens, tokenBox: tokens, headBox: far },
    ]);
    assert.deepEqual(withHeadBoxes([{ text: "a", box: tokens }], [], bins), [{ text: "a", box: tokens }], "a model without a head");
  });
});
