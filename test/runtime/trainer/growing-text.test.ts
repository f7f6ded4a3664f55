import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { readByteBpe } from "../../../plugins/tokenizer/index.ts";
import { parseAnswer, renderAnswer } from "../../../runtime/trainer/answer-grammar.ts";
import { GrowingText } from "../../../runtime/trainer/growing-text.ts";

describe("the growing text of an answer", () => {
  const tokenizer = readByteBpe(fileURLToPath(new URL("../../../examples/data/tokenizer.json", import.meta.url)));
  const grown = (ids: readonly number[]): string[] => {
    const text = new GrowingText(tokenizer);
    return ids.map((id) => text.add(id));
  };

  it("adds up to the words of all items, with a space between them; boxes say nothing", () => {
    const box = [0, 0, 512, 512] as const, ids = renderAnswer([{ text: "RM 9.00", box }, { text: "TOTAL SALES" }, { text: "", box }, { text: "9.00" }], tokenizer);
    assert.equal(grown(ids).join(""), "RM 9.00 TOTAL SALES 9.00");
    assert.equal(parseAnswer(ids, tokenizer).map(({ text }) => text).filter(Boolean).join(" "), "RM 9.00 TOTAL SALES 9.00");
    for (const [i, id] of ids.entries()) if (id < tokenizer.locationBase + tokenizer.locationBins) assert.equal(grown(ids)[i], "");
  });

  it("tells a character when its last byte is there, not before", () => {
    const ids = renderAnswer([{ text: "5 \u20ac \u6f22" }], tokenizer), told = grown(ids);
    assert.ok(ids.length > 5, "characters of several tokens");
    assert.equal(told.join(""), "5 \u20ac \u6f22");
    for (const part of told) assert.doesNotMatch(part, /\ufffd/);
  });
});
