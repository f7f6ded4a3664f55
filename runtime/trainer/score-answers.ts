import { RuntimeError } from "../errors.ts";
import type { StageModel } from "../pipeline/run/model.ts";
import type { Example, Tokenizer } from "../plugin/index.ts";
import { renderAnswer } from "./answer-grammar.ts";
import { type Begun, beginAnswers, nextLogits } from "./generate.ts";
import { logSumExp } from "./token-choice.ts";

/** How likely one answer of a closed list is. */
export interface AnswerScore {
  answer: string;
  /** Sum over its tokens and `<eos>` of their log-probabilities. */
  logProbability: number;
  /** Tokens, `<eos>` counted. */
  tokens: number;
  /** Its share among the answers of the list. */
  probability: number;
}

export interface ScoreOptions {
  /** Pages at once. Default 8. */
  batch?: number;
  /** Rows that the decoder continues at once, over pages and answers. Default 64. */
  rows?: number;
  signal?: AbortSignal;
}

/**
 * How likely each of the `candidates` is as the whole answer to each example: per example one score per candidate, in their order. A page's
 * prefix and instruction are computed once; candidates go on from copies of its caches. Throws ERR_INPUT for a list that is empty, says
 * something twice or nothing, and for a batch of none.
 */
export async function scoreAnswers(model: StageModel, examples: readonly Example[], candidates: readonly string[], { batch = 8, rows = 64, signal }: ScoreOptions = {}): Promise<AnswerScore[][]> {
  for (const [option, value] of Object.entries({ batch, rows })) {
    if (!Number.isInteger(value) || value < 1) throw new RuntimeError("ERR_INPUT", `${option}: expected a whole number of at least 1, got ${value}.`, { option, got: value });
  }
  const tokens = candidateTokens(candidates, model.loader?.tokenizer);
  const scores: AnswerScore[][] = [];
  for (let from = 0; from < examples.length; from += batch) {
    signal?.throwIfAborted();
    const begun = await beginAnswers(model, examples.slice(from, from + batch));
    for (const sums of await scoreRows(begun, tokens, { rows, signal })) {
      const whole = logSumExp(sums);
      scores.push(sums.map((logProbability, i) => ({ answer: candidates[i], logProbability, tokens: tokens[i].length, probability: Math.exp(logProbability - whole) })));
    }
  }
  return scores;
}

/** (page, candidate) -> summed log-probability. Ends the state. */
export async function scoreRows({ decoder, state, ids }: Begun, candidates: readonly (readonly number[])[], { rows, signal }: { rows: number; signal?: AbortSignal }): Promise<number[][]> {
  try {
    const first = await nextLogits(decoder, state, ids);
    const sums = first.map((logits) => candidates.map(([id]) => logits[id] - logSumExp(logits)));
    const pairs = first.flatMap((_, page) => candidates.map((_, candidate) => ({ page, candidate })));
    for (let from = 0; from < pairs.length; from += rows) {
      const part = pairs.slice(from, from + rows);
      const longest = Math.max(...part.map(({ candidate }) => candidates[candidate].length));
      const branch = decoder.branch(state, part.map(({ page }) => page));
      try {
        for (let at = 1; at < longest; at++) {
          signal?.throwIfAborted();
          const logits = await nextLogits(decoder, branch, Int32Array.from(part, ({ candidate }) => candidates[candidate][at] === undefined ? -1 : candidates[candidate][at - 1]));
          part.forEach(({ page, candidate }, row) => {
            const id = candidates[candidate][at];
            if (id !== undefined) sums[page][candidate] += logits[row][id] - logSumExp(logits[row]);
          });
        }
      } finally {
        decoder.end(branch);
      }
    }
    return sums;
  } finally {
    decoder.end(state);
  }
}

/** As training renders an answer, with `<eos>`. */
function candidateTokens(candidates: readonly string[], tokenizer: Tokenizer | undefined): number[][] {
  if (!tokenizer) throw new RuntimeError("ERR_INPUT", "This model answers no questions: it has no data loader with a tokenizer.");
  if (candidates.length === 0) throw new RuntimeError("ERR_INPUT", "choices: expected at least one answer to compare, got none.", { candidates: [] });
  const twice = candidates.find((answer, i) => candidates.indexOf(answer) < i);
  if (twice !== undefined) throw new RuntimeError("ERR_INPUT", `choices: expected different answers, got "${twice}" twice. Remove one of them.`, { candidates: [...candidates] });
  return candidates.map((answer) => {
    const ids = renderAnswer([{ text: answer }], tokenizer);
    if (ids.length === 0) throw new RuntimeError("ERR_INPUT", `choices: expected words in every answer, got "${answer}".`, { candidates: [...candidates] });
    return [...ids, tokenizer.special.eos];
  });
}
