/** A small model, trained for a few steps, asked. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { builtins } from "../../../plugins/index.ts";
import {
  type AnswerToken, type Example, type GenerateOptions, type GenerativeDecoder, type TrainedModel, add, chooseAnswer, answer, createRegistry, createRunFolder, fromArray, generateAnswers, loadRecipe, memory, openTrained, scoreAnswers, streamAnswers, train,
} from "../../../runtime/index.ts";
import { root, temporaryFolder } from "../../process/octavo.ts";

const page = join(root, "examples/data/pages/X00016469623.jpg"), question = "what is the total?";

describe("asking a trained checkpoint", function () {
  this.timeout(120_000);
  const folder = temporaryFolder(), registry = createRegistry(builtins);
  let checkpoint: string, trained: TrainedModel, examples: Example[];
  before(async () => {
    const recipe = loadRecipe(join(root, "test/recipes/mini-answer.yaml"));
    checkpoint = (await train(recipe, { runFolder: createRunFolder(folder.path, "run", new Date()).path, registry, inProcess: true, threads: 2 })).checkpoint!;
    trained = await openTrained(checkpoint, { registry, threads: 2 });
    examples = (await trained.model.loader!.examples("held-out")).slice(0, 5);
  });
  after(async () => {
    await trained.close();
    folder.remove();
  });

  for (const o of [{}, { mode: "sample", seed: 3, temperature: 1.3, topK: 40, topP: 0.95 }, { mode: "beam", beams: 3 }] satisfies GenerateOptions[]) {
    it(`answers alike in any batch and order, and streams what it answers: ${JSON.stringify(o)}`, async () => {
      const before = memory().tensors, told: AnswerToken[] = [];
      const together = await generateAnswers(trained.model, examples, { ...o, maxTokens: 24, onToken: (token) => told.push(token) });
      const oneByOne = await generateAnswers(trained.model, examples.toReversed(), { ...o, maxTokens: 24, batch: 1 });
      assert.deepEqual(oneByOne.toReversed().map(({ items, tokens }) => ({ items, tokens })), together.map(({ items, tokens }) => ({ items, tokens })));
      assert.ok(together.some(({ text }) => text.length > 3), "answers have words");
      together.forEach(({ text, tokens, items, logProbability }, example) => {
        const own = told.filter((token) => token.example === example);
        assert.deepEqual(own.map(({ number }) => number), Array.from({ length: tokens }, (_, i) => i));
        if (items.every(({ type }) => type === undefined)) assert.equal(own.map((token) => token.text).join("").replace(/\s+/g, " ").trim(), text.replace(/\s+/g, " ").trim());
        assert.ok(logProbability < 0 && Number.isFinite(logProbability));
        assert.ok(Math.abs(logProbability - oneByOne.toReversed()[example].logProbability) < 1e-3);
      });
      assert.equal(memory().tensors, before);
    });
  }

  it("shows the box of the tokens and that of the head, and believes one of them", async () => {
    const { tokenizer } = trained.model.loader!, decoder = trained.model.graph.nodes.find(({ kind }) => kind === "decoder")!.component as GenerativeDecoder, { next } = decoder;
    const wanted = fromArray(Float32Array.from({ length: tokenizer.vocabulary }, (_, id) => (id === tokenizer.special.box ? 8 : 0)), [tokenizer.vocabulary]);
    decoder.next = (state, ids) => { // so few steps of training write boxes seldom
      const logits = next(state, ids), raised = add(logits, wanted);
      logits.dispose();
      return raised;
    };
    const answers = await generateAnswers(trained.model, examples, { maxTokens: 24 }).finally(() => { decoder.next = next; wanted.dispose(); });
    const boxed = answers.flatMap(({ items }) => items).filter(({ box }) => box);
    assert.ok(boxed.length > 0, "boxes are written");
    for (const { box, tokenBox, headBox } of boxed) {
      const close = tokenBox!.every((v, i) => Math.abs(v - headBox![i]) <= (2 * 1024) / 128);
      assert.deepEqual(box, close ? headBox : tokenBox);
    }
    assert.deepEqual(answers.flatMap(({ boxes }) => boxes), boxed.map(({ box }) => box));
  });

  it("frees everything when the reader leaves, the listener throws, or the question is called off", async () => {
    const before = memory().tensors, o = { maxTokens: 40 };
    for await (const { number } of streamAnswers(trained.model, examples, o)) if (number === 2) break;
    await assert.rejects(generateAnswers(trained.model, examples, { ...o, onToken: () => { throw new Error("not listening"); } }), /not listening/);
    const stop = new AbortController();
    await assert.rejects(generateAnswers(trained.model, examples, { ...o, signal: stop.signal, onToken: () => stop.abort(new Error("called off")) }), /called off/);
    await assert.rejects(scoreAnswers(trained.model, examples, ["a b c", "d"], { signal: AbortSignal.abort(new Error("called off")) }), /called off/);
    assert.equal(memory().tensors, before);
  });

  it("scores a closed list alike in any batch; its answers share the probability", async () => {
    const before = memory().tensors, candidates = ["12.00", "COMPANY SDN BHD", "a"];
    const together = await scoreAnswers(trained.model, examples, candidates), single = await scoreAnswers(trained.model, examples, candidates, { batch: 1, rows: 2 });
    together.forEach((scores, i) => {
      assert.deepEqual(scores.map((score) => score.answer), candidates);
      assert.ok(Math.abs(scores.reduce((sum, { probability }) => sum + probability, 0) - 1) < 1e-12);
      scores.forEach(({ logProbability, tokens }, j) => assert.ok(Math.abs(logProbability - single[i][j].logProbability) < 1e-4 * tokens && logProbability < 0));
    });
    for (const [wrong, message] of [[[], /at least one answer/], [["a", "b", "a"], /"a" twice/], [["a", " "], /words in every answer, got " "/]] as const) {
      await assert.rejects(scoreAnswers(trained.model, examples, wrong), { code: "ERR_INPUT", message });
    }
    assert.equal(memory().tensors, before);
  });

  it("opens, answers and closes as one call", async () => {
    const before = memory().tensors;
    const found = await answer(checkpoint, page, question, { registry, mode: "beam", beams: 2, maxTokens: 16 });
    assert.equal(found.alternatives!.length, 1);
    const { choices } = await chooseAnswer(checkpoint, page, question, ["x", "9.00"], { registry });
    assert.ok(choices[0].logProbability >= choices[1].logProbability);
    assert.equal(memory().tensors, before);
  });
});
