import { RuntimeError } from "../errors.ts";
import { MicrobatchPass } from "../pipeline/microbatch.ts";
import type { StageModel } from "../pipeline/model.ts";
import type { Graph, GraphNode } from "../pipeline/graph.ts";
import type { Box, Example, GenerativeDecoder, PageRecord, Tokenizer } from "../plugin/index.ts";
import { type AnswerItem, type AnswerState, advance, allowedNext, answerStart, bestAllowed, parseAnswer } from "./answer-grammar.ts";
import { type OpenOptions, openTrained } from "./trained-model.ts";

/** What a model wrote about one page. */
export interface GeneratedAnswer {
  /** The words of all items, joined by spaces. */
  text: string;
  /** In [0, 1024]. */
  boxes: Box[];
  items: AnswerItem[];
  /** Tokens written, `<eos>` not counted. */
  tokens: number;
  /** The limit on tokens ended it, not the model. */
  cutShort: boolean;
}

export interface GenerateOptions {
  /** Longest answer in tokens, with `<eos>`. Default 64. */
  maxTokens?: number;
  /** Pages at once. Default 8. */
  batch?: number;
}

export interface AskedAnswer extends GeneratedAnswer { page: PageRecord & { image?: Uint8Array }; seconds: number }

/**
 * Asks a checkpoint about one page file. Throws ERR_CHECKPOINT, ERR_DATA (the page cannot be read) or ERR_INPUT (the model
 * answers no questions: it was trained without a decoder).
 */
export async function answer(checkpoint: string, page: string, prompt: string, o: OpenOptions & GenerateOptions & { words?: string }): Promise<AskedAnswer> {
  const trained = await openTrained(checkpoint, o);
  try {
    const { loader } = trained.model;
    if (!loader?.page) throw new RuntimeError("ERR_INPUT", `${trained.checked.loader}: this data loader reads no single pages, so nothing can be asked.`);
    const record = await loader.page(page, o);
    const begun = performance.now();
    const [generated] = await generateAnswers(trained.model, [{ key: page, page: record, imageBytes: record.image, prompt }], o);
    return { ...generated, page: record, seconds: (performance.now() - begun) / 1000 };
  } finally {
    await trained.close();
  }
}

/** Greedy answers under the answer grammar, one per example, in their order. The prefix of each page is computed once. */
export async function generateAnswers(model: StageModel, examples: readonly Example[], { maxTokens = 64, batch = 8 }: GenerateOptions = {}): Promise<GeneratedAnswer[]> {
  const decoder = model.graph.nodes.find((node) => node.kind === "decoder");
  if (!decoder || !model.loader) throw new RuntimeError("ERR_INPUT", "This model answers no questions: its recipe has no decoder. Train one with prompt fine-tuning first.");
  const answers: GeneratedAnswer[] = [];
  for (let from = 0; from < examples.length; from += batch) {
    answers.push(...(await generateBatch(model, decoder, examples.slice(from, from + batch), maxTokens)));
  }
  return answers;
}

async function generateBatch(model: StageModel, decoder: GraphNode, examples: Example[], maxTokens: number): Promise<GeneratedAnswer[]> {
  const loader = model.loader!;
  const microbatch = await loader.encode(examples);
  const context = { training: false, step: 0, seed: model.seed, counts: {}, precision: model.precision, sampleIds: microbatch.sampleIds };
  const pass = new MicrobatchPass(model.graph, upstream(model.graph, decoder), context, "generate");
  const component = decoder.component as GenerativeDecoder;
  try {
    pass.forward({}, microbatch);
    const edges = model.graph.edges.filter((edge) => edge.to[0] === decoder.name);
    const inputs = Object.fromEntries(edges.map((edge) => [edge.to[1], pass.value(...edge.from)]));
    const state = pass.scope.enter(() => component.begin(inputs, context));
    try {
      const writers = examples.map(() => new Writer(loader.tokenizer, maxTokens));
      let ids = maskedIds(microbatch.tensors.dec_ids.data as Int32Array, microbatch.tensors.dec_mask.data as Uint8Array);
      while (writers.some((writer) => !writer.done)) {
        const logits = pass.scope.enter(() => component.next(state, ids));
        const [rows, V] = logits.shape;
        const values = await logits.readNumbers();
        logits.dispose();
        ids = Int32Array.from({ length: rows }, (_, row) => writers[row].choose(values.subarray(row * V, (row + 1) * V)));
      }
      return writers.map((writer) => writer.answer());
    } finally {
      component.end(state);
    }
  } finally {
    pass.close();
  }
}

/** The tokens of one answer as they are written. */
class Writer {
  readonly #ids: number[] = [];
  #state: AnswerState = answerStart;
  #forced = false;
  done = false;

  constructor(private readonly tokenizer: Tokenizer, private readonly limit: number) {}

  /** The next id: the most likely one that the grammar allows; -1 (no token) once the answer is complete. */
  choose(logits: ArrayLike<number>): number {
    if (this.done) return -1;
    const remaining = this.limit - this.#ids.length;
    const allowed = allowedNext(this.#state, this.tokenizer, remaining);
    const id = bestAllowed(logits, allowed);
    const free = bestAllowed(logits, allowedNext(this.#state, this.tokenizer, Infinity));
    if (id !== free) this.#forced = true;
    this.#state = advance(this.#state, id, this.tokenizer);
    if (id === this.tokenizer.special.eos) this.done = true;
    else this.#ids.push(id);
    return id;
  }

  answer(): GeneratedAnswer {
    const items = parseAnswer(this.#ids, this.tokenizer);
    return {
      text: items.map((item) => item.text).filter(Boolean).join(" "),
      boxes: items.flatMap((item) => (item.box ? [item.box] : [])),
      items, tokens: this.#ids.length, cutShort: this.#forced,
    };
  }
}

/** Padding as -1, which decoders take for "no token here". */
function maskedIds(ids: Int32Array, mask: Uint8Array): Int32Array {
  return ids.map((id, i) => (mask[i] ? id : -1));
}

/** The components whose outputs the decoder needs, in graph order. */
function upstream(graph: Graph, decoder: GraphNode): GraphNode[] {
  const needed = new Set([decoder.name]);
  for (const node of graph.nodes.toReversed()) {
    if (needed.has(node.name)) for (const edge of graph.edges) if (edge.to[0] === node.name) needed.add(edge.from[0]);
  }
  return graph.nodes.filter((node) => needed.has(node.name) && node !== decoder);
}

