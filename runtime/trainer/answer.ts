import { RuntimeError } from "../errors.ts";
import type { StageModel } from "../pipeline/run/model.ts";
import type { Box, Example, PageRecord, Tokenizer } from "../plugin/index.ts";
import { type AnswerItem, parseAnswer } from "./answer-grammar.ts";
import type { AnswerSearch, FoundAnswer } from "./answer-search.ts";
import { withHeadBoxes } from "./answer-boxes.ts";
import { beginAnswers, sampleOf, writeAnswers } from "./generate.ts";
import { GrowingText } from "./growing-text.ts";
import { type GenerateOptions, generationPlan } from "./generation-options.ts";
import { type AnswerScore, scoreAnswers } from "./score-answers.ts";
import { type OpenOptions, type TrainedModel, openTrained } from "./trained-model.ts";

/** What a model wrote about one page. */
export interface GeneratedAnswer {
  /** The words of all items, joined by spaces. */
  text: string;
  /** In [0, 1024]. */
  boxes: Box[];
  items: AnswerItem[];
  /** Tokens written, `<eos>` not counted. */
  tokens: number;
  /** Sum over its tokens and `<eos>` of their log-probabilities. */
  logProbability: number;
  /** The limit on tokens ended it, not the model. */
  cutShort: boolean;
  /** mode beam: the other complete answers that were found, the best first. */
  alternatives?: Omit<GeneratedAnswer, "alternatives">[];
}

/** One token on its way to the caller. */
export interface AnswerToken {
  /** Which of the examples, from 0. */
  example: number;
  /** Which token of its answer, from 0. */
  number: number;
  id: number;
  /** What it adds to the words written so far, with a space between items; empty for structure, and until a character is whole. */
  text: string;
}

export interface StreamOptions extends GenerateOptions {
  /** Told every token as soon as it is certain: at once, or in mode beam when all beams agree. */
  onToken?(token: AnswerToken): void;
}

export interface AskedAnswer extends GeneratedAnswer { page: PageRecord & { image?: Uint8Array }; seconds: number }

/**
 * Asks a checkpoint about one page file. Throws ERR_CHECKPOINT, ERR_DATA (the page cannot be read) or ERR_INPUT (the model
 * answers no questions: it was trained without a decoder).
 */
export async function answer(checkpoint: string, page: string, prompt: string, o: OpenOptions & StreamOptions & { words?: string }): Promise<AskedAnswer> {
  generationPlan(o); // what is wrong with it shows before a checkpoint is read
  return withPage(checkpoint, page, prompt, o, async ({ model }, example) => {
    const [generated] = await generateAnswers(model, [example], o);
    return generated;
  });
}

/** How likely each of `choices` is as the answer, the likeliest first. Throws as `answer` does. */
export async function chooseAnswer(checkpoint: string, page: string, prompt: string, choices: readonly string[], o: OpenOptions & { words?: string; signal?: AbortSignal }): Promise<{ choices: AnswerScore[]; page: AskedAnswer["page"]; seconds: number }> {
  return withPage(checkpoint, page, prompt, o, async ({ model }, example) => {
    const [scores] = await scoreAnswers(model, [example], choices, o);
    return { choices: scores.sort((a, b) => b.logProbability - a.logProbability) };
  });
}

async function withPage<T extends object>(checkpoint: string, page: string, prompt: string, o: OpenOptions & { words?: string }, work: (trained: TrainedModel, example: Example) => Promise<T>): Promise<T & { page: AskedAnswer["page"]; seconds: number }> {
  const trained = await openTrained(checkpoint, o);
  try {
    const { loader } = trained.model;
    if (!loader?.page) throw new RuntimeError("ERR_INPUT", `${trained.checked.loader}: this data loader reads no single pages, so nothing can be asked.`);
    const record = await loader.page(page, o);
    const begun = performance.now();
    const found = await work(trained, { key: page, page: record, imageBytes: record.image, prompt });
    return { ...found, page: record, seconds: (performance.now() - begun) / 1000 };
  } finally {
    await trained.close();
  }
}

/** Answers under the answer grammar, one per example, in their order. The prefix of each page is computed once. */
export async function generateAnswers(model: StageModel, examples: readonly Example[], o: StreamOptions = {}): Promise<GeneratedAnswer[]> {
  const stream = streamAnswers(model, examples, o);
  try {
    for (;;) {
      const { done, value } = await stream.next();
      if (done) return value;
      o.onToken?.(value);
    }
  } finally {
    await stream.return([]); // should onToken throw
  }
}

/** The same, token by token: yields tokens as they are certain and returns the answers. Leaving the loop frees everything. */
export async function* streamAnswers(model: StageModel, examples: readonly Example[], o: GenerateOptions = {}): AsyncGenerator<AnswerToken, GeneratedAnswer[]> {
  const plan = generationPlan(o), answers: GeneratedAnswer[] = [];
  for (let from = 0; from < examples.length; from += plan.batch) {
    o.signal?.throwIfAborted();
    const part = examples.slice(from, from + plan.batch);
    const begun = await beginAnswers(model, part);
    const tokenizer = model.loader!.tokenizer, words = part.map(() => new GrowingText(tokenizer));
    const written = writeAnswers(begun, { tokenizer, plan, samples: part.map(sampleOf), signal: o.signal });
    const searches: AnswerSearch[] = yield* told(written, ({ row, number, id }) => ({ example: from + row, number, id, text: words[row].add(id) }));
    answers.push(...searches.map((search) => best(search, tokenizer)));
  }
  return answers;
}

/** Another generator's values in other words; its end is passed on both ways. */
async function* told<A, B, R>(source: AsyncGenerator<A, R>, say: (value: A) => B): AsyncGenerator<B, R> {
  try {
    for (;;) {
      const { done, value } = await source.next();
      if (done) return value;
      yield say(value);
    }
  } finally {
    await source.return(undefined as R);
  }
}

function best(search: AnswerSearch, tokenizer: Tokenizer): GeneratedAnswer {
  const [first, ...others] = search.answers().map((found) => read(found, tokenizer));
  return { ...first, ...(others.length > 0 && { alternatives: others }) };
}

function read({ ids, logProbability, forced, headBoxes }: FoundAnswer, tokenizer: Tokenizer): GeneratedAnswer {
  const items = withHeadBoxes(parseAnswer(ids, tokenizer), headBoxes, tokenizer.locationBins);
  return {
    text: items.map((item) => item.text).filter(Boolean).join(" "),
    boxes: items.flatMap((item) => (item.box ? [item.box] : [])),
    items, tokens: ids.length, logProbability, cutShort: forced,
  };
}
