/** Generation with the real decoder, in batches, with padding, over caches, against computing every prefix afresh and alone. */
import assert from "node:assert/strict";
import { add, fromArray, linear, memory, nn, release, slice, reshape, type GenerativeDecoder, type Tensor } from "../../../runtime/index.ts";
import { answerStart, advance, allowedNext, bestAllowed } from "../../../runtime/trainer/answer-grammar.ts";
import { writeAnswers, type Begun } from "../../../runtime/trainer/generate.ts";
import { generationPlan, type GenerateOptions } from "../../../runtime/trainer/generation-options.ts";
import { scoreRows } from "../../../runtime/trainer/score-answers.ts";
import { answer, type AnswerObjective } from "../../../plugins/objective/answer.ts";
import { llamaDecoder } from "../../../plugins/decoder/llama.ts";
import { special, tinyTokenizer as tokenizer } from "../../runtime/trainer/tiny-world.ts";
import { fill } from "./fill.ts";
import { assertClose, build, compute, context, fillParameters, ids, mask, type Precision } from "./harness.ts";

const options = { memory_width: 12, vocabulary: tokenizer.vocabulary, width: 16, layers: 2, heads: 4, kv_heads: 2, hidden: 24 };

/** Pages with memories of 5, 3 and 4 places, some in the middle empty, and questions of 4, 2 and 3 tokens. */
const pages = [
  { name: "first", real: [1, 1, 1, 1, 1], question: [1, 19, 20, 6] },
  { name: "second", real: [1, 0, 1, 1, 0], question: [1, 6] },
  { name: "third", real: [0, 1, 1, 1, 1], question: [1, 18, 6] },
];
type Page = (typeof pages)[number];
const rows = (name: string, width: number, count: number): Float64Array => fill(name, [count, width]);

/** The inputs of these pages side by side, garbage in the empty places. */
function inputs(of: readonly Page[], dtype: Precision): Record<string, Tensor> {
  return {
    memory: fromArray(of.flatMap(({ name }) => [...rows(name, 12, 5)]), [of.length, 5, 12], dtype), memory_mask: mask(of.map(({ real }) => real)),
    prompt: fromArray(of.flatMap(({ name }) => [...rows(`${name} prompt`, 12, 1)]), [of.length, 12], dtype),
  };
}

function begin(decoder: GenerativeDecoder, of: readonly Page[], dtype: Precision): Begun {
  const given = inputs(of, dtype), longest = Math.max(...of.map(({ question }) => question.length));
  const state = decoder.begin(given, context());
  for (const tensor of Object.values(given)) tensor.dispose();
  return { decoder, state, ids: Int32Array.from(of.flatMap(({ question }) => [...question, ...new Array<number>(longest - question.length).fill(-1)])) };
}

/** Logits after every token of question and answer, by one forward without cache, batch or padding: the empty places are not there at all. */
async function afresh(decoder: GenerativeDecoder, page: Page, answer: readonly number[], dtype: Precision): Promise<number[][]> {
  const { logits } = await stepsAfresh(decoder, page, answer, dtype), V = tokenizer.vocabulary;
  return Array.from({ length: answer.length + 1 }, (_, i) => logits.slice(i * V, (i + 1) * V));
}

/** The same end to end, and with `head` what it reads from each state. */
function stepsAfresh(decoder: GenerativeDecoder, page: Page, answer: readonly number[], dtype: Precision, head?: (states: Tensor) => Tensor): Promise<Record<string, number[]>> {
  const all = [...page.question, ...answer];
  return compute(() => {
    const real = page.real.flatMap((yes, i) => (yes ? [...rows(page.name, 12, 5).subarray(i * 12, i * 12 + 12)] : []));
    const { hidden, embedding } = decoder.forward({
      memory: fromArray(real, [1, real.length / 12, 12], dtype), memory_mask: mask([new Array<number>(real.length / 12).fill(1)]), prompt: inputs([page], dtype).prompt,
      dec_ids: ids([all]), dec_mask: mask([all.map(() => 1)]),
    }, context());
    const states = reshape(slice(hidden, 1, page.question.length - 1, answer.length + 1), [answer.length + 1, 16]);
    return { logits: linear(states, embedding), ...(head && { boxes: head(states) }) };
  });
}

/** What `next` gave, per row. */
function listening(decoder: GenerativeDecoder): { decoder: GenerativeDecoder; heard: Promise<number[][]>[] } {
  const heard: Promise<number[][]>[] = [];
  return {
    heard,
    decoder: {
      ...decoder,
      next(state, tokens) {
        const logits = decoder.next(state, tokens), [count, V] = logits.shape;
        heard.push(logits.readNumbers().then((values) => Array.from({ length: count }, (_, row) => [...values.subarray(row * V, (row + 1) * V)])));
        return logits;
      },
    },
  };
}

async function write(begun: Begun, o: GenerateOptions): Promise<number[][]> {
  const stream = writeAnswers(begun, { tokenizer, plan: generationPlan(o), samples: [0, 1, 2] });
  for (;;) {
    const { done, value } = await stream.next();
    if (done) return value.map((search) => search.answers()[0].ids);
  }
}

for (const window of [undefined, 4, 1]) for (const { dtype, tolerance } of [{ dtype: "f64", tolerance: 1e-12 }, { dtype: "f32", tolerance: 1e-5 }] as const) {
  describe(`generation by decoder/llama in ${dtype}${window === undefined ? "" : `, each token seeing ${window}`}`, () => {
    let decoder: GenerativeDecoder;
    before(() => { decoder = build<GenerativeDecoder>(llamaDecoder, { ...options, window }); fillParameters(decoder, dtype, { scale: 0.6 }); });
    after(() => release(decoder.parameters()));

    it("cached, batched and padded gives what computing one by one gives: logits, and the same greedy tokens", async () => {
      const { decoder: listened, heard } = listening(decoder);
      const answers = await write(begin(listened, pages, dtype), { maxTokens: 30 });
      const steps = await Promise.all(heard);
      // where a token sees itself alone, pages do not differ
      assert.ok((window === 1 || new Set(answers.map(String)).size > 1) && Math.max(...answers.map(({ length }) => length)) > 5, `answers worth comparing: ${answers.join(" | ")}`);
      for (const [row, page] of pages.entries()) {
        const written = [...answers[row], special.eos], logits = await afresh(decoder, page, answers[row], dtype);
        let state = answerStart;
        for (const [i, id] of written.entries()) {
          assertClose(steps[i][row], logits[i], tolerance, `${page.name}, token ${i}`);
          const best = bestAllowed(logits[i], allowedNext(state, tokenizer, 30 - i));
          assert.ok(id === best || Math.abs(logits[i][id] - logits[i][best]) <= tolerance, `${page.name}, token ${i}: ${id}, one by one ${best}`);
          state = advance(state, id, tokenizer);
        }
      }
    });

    for (const o of [{ mode: "sample", seed: 5, temperature: 2 }, { mode: "beam", beams: 4 }] satisfies GenerateOptions[]) {
      it(`reads boxes where one forward over page, question and answer has them: ${o.mode}`, async () => {
        const start = memory().tensors, objective = build<AnswerObjective>(answer, { width: 16, vocabulary: tokenizer.vocabulary, location_base: 16, location_bins: 2 });
        fillParameters(objective, dtype, { scale: 0.4 });
        const wanted = fromArray(Float64Array.from({ length: tokenizer.vocabulary }, (_, id) => (id === special.box || id === special.item ? 6 : 0)), [tokenizer.vocabulary], dtype);
        const eager = { ...decoder, next(state: unknown, tokens: Int32Array) { // for boxes
          const logits = decoder.next(state, tokens), raised = add(logits, wanted);
          logits.dispose();
          return raised;
        } };
        const stream = writeAnswers({ ...begin(eager, pages, dtype), boxHead: (hidden) => objective.boxes(hidden) }, { tokenizer, plan: generationPlan({ ...o, maxTokens: 40 }), samples: [0, 1, 2] });
        let found = await stream.next(), compared = 0;
        while (!found.done) found = await stream.next();
        for (const [row, page] of pages.entries()) for (const { ids: written, headBoxes } of found.value[row].answers()) {
          const { boxes } = await stepsAfresh(decoder, page, written, dtype, (states) => objective.boxes(states));
          const places = written.flatMap((id, i) => (id === special.box ? [i + 1] : [])); // state i + 1 has read token i
          assert.equal(headBoxes.length, places.length);
          places.forEach((at, i) => {
            const [cx, cy, w, h] = boxes.slice(4 * at, 4 * at + 4);
            const corners = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2].map((v) => Math.min(1, Math.max(0, v)));
            assertClose(headBoxes[i].map((v) => v / 1024), corners, tolerance, `${page.name}: box ${i} of ${written}`);
            compared++;
          });
        }
        assert.ok(compared > 2 || window === 1, `${compared} boxes were written`);
        release(objective.parameters()), wanted.dispose();
        assert.equal(memory().tensors, start);
      });
    }

    it("DE-5 gives a branch what its row would have got, in any order and number, and leaves the trunk as it was", async () => {
      const start = memory().tensors, begun = begin(decoder, pages, dtype);
      const next = async (state: unknown, tokens: number[]): Promise<number[][]> => {
        const logits = decoder.next(state, Int32Array.from(tokens)), values = [...(await logits.readNumbers())];
        logits.dispose();
        return Array.from({ length: values.length / tokenizer.vocabulary }, (_, row) => values.slice(row * tokenizer.vocabulary, (row + 1) * tokenizer.vocabulary));
      };
      await next(begun.state, [...begun.ids]);
      const order = [2, 0, 0, 1, 2], branch = decoder.branch(begun.state, order);
      const hidden = [...await decoder.hidden!(branch).readNumbers()];
      assert.deepEqual(hidden.slice(16, 32), [...await decoder.hidden!(begun.state).readNumbers()].slice(0, 16));
      const taken = await next(branch, [18, 19, 18, 20, 20]);
      const twice = decoder.branch(branch, [4]);
      decoder.end(branch);
      const [last] = await next(twice, [7]);
      decoder.end(twice);
      const trunk = await next(begun.state, [19, 20, 18]);
      decoder.end(begun.state);
      assertClose(taken[1], trunk[0], tolerance, "first page, token 19"), assertClose(taken[3], trunk[1], tolerance, "second page, token 20"), assertClose(taken[0], trunk[2], tolerance, "third page, token 18");
      const alone = async (page: Page, answer: number[]) => (await afresh(decoder, page, answer, dtype)).at(-1)!;
      for (const [row, page] of order.entries()) assertClose(taken[row], await alone(pages[page], [[18, 19, 18, 20, 20][row]]), tolerance, `row ${row}`);
      assertClose(last, await alone(pages[2], [20, 7]), tolerance, "a branch of a branch");
      assert.equal(memory().tensors, start);
    });

    it("branches name rows that are there", () => {
      const { state } = begin(decoder, pages, dtype);
      for (const wrong of [[3], [-1], [0.5], []]) assert.throws(() => decoder.branch(state, wrong), { code: "ERR_INPUT", message: /decoder\/llama branch: expected rows from 0 to 2, got (3|-1|0\.5|none)/ });
      decoder.end(state);
    });

    it("beams go on from the caches of the rows they came from, and everything is freed", async () => {
      const start = memory().tensors;
      const { decoder: listened, heard } = listening(decoder);
      const stream = writeAnswers(begin(listened, pages, dtype), { tokenizer, plan: generationPlan({ mode: "beam", beams: 3, maxTokens: 12 }), samples: [0, 1, 2] });
      let found = await stream.next();
      while (!found.done) found = await stream.next();
      await Promise.all(heard);
      for (const [row, page] of pages.entries()) {
        for (const { ids: written, logProbability } of found.value[row].answers()) {
          const logits = await afresh(decoder, page, written, dtype);
          const sum = [...written, special.eos].reduce((total, id, i) => total + logits[i][id] - Math.log(logits[i].reduce((whole, x) => whole + Math.exp(x), 0)), 0);
          assertClose([logProbability], [sum], tolerance * 12, `${page.name}: ${written}`);
        }
      }
      assert.equal(memory().tensors, start);
    });

    it("scores a closed list as one forward over page, question and answer does", async () => {
      const start = memory().tensors, candidates = [[18], [19, 20], [18, 18, 20, 19]].map((words) => [...words, special.eos]);
      const sums = await scoreRows(begin(decoder, pages, dtype), candidates, { rows: 4 });
      for (const [row, page] of pages.entries()) {
        for (const [i, candidate] of candidates.entries()) {
          const logits = await afresh(decoder, page, candidate.slice(0, -1), dtype);
          const expected = candidate.reduce((total, id, at) => total + logits[at][id] - Math.log(logits[at].reduce((whole, x) => whole + Math.exp(x), 0)), 0);
          assertClose([sums[row][i]], [expected], tolerance * 5, `${page.name}: ${candidate}`);
        }
      }
      assert.equal(memory().tensors, start);
    });

    it("frees what it began when the prefix cannot be computed", () => {
      const lent = build<GenerativeDecoder>(llamaDecoder, { ...options, share_base_with_text: true });
      fillParameters(lent, dtype);
      const { prompt, ...page } = inputs(pages, dtype), size = nn.llamaStackSize({ ...options, kvHeads: 2, headDim: 4 });
      const given = { ...page, base: fromArray(fill("base", [size]), [size], dtype), prompt: slice(prompt, 1, 0, 11) }, start = memory().tensors;
      assert.throws(() => lent.begin(given, context()), { code: "ERR_SHAPE" });
      assert.equal(memory().tensors, start);
      for (const tensor of [prompt, ...Object.values(given)]) tensor.dispose();
      release(lent.parameters());
    });

    it("frees its caches when it is aborted in the middle", async () => {
      const start = memory().tensors, stop = new AbortController();
      const stream = writeAnswers(begin(decoder, pages, dtype), { tokenizer, plan: generationPlan({ mode: "beam", beams: 2, maxTokens: 60 }), samples: [0, 1, 2], signal: stop.signal });
      stop.abort(new Error("enough"));
      await assert.rejects(stream.next(), /enough/);
      assert.equal(memory().tensors, start);
    });
  });
}
