/** The searches against enumeration, and the loop around them, on a vocabulary of 21 tokens. */
import assert from "node:assert/strict";
import { advance, allowedNext, answerStart, type AnswerState } from "../../../runtime/trainer/answer-grammar.ts";
import type { AnswerSearch } from "../../../runtime/trainer/answer-search.ts";
import { type WrittenToken, writeAnswers } from "../../../runtime/trainer/generate.ts";
import { type GenerateOptions, generationPlan } from "../../../runtime/trainer/generation-options.ts";
import { scoreAnswers, scoreRows } from "../../../runtime/trainer/score-answers.ts";
import type { StageModel } from "../../../runtime/pipeline/run/model.ts";
import { a, b, c, type LogitsOf, randomLogits, special, tableDecoder, tinyTokenizer } from "./tiny-world.ts";

interface Written { searches: AnswerSearch[]; tokens: WrittenToken[]; rows: number[] }

async function write(pages: number, logitsOf: LogitsOf, o: GenerateOptions, samples = Array.from({ length: pages }, (_, i) => i)): Promise<Written> {
  const world = tableDecoder(pages, logitsOf);
  const stream = writeAnswers(world, { tokenizer: tinyTokenizer, plan: generationPlan(o), samples });
  const tokens: WrittenToken[] = [];
  for (;;) {
    const { done, value } = await stream.next();
    if (!done) { tokens.push(value); continue; }
    assert.equal(world.open(), 0, "states of the decoder are ended");
    return { searches: value, tokens, rows: world.rows };
  }
}

const idsOf = ({ searches }: Written): number[][] => searches.map((search) => search.answers()[0].ids);

/** Every answer of at most `limit` tokens with the sum of its log-probabilities, by walking the grammar. */
function everyAnswer(logitsOf: LogitsOf, page: number, limit: number): { ids: number[]; value: number }[] {
  const found: { ids: number[]; value: number }[] = [];
  const walk = (state: AnswerState, ids: number[], value: number): void => {
    const logits = logitsOf(page, ids), whole = Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0));
    for (const [from, to] of allowedNext(state, tinyTokenizer, limit - ids.length)) {
      for (let id = from; id < to; id++) {
        if (id === special.eos) found.push({ ids, value: value + logits[id] - whole });
        else walk(advance(state, id, tinyTokenizer), [...ids, id], value + logits[id] - whole);
      }
    }
  };
  walk(answerStart, [], 0);
  return found;
}

describe("beam search", () => {
  for (const [lengthPenalty, limit] of [[0, 7], [1, 7], [-0.5, 5]]) {
    it(`with room for everything finds the best answers there are, length penalty ${lengthPenalty} (AS-3)`, async () => {
      for (const seed of limit === 7 ? [1] : [2, 3, 4]) {
        const logitsOf = randomLogits(seed);
        const all = everyAnswer(logitsOf, 0, limit);
        assert.equal(all.some(({ ids }) => ids.includes(special.box)), limit === 7);
        const value = (one: { ids: number[]; value: number }): number => one.value / (one.ids.length + 1) ** lengthPenalty;
        const expected = all.sort((x, y) => value(y) - value(x));
        const { searches: [search] } = await write(1, logitsOf, { mode: "beam", beams: all.length, lengthPenalty, maxTokens: limit });
        const got = search.answers();
        assert.equal(got.length, all.length);
        expected.slice(0, 20).forEach(({ ids, value: sum }, i) => {
          assert.deepEqual(got[i].ids, ids);
          assert.ok(Math.abs(got[i].logProbability - sum) < 1e-9, `${got[i].logProbability}, enumerated ${sum}`);
        });
      }
    }).timeout(20_000);
  }

  it("with one beam is greedy (AS-2)", async () => {
    for (let seed = 0; seed < 40; seed++) {
      const greedy = await write(3, randomLogits(seed), { maxTokens: 12 }), beam = await write(3, randomLogits(seed), { mode: "beam", beams: 1, maxTokens: 12 });
      assert.deepEqual(idsOf(beam), idsOf(greedy));
      assert.deepEqual(beam.searches.map((s) => s.answers()), greedy.searches.map((s) => s.answers()).map((answers) => answers));
    }
  });

  it("finds what greedy walks past", async () => {
    // a is likelier than b, but after a nothing is likely; after b the end is certain.
    const garden: LogitsOf = (_, history) => {
      const logits = new Array<number>(21).fill(-20);
      if (history.length === 0) logits[a] = 0.1, logits[b] = 0;
      else if (history[0] === a) logits.fill(0);
      else logits[special.eos] = 5;
      return logits;
    };
    assert.deepEqual(idsOf(await write(1, garden, { maxTokens: 3 }))[0][0], a);
    assert.deepEqual(idsOf(await write(1, garden, { mode: "beam", beams: 2, maxTokens: 3 })), [[b]]);
  });

  it("goes on with as many beams as there are when one of them is complete", async () => {
    // After a: the end 0.5, a 0.3, c 0.2; only c leads to a sure end. b is out of reach.
    const shares: Record<string, Record<number, number>> = { "": { [a]: 1 }, [`${a}`]: { [special.eos]: 0.5, [a]: 0.3, [c]: 0.2 }, [`${a},${c}`]: { [special.eos]: 1 } };
    const logitsOf: LogitsOf = (_, history) => Array.from({ length: 21 }, (_, id) => Math.log(shares[history.join()]?.[id] ?? 1e-9));
    assert.deepEqual(idsOf(await write(1, logitsOf, { mode: "beam", beams: 2, lengthPenalty: 3, maxTokens: 9 })), [[a, c]]);
  });

  it("keeps the values of its answers while beams change places, and as many rows as pages times beams", async () => {
    for (let seed = 50; seed < 60; seed++) {
      const logitsOf = randomLogits(seed);
      const { searches, rows } = await write(2, logitsOf, { mode: "beam", beams: 3, maxTokens: 9 });
      assert.deepEqual(new Set(rows.slice(1)), new Set([6]));
      searches.forEach((search, page) => {
        assert.ok(search.answers().length >= 1);
        for (const { ids, logProbability } of search.answers()) {
          const sum = [...ids, special.eos].reduce((total, id, i) => {
            const logits = logitsOf(page, ids.slice(0, i));
            return total + logits[id] - Math.log(logits.reduce((whole, x) => whole + Math.exp(x), 0));
          }, 0);
          assert.ok(Math.abs(sum - logProbability) < 1e-9, `${logProbability}, its tokens give ${sum}`);
        }
      });
    }
  });
});

describe("generation", () => {
  const everyMode: GenerateOptions[] = [{}, { mode: "sample", seed: 4 }, { mode: "sample", seed: 4, temperature: 3, topK: 9, topP: 0.9 }, { mode: "beam", beams: 3 }];

  for (const o of everyMode) {
    const named = JSON.stringify(o);
    it(`gives the same answers one by one, together and in another order (GN-2): ${named}`, async () => {
      const logitsOf = randomLogits(11), together = await write(5, logitsOf, { ...o, maxTokens: 10 });
      const order = [3, 0, 4, 1, 2];
      const shuffled = await write(5, (page, history) => logitsOf(order[page], history), { ...o, maxTokens: 10 }, order);
      assert.deepEqual(idsOf(shuffled), order.map((page) => idsOf(together)[page]));
      for (let page = 0; page < 5; page++) assert.deepEqual(idsOf(await write(1, (_, history) => logitsOf(page, history), { ...o, maxTokens: 10 }, [page])), [idsOf(together)[page]]);
    });

    it(`tells every token once, in order, and writes the grammar within its limit (AS-1): ${named}`, async () => {
      for (const maxTokens of [2, 3, 6, 7, 8, 25]) {
        const written = await write(4, randomLogits(maxTokens), { ...o, maxTokens });
        for (const [row, ids] of idsOf(written).entries()) {
          assert.ok(ids.length < maxTokens);
          const end = [...ids, special.eos].reduce((state, id, i) => {
            assert.ok(allowedNext(state, tinyTokenizer, maxTokens - i).some(([from, to]) => id >= from && id < to), `${id} after ${ids.slice(0, i)}`);
            return advance(state, id, tinyTokenizer);
          }, answerStart);
          assert.equal(end.phase, "end");
          const told = written.tokens.filter((token) => token.row === row);
          assert.deepEqual(told.map(({ id }) => id), ids);
          assert.deepEqual(told.map(({ number }) => number), ids.map((_, i) => i));
        }
      }
    });

    it(`ends what it holds when the reader leaves, and when it is aborted (GN-1): ${named}`, async () => {
      const stop = new AbortController();
      for (const way of ["leave", "abort"]) {
        const world = tableDecoder(2, (_, history) => randomLogits(1)(0, history).map((x, id) => (id === special.eos || id === special.none ? -9 : x)));
        const stream = writeAnswers(world, { tokenizer: tinyTokenizer, plan: generationPlan({ ...o, maxTokens: 40 }), samples: [0, 1], signal: stop.signal });
        await stream.next();
        if (way === "leave") await stream.return([]);
        else {
          stop.abort(new Error("enough"));
          await assert.rejects(async () => { while (!(await stream.next()).done); }, /enough/);
        }
        assert.equal(world.open(), 0);
      }
    });
  }

  it("says when the limit, not the model, ended an answer", async () => {
    const neverEnding: LogitsOf = () => Array.from({ length: 21 }, (_, id) => (id === c ? 5 : id === special.eos ? -30 : -9));
    const ending: LogitsOf = (_, history) => Array.from({ length: 21 }, (_, id) => (id === (history.length === 0 ? c : special.eos) ? 9 : -9));
    for (const o of everyMode) {
      const forced = async (logitsOf: LogitsOf) => (await write(1, logitsOf, { ...o, maxTokens: 5 })).searches[0].answers()[0].forced;
      assert.equal(await forced(neverEnding), true, JSON.stringify(o));
      assert.equal(await forced(ending), false, JSON.stringify(o));
    }
  });

  it("branches off no rows that nobody continues", async () => {
    const world = tableDecoder(2, randomLogits(8)), { branch } = world.decoder;
    let branches = 0;
    world.decoder.branch = (state, rows) => (branches++, branch(state, rows));
    const stream = writeAnswers(world, { tokenizer: tinyTokenizer, plan: generationPlan({ mode: "beam", beams: 3, maxTokens: 9 }), samples: [0, 1] });
    while (!(await stream.next()).done);
    assert.ok(branches > 0 && branches < world.rows.length, `${branches} branches in ${world.rows.length} steps: none after the last`);
  });
});

describe("scoring a closed list", () => {
  it("refuses a batch or a number of rows that holds nothing, which would never end", async () => {
    for (const [option, value] of [["batch", 0], ["rows", 0], ["rows", 1.5], ["batch", -1]] as const) {
      await assert.rejects(scoreAnswers({} as StageModel, [], ["a"], { [option]: value }), { code: "ERR_INPUT", message: new RegExp(`${option}: expected a whole number of at least 1, got ${value}`) });
    }
  });

  it("gives each answer the sum of its log-probabilities, however many rows run at once", async () => {
    const logitsOf = randomLogits(21), candidates = [[a], [b, c], [a, a, b, c], [c]].map((ids) => [...ids, special.eos]);
    const expected = [0, 1, 2].map((page) => candidates.map((ids) => ids.reduce((total, id, i) => {
      const logits = logitsOf(page, ids.slice(0, i));
      return total + logits[id] - Math.log(logits.reduce((whole, x) => whole + Math.exp(x), 0));
    }, 0)));
    for (const rows of [1, 5, 64]) {
      const world = tableDecoder(3, logitsOf);
      const got = await scoreRows(world, candidates, { rows });
      got.forEach((sums, page) => sums.forEach((sum, i) => assert.ok(Math.abs(sum - expected[page][i]) < 1e-9, `page ${page}, answer ${i}: ${sum}, expected ${expected[page][i]}`)));
      assert.equal(world.open(), 0);
    }
  });
});

describe("generation options", () => {
  it("are refused where they are out of range or mean nothing, with what to do", () => {
    const refused: [GenerateOptions, RegExp][] = [
      [{ mode: "beams" as "beam" }, /mode: expected greedy, sample, beam, got beams\. Did you mean "beam"\?/],
      [{ mode: "sample", temperature: 0 }, /temperature: expected a number above 0, got 0\. For the most likely token each time use mode greedy/],
      [{ mode: "sample", topP: 1.5 }, /topP: expected a number above 0 and at most 1, got 1\.5/],
      [{ mode: "sample", topK: 0 }, /topK: expected a whole number of at least 1/],
      [{ mode: "beam", beams: 2.5 }, /beams: expected a whole number/],
      [{ maxTokens: 1 }, /maxTokens: expected a whole number of at least 2/],
      [{ temperature: 0.7 }, /temperature: belongs to mode sample, got mode greedy\. Set mode to sample, or leave temperature out/],
      [{ mode: "sample", beams: 3 }, /beams: belongs to mode beam/],
    ];
    for (const [o, message] of refused) assert.throws(() => generationPlan(o), { code: "ERR_INPUT", message });
  });
});
