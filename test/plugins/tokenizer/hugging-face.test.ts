/**
 * Tokenizers of released kinds, small ones, against what Hugging Face's own library says of the same files: `tokenizers` 0.23.2 trained them
 * (fixtures/) and gave the ids below, `Tokenizer.from_file(...).encode(text, add_special_tokens=False).ids`, the added tokens taken out of the file.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readHuggingFace } from "../../../plugins/tokenizer/index.ts";
import { checkRecipe, evaluate, parseAnswer, Philox, RecipeError, renderAnswer, type Box, type Tokenizer } from "../../../runtime/index.ts";
import { advance, allowedNext, answerStart, isAllowed } from "../../../runtime/trainer/answer-grammar.ts";
import { miniRuns, miniRecipe, registry } from "../../runtime/trainer/mini-run.ts";
import { temporaryFolder } from "../../process/octavo.ts";

const fixture = (name: string): string => fileURLToPath(new URL(`fixtures/${name}.json`, import.meta.url));
const plain = "Total amount due 1,204.50 RM", odd = "subtotal caf\u00e9 \u4e2d <s> [CLS] <|eot_id|>";
const kinds = [
  { name: "llama-3", size: 323, text: [[0, 320]], ids: [286, 265, 275, 314, 220, 16, 11, 266, 19, 13, 281, 220, 285], back: plain,
    oddIds: [313, 293, 274, 288, 127, 102, 220, 160, 116, 255, 220, 27, 82, 29, 220, 58, 34, 43, 50, 60, 220, 27, 91, 296, 83, 62, 72, 67, 91, 29] },
  { name: "mistral", size: 339, text: [[3, 339]], ids: [294, 328, 304, 316, 289, 275, 315, 320, 324, 261, 294, 327], back: plain,
    oddIds: [294, 287, 289, 336, 301, 307, 330, 198, 172, 294, 231, 187, 176, 294, 63, 287, 65, 294, 94, 70, 79, 86, 96, 294, 63, 127, 275, 298, 98, 279, 274, 127, 65] },
  { name: "bert", size: 150, text: [[5, 150]], ids: [69, 71, 135, 8, 5, 124, 6, 82, 96], back: "total amount due 1, 204. 50 rm",
    oddIds: [142, 15, 111, 36, 1, 1, 29, 1, 1, 15, 50, 45, 1, 1, 1, 17, 47, 40, 1, 21, 62, 1, 1] },
];

for (const { name, size, text, ids, back, oddIds } of kinds) {
  describe(`a tokenizer.json as ${name} has it`, () => {
    const tokenizer = readHuggingFace(fixture(name), { locationBins: 64, append: true });

    it("gives the ids of Hugging Face's own library, and its text back", () => {
      assert.deepEqual([tokenizer.encode(plain), tokenizer.encode(odd)], [ids, oddIds]);
      assert.equal(tokenizer.decode(ids), back);
    });

    it("HF-3 keeps its ids, and has the reserved tokens behind them", () => {
      assert.deepEqual([tokenizer.vocabulary, tokenizer.special.pad, tokenizer.special.kv, tokenizer.locationBase, tokenizer.textIds], [size + 16 + 64, size, size + 11, size + 16, text]);
    });

    it("HF-1 no text becomes a special token, and those decode to nothing", () => {
      const everything = odd + [...Object.keys(tokenizer.special).map((token) => `<${token}>`), "<loc_5>", "<unk>", "</s>", "[SEP]", "<|begin_of_text|>"].join("");
      const unknown = name === "bert" ? [1] : []; // WordPiece says so of what it cannot spell
      for (const id of tokenizer.encode(everything)) assert.ok(isAllowed(tokenizer.textIds!, id) || unknown.includes(id), `${id}`);
      assert.equal(tokenizer.decode([...Object.values(tokenizer.special), tokenizer.locationBase + 3]), "");
    });

    it("HF-2 words have the ids of running text, and every token knows its word", () => {
      const words = plain.split(" "), found = tokenizer.encodeWords(words), running = tokenizer.encode(`${name === "llama-3" ? " " : ""}${plain}`);
      assert.deepEqual(found.ids, running);
      words.forEach((word, i) => assert.equal(tokenizer.decode(found.ids.filter((_, t) => found.wordIndex[t] === i)).replaceAll(" ", ""), name === "bert" ? word.toLowerCase() : word));
    });

    it("answers are written and read in its ids, whatever the automaton allows", () => {
      const box = [8, 24, 520, 1016] as unknown as Box, item = { type: "total", text: "due amount", box };
      const written = renderAnswer([item, { text: "cash" }], tokenizer);
      assert.deepEqual(parseAnswer(written, tokenizer), [item, { text: "cash" }]); // corners in the middle of their bins
      let state = answerStart;
      for (const [i, id] of [...written, tokenizer.special.eos].entries()) {
        assert.ok(isAllowed(allowedNext(state, tokenizer, written.length + 1 - i), id), `token ${i} is allowed`);
        state = advance(state, id, tokenizer);
      }
      assert.equal(state.phase, "end");
      const random = new Philox(5, 9);
      for (let walk = 0; walk < 200; walk++) {
        const walked: number[] = [];
        let at = answerStart;
        while (at.phase !== "end") {
          const allowed = allowedNext(at, tokenizer, 40 - walked.length), [from, to] = allowed[random.randint(0, allowed.length - 1)], id = random.randint(from, to - 1);
          assert.ok(id < tokenizer.vocabulary && !(isAllowed(tokenizer.textIds!, id) && id >= size));
          walked.push(id);
          at = advance(at, id, tokenizer);
        }
        assert.ok(walked.length <= 40);
        for (const { box: found } of parseAnswer(walked, tokenizer)) assert.ok(!found || (found[2] >= found[0] && found[3] >= found[1]));
      }
    });
  });
}

describe("the tokenizer of a released model", function () {
  this.timeout(120_000);
  const folder = temporaryFolder(), { run, remove } = miniRuns();
  after(() => (folder.remove(), remove()));
  const edited = (name: string, change: (json: { added_tokens: { id: number; content: string; special: boolean }[]; model: Record<string, unknown> }) => void): string => {
    const json = JSON.parse(readFileSync(fixture("mistral"), "utf8")) as Parameters<typeof change>[0], path = join(folder.path, `${name}.json`);
    change(json);
    writeFileSync(path, JSON.stringify(json));
    return path;
  };
  const reserved = (base: number, bins: number) => [...["pad", "bos", "eos", "unk", "mask", "sep", "ans", "box", "/box", "none", "item", "kv", "reserved_12", "reserved_13", "reserved_14", "reserved_15"].map((name) => `<${name}>`),
    ...Array.from({ length: bins }, (_, bin) => `<loc_${bin}>`)].map((content, i) => ({ id: base + i, content, special: true }));

  it("has the reserved tokens where its file has them already", () => {
    const { special, locationBase, locationBins, vocabulary, textIds } = readHuggingFace(edited("appended", (json) => void json.added_tokens.push(...reserved(340, 4))), { locationBins: 1024, append: true });
    assert.deepEqual([special.pad, special.ans, locationBase, locationBins, vocabulary, textIds], [340, 346, 356, 4, 360, [[3, 339]]]);
  });

  it("opens and closes prompts with its own tokens where nothing is appended", () => {
    const own = ({ vocabulary, special: { bos, sep, pad, ans }, locationBins }: Tokenizer) => [vocabulary, bos, sep, pad, ans, locationBins];
    assert.deepEqual(own(readHuggingFace(fixture("bert"), { locationBins: 9, append: false })), [150, 2, 3, 0, -1, 0]);
    assert.deepEqual(own(readHuggingFace(fixture("mistral"), { locationBins: 9, append: false })), [339, 1, 2, 2, -1, 0]);
  });

  it("is refused when it is broken, of an unknown kind, or has reserved tokens in another order", () => {
    const read = (path: string, append = true) => () => readHuggingFace(path, { locationBins: 4, append });
    assert.throws(read(join(folder.path, "nowhere.json")), { code: "ERR_DATA", message: /cannot be read/ });
    assert.throws(read(edited("kind", (json) => { json.model.type = "Telepathy"; })), { code: "ERR_DATA", message: /not a tokenizer this reader knows/ });
    assert.throws(read(edited("order", (json) => void json.added_tokens.push(...reserved(340, 4).map((token) => (token.content === "<ans>" ? { ...token, id: 400 } : token))))), { code: "ERR_DATA", message: /its reserved token <ans> has id 400, not 346/ });
    assert.throws(read(edited("bare", (json) => { json.added_tokens = []; delete (json.model.vocab as Record<string, number>)["<s>"]; }), false), { code: "ERR_DATA", message: /no token for bos \(\[CLS\], <s>/ });
  });

  const tokenizer = (name: string, options = "location_bins: 64") => `{use: tokenizer/hugging-face, options: {file: ${fixture(name)}, ${options}}}`;
  const fitting = [`components.pages.options.tokenizer=${tokenizer("mistral")}`, "components.text.options.vocabulary=419", "components.decoder.options={layers: 2, vocabulary: 419, pad_id: 339}",
    "components.answer.options={vocabulary: 419, location_base: 355, location_bins: 64}", `components.pages.options.prompt_tokenizer=${tokenizer("bert", "append: false")}`, "components.prompt.options={layers: 1, vocabulary: 150}"];

  it("trains and answers in a recipe, with WordPiece for the prompt encoder; the checkpoint carries both files", async () => {
    const { result, steps } = await run("mini-answer", "train.steps=2", ...fitting);
    assert.ok(steps.every(({ loss }) => Number.isFinite(loss)));
    const { examples, scores } = await evaluate(result.checkpoint!, { registry, limit: 2, maxTokens: 8, threads: 1 });
    assert.deepEqual([examples, Number.isFinite(scores.anls)], [2, true]);
    for (const name of ["mistral.json", "bert.json"]) assert.deepEqual(readFileSync(join(result.checkpoint!, name)), readFileSync(fixture(name.slice(0, -5))));
  });

  it("is refused by name where a component has other ids or too few rows", async () => {
    const problems = (...changes: string[]) => checkRecipe(miniRecipe("mini-answer", ...fitting, ...changes), registry).then(() => "", (error: unknown) => (error instanceof RecipeError ? error.message : Promise.reject(error)));
    assert.equal(await problems(), "");
    assert.match(await problems("components.answer.options.location_base=16"), /components\.answer\.options\.location_base: expected 355, as pages's tokenizer .*mistral\.json has it, found 16\. Set location_base to 355/);
    assert.match(await problems("components.decoder.options.pad_id=0"), /components\.decoder\.options\.pad_id: expected 339/);
    assert.match(await problems("components.prompt.options.vocabulary=100"), /components\.prompt\.options\.vocabulary: expected at least 150, the words of pages's tokenizer .*bert\.json/);
    assert.match(await problems("components.text.options.vocabulary=400"), /expected at least 419/);
  });
});
