/**
 * How one page's answer is found, token by token, under the grammar: one row that takes the best or a drawn token, or several beams.
 *
 * AS-1: whatever the mode, what is written is an answer of the grammar and no longer than its limit.
 * AS-2: greedy is the search with one beam, token by token.
 * AS-3: a beam's value is the sum of its tokens' log-probabilities under the whole vocabulary: the grammar forbids, it does not re-weigh.
 *       Of complete answers the best is the one with the highest value / tokens^lengthPenalty. The search ends when as many answers are
 *       complete as there are beams, or none goes on.
 */
import type { Box, Tokenizer } from "../plugin/index.ts";
import { type AnswerState, advance, allowedNext, answerStart, bestAllowed, isLimited, type IdRanges } from "./answer-grammar.ts";
import type { GenerationPlan } from "./generation-options.ts";
import { drawFor, drawToken, logSumExp, mostLikely } from "./token-choice.ts";

export interface FoundAnswer {
  /** Without `<eos>`. */
  ids: number[];
  /** Sum over its tokens, `<eos>` too, of their log-probabilities under the whole vocabulary. */
  logProbability: number;
  /** The limit on tokens forbade what would have been chosen. */
  forced: boolean;
  /** What a box head said at each `<box>`, in their order; empty without one. */
  headBoxes: readonly Box[];
}

/** Rows go on: row i where row `parents[i]` of the step before stood, with token `ids[i]`, -1 for none. */
export interface NextRows { parents: number[]; ids: number[] }

export interface AnswerSearch {
  /** `logits`: one row per row that went on, at first one. `boxes`: what a head reads in those whose last token was `<box>`. */
  step(logits: readonly ArrayLike<number>[], boxes?: readonly (Box | undefined)[]): NextRows;
  readonly done: boolean;
  /** The tokens that are certain by now. They are the beginning of `answers()[0]`. */
  readonly settled: readonly number[];
  /** Complete answers, the best first; at least one once the search is done. */
  answers(): FoundAnswer[];
}

/** `sample` names the answer among all answers of a seed. */
export function searchFor(plan: GenerationPlan, tokenizer: Tokenizer, sample: number): AnswerSearch {
  const limit = plan.maxTokens;
  switch (plan.mode) {
    case "greedy": return new OneRow(tokenizer, limit, bestAllowed);
    case "sample": return new OneRow(tokenizer, limit, (logits, ranges, token) => drawToken(logits, ranges, plan, drawFor(plan.seed, sample, token)));
    case "beam": return new BeamSearch(tokenizer, plan);
  }
}

/** An answer on its way. */
interface Hypothesis extends FoundAnswer { state: AnswerState }

const nothingYet: Hypothesis = { ids: [], state: answerStart, logProbability: 0, forced: false, headBoxes: [] };

/** A hypothesis with one more token, of log-probability `gain`. */
function extended({ ids, state, logProbability, forced, headBoxes }: Hypothesis, id: number, gain: number, nowForced: boolean, tokenizer: Tokenizer): Hypothesis {
  return {
    ids: id === tokenizer.special.eos ? ids : [...ids, id], state: advance(state, id, tokenizer),
    logProbability: logProbability + gain, forced: forced || nowForced, headBoxes,
  };
}

const withBox = (answer: Hypothesis, box: Box | undefined): Hypothesis => (box ? { ...answer, headBoxes: [...answer.headBoxes, box] } : answer);

class OneRow implements AnswerSearch {
  #answer = nothingYet;

  constructor(private readonly tokenizer: Tokenizer, private readonly limit: number, private readonly choose: (logits: ArrayLike<number>, ranges: IdRanges, token: number) => number) {}

  get done(): boolean {
    return this.#answer.state.phase === "end";
  }

  get settled(): readonly number[] {
    return this.#answer.ids;
  }

  step([logits]: readonly ArrayLike<number>[], [box]: readonly (Box | undefined)[] = []): NextRows {
    if (this.done) return { parents: [0], ids: [-1] };
    this.#answer = withBox(this.#answer, box);
    const { state, ids } = this.#answer, token = ids.length, remaining = this.limit - token;
    const id = this.choose(logits, allowedNext(state, this.tokenizer, remaining), token);
    const free = isLimited(remaining) ? this.choose(logits, allowedNext(state, this.tokenizer, Infinity), token) : id;
    this.#answer = extended(this.#answer, id, logits[id] - logSumExp(logits), id !== free, this.tokenizer);
    return { parents: [0], ids: [id] };
  }

  answers(): FoundAnswer[] {
    return this.done ? [this.#answer] : [];
  }
}

class BeamSearch implements AnswerSearch {
  #live: Hypothesis[] = [nothingYet];
  #complete: Hypothesis[] = [];

  constructor(private readonly tokenizer: Tokenizer, private readonly plan: GenerationPlan) {}

  get done(): boolean {
    return this.#live.length === 0;
  }

  get settled(): readonly number[] {
    return this.done ? this.answers()[0].ids : commonBeginning([...this.#live, ...this.#complete].map(({ ids }) => ids));
  }

  step(logits: readonly ArrayLike<number>[], boxes: readonly (Box | undefined)[] = []): NextRows {
    const { beams } = this.plan;
    this.#live = this.#live.map((answer, row) => withBox(answer, boxes[row]));
    const parents: number[] = [], ids: number[] = [], live: Hypothesis[] = [];
    for (const [rank, { row, id, gain, forced }] of this.#candidates(logits).entries()) {
      if (id === this.tokenizer.special.eos) {
        if (rank < beams) this.#complete.push(extended(this.#live[row], id, gain, forced, this.tokenizer));
      } else if (live.length < beams) {
        live.push(extended(this.#live[row], id, gain, forced, this.tokenizer));
        parents.push(row), ids.push(id);
      }
    }
    this.#live = this.#complete.length >= beams ? [] : live;
    // every page keeps as many rows as there are beams: shapes stay, so a compiled step is replayed
    while (ids.length < beams) parents.push(0), ids.push(-1);
    return { parents, ids: this.done ? ids.fill(-1) : ids };
  }

  /** All that could come next, the best first. A row can give at most one `<eos>` and as many others as there are beams. */
  #candidates(logits: readonly ArrayLike<number>[]): { row: number; id: number; gain: number; total: number; forced: boolean }[] {
    return this.#live.flatMap(({ state, ids, logProbability }, row) => {
      const values = logits[row], whole = logSumExp(values), remaining = this.plan.maxTokens - ids.length;
      const allowed = allowedNext(state, this.tokenizer, remaining);
      const forced = isLimited(remaining) && bestAllowed(values, allowedNext(state, this.tokenizer, Infinity)) !== bestAllowed(values, allowed);
      return mostLikely(values, allowed, this.plan.beams + 1).map((id) => ({ row, id, gain: values[id] - whole, total: logProbability + values[id] - whole, forced }));
    }).sort((a, b) => (a.total > b.total ? -1 : a.total < b.total ? 1 : a.row - b.row || a.id - b.id));
  }

  answers(): FoundAnswer[] {
    const value = ({ logProbability, ids }: Hypothesis): number => logProbability / (ids.length + 1) ** this.plan.lengthPenalty;
    return [...this.#complete].sort((a, b) => value(b) - value(a));
  }
}

function commonBeginning(rows: readonly (readonly number[])[]): readonly number[] {
  const [first, ...others] = rows;
  const length = others.reduce((most, row) => {
    let same = 0;
    while (same < most && same < row.length && row[same] === first[same]) same++;
    return same;
  }, first.length);
  return first.slice(0, length);
}
