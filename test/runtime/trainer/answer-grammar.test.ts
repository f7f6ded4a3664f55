import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { Philox } from "../../../runtime/tensor/philox.ts";
import { advance, allowedNext, answerStart, bestAllowed, binCentre, canonicalOrder, isAllowed, locationBin, parseAnswer, renderAnswer, type AnswerState } from "../../../runtime/trainer/answer-grammar.ts";
import { readByteBpe } from "../../../plugins/tokenizer/index.ts";

const tokenizer = readByteBpe(fileURLToPath(new URL("../../../examples/data/tokenizer.json", import.meta.url)));
const { special } = tokenizer;
const loc = (bin: number) => tokenizer.locationBase + bin;
const text = 500;

/** The state after these ids, each of them allowed. */
function after(...ids: number[]): AnswerState {
  return ids.reduce((state, id) => {
    assert.ok(isAllowed(allowedNext(state, tokenizer, 100), id), `${id} is not allowed in ${JSON.stringify(state)}`);
    return advance(state, id, tokenizer);
  }, answerStart);
}

function allows(state: AnswerState, remaining = 100): Record<string, boolean> {
  const ranges = allowedNext(state, tokenizer, remaining);
  return Object.fromEntries([["text", text], ["loc", loc(64)], ["box", special.box], ["boxEnd", special.boxEnd], ["item", special.item], ["kv", special.kv], ["none", special.none], ["eos", special.eos]]
    .map(([name, id]) => [name, isAllowed(ranges, id as number)] as const).filter(([, yes]) => yes));
}

describe("the answer grammar", () => {
  it("allows what may follow in each place", () => {
    assert.deepEqual(allows(answerStart), { text: true, box: true, none: true });
    assert.deepEqual(allows(after(text)), { text: true, box: true, item: true, kv: true, eos: true });
    assert.deepEqual(allows(after(text, special.kv)), { text: true });
    assert.deepEqual(allows(after(text, special.kv, text)), { text: true, box: true, item: true, eos: true });
    assert.deepEqual(allows(after(special.box)), { loc: true });
    assert.deepEqual(allows(after(special.box, loc(1), loc(1), loc(2), loc(2))), { boxEnd: true });
    assert.deepEqual(allows(after(special.box, loc(1), loc(1), loc(2), loc(2), special.boxEnd)), { item: true, eos: true });
    assert.deepEqual(allows(after(text, special.item)), { text: true, box: true });
    assert.deepEqual(allows(after(text, special.kv, text, special.item, text)), { text: true, box: true, item: true, kv: true, eos: true });
    assert.deepEqual(allows(after(special.none)), { eos: true });
    assert.deepEqual(allows(after(text, special.eos)), {});
  });

  it("keeps the second corner right of and below the first", () => {
    const third = allowedNext(after(special.box, loc(40), loc(90)), tokenizer, 100);
    assert.deepEqual(third, [[loc(40), loc(128)]]);
    assert.deepEqual(allowedNext(after(special.box, loc(40), loc(90), loc(127)), tokenizer, 100), [[loc(90), loc(128)]]);
  });

  it("never allows padding, masks, or other reserved ids", () => {
    for (const state of [answerStart, after(text), after(special.box), after(text, special.item)]) {
      for (const id of [special.pad, special.bos, special.unk, special.mask, special.sep, special.ans, 12, 13, 14, 15]) assert.ok(!isAllowed(allowedNext(state, tokenizer, 100), id), `${id}`);
    }
  });

  it("closes in time: any walk ends with <eos> within its length, and parses (G-1, G-2)", () => {
    const draw = new Philox(5, 1);
    const counts = { boxes: 0, keyed: 0, several: 0, full: 0 };
    for (let walk = 0; walk < 3000; walk++) {
      const length = draw.randint(2, 24);
      const ids: number[] = [];
      let state = answerStart;
      while (state.phase !== "end") {
        const ranges = allowedNext(state, tokenizer, length - ids.length);
        assert.ok(ranges.length > 0, `stuck after ${ids} of ${length}`);
        // A range first, so that specials are as likely as text; never <eos> by choice, to reach the limit.
        const open = ranges.filter(([from]) => from !== special.eos);
        const [from, to] = (open.length > 0 ? open : ranges)[draw.randint(0, Math.max(0, open.length - 1))];
        const id = draw.randint(from, to - 1);
        ids.push(id);
        state = advance(state, id, tokenizer);
      }
      assert.ok(ids.length <= length, `${ids.length} tokens, ${length} allowed`);
      assert.equal(ids.at(-1), special.eos);
      const items = parseAnswer(ids, tokenizer);
      const opened = ids.filter((id) => id === special.box).length;
      assert.equal(items.filter((item) => item.box).length, opened);
      for (const { box } of items) if (box) assert.ok(box[2] >= box[0] && box[3] >= box[1]);
      counts.boxes += opened, counts.keyed += items.filter((item) => item.type).length, counts.several += Number(items.length > 1), counts.full += Number(ids.length === length);
    }
    for (const [name, count] of Object.entries(counts)) assert.ok(count > 100, `only ${count} walks with ${name}`);
  });

  it("writes and reads answers alike, boxes to half a bin (G-3)", () => {
    const items = [{ type: "TOTAL", text: "RM 9.00", box: [100, 200.5, 300, 1024] as const }, { text: "A  B" }, { text: "", box: [0, 0, 0, 0] as const }];
    const ids = renderAnswer(items, tokenizer);
    assert.equal(ids.filter((id) => id === special.item).length, 2);
    assert.doesNotThrow(() => after(...ids, special.eos));
    const read = parseAnswer([...ids, special.eos, text, text], tokenizer);
    assert.deepEqual(read.map(({ type, text: words }) => [type, words]), [["TOTAL", "RM 9.00"], [undefined, "A B"], [undefined, ""]]);
    [0, 2].forEach((i) => read[i].box!.forEach((v, c) => assert.ok(Math.abs(v - items[i].box![c]) <= 512 / 128, `${read[i].box} from ${items[i].box}`)));
    assert.deepEqual(renderAnswer([], tokenizer), [special.none]);
    assert.deepEqual(parseAnswer([special.none, special.eos], tokenizer), []);
  });

  it("reads broken answers without complaint", () => {
    assert.deepEqual(parseAnswer([special.box, loc(1), loc(2), special.boxEnd], tokenizer), []);
    assert.deepEqual(parseAnswer([loc(5), special.boxEnd, special.kv, special.item], tokenizer), []);
    assert.equal(parseAnswer([special.box, loc(1), text], tokenizer).length, 1);
  });

  it("chooses the best allowed token, the lower of equals", () => {
    assert.equal(bestAllowed([9, 1, 5, 5, 7], [[1, 4]]), 2);
    assert.equal(bestAllowed([-Infinity, -Infinity], [[0, 2]]), 0);
    assert.equal(bestAllowed([1], []), -1);
  });

  it("INV-B1: quantises by floor, clamped, and reads the middle of a bin", () => {
    assert.deepEqual([0, 0.5, 1, -1, 0.99999].map((v) => locationBin(v, 1024)), [0, 512, 1023, 0, 1023]);
    assert.equal(binCentre(512, 1024), 0.50048828125);
    for (const bins of [2, 128, 1000, 1024]) for (let i = 0; i <= 5000; i++) {
      const error = Math.abs(binCentre(locationBin(i / 5000, bins), bins) - i / 5000);
      assert.ok(error <= 0.5 / bins + 1e-15, `${i / 5000} of ${bins} bins comes back off by ${error}`);
    }
  });

  it("orders items in reading order: rows of a thirty-second of the page, then left to right", () => {
    const at = (x: number, y: number) => [x, y, x + 10, y + 10] as const;
    const items = [{ text: "last" }, { text: "second", box: at(500, 31) }, { text: "third", box: at(0, 40) }, { text: "first", box: at(10, 20) }];
    assert.deepEqual(canonicalOrder(items).map((item) => item.text), ["first", "second", "third", "last"]);
  });
});
