/**
 * The loop of generation: logits of all rows, the next token of each, and again. Prefixes are computed once; rows that change places
 * (beams) are branched off.
 *
 * GN-1: who stops reading, aborts or meets an error leaves nothing behind: the state of the decoder is ended in every case.
 * GN-2: an answer depends on its page, its question and the options, not on the pages beside it (to the bits of the kernels).
 */
import { fnv1a32 } from "../tensor/index.ts";
import { RuntimeError } from "../errors.ts";
import type { Graph, GraphNode } from "../pipeline/graph/graph.ts";
import { MicrobatchPass } from "../pipeline/run/microbatch.ts";
import type { StageModel } from "../pipeline/run/model.ts";
import type { Box, DecoderState, Example, GenerativeDecoder, TensorComponent, Tokenizer } from "../plugin/index.ts";
import { type BoxHead, readBoxes } from "./answer-boxes.ts";
import { type AnswerSearch, searchFor } from "./answer-search.ts";
import type { GenerationPlan } from "./generation-options.ts";

/** One token of one answer. */
export interface WrittenToken {
  /** Which of the rows that were begun, from 0. */
  row: number;
  /** Which token of its answer, from 0. */
  number: number;
  id: number;
}

/** A decoder whose prefixes are computed, and the ids (B, A) it reads next: `<bos> instruction <ans>` of each row, -1 for padding. */
export interface Begun { decoder: GenerativeDecoder; state: DecoderState; ids: Int32Array; /** Where the model has one. */ boxHead?: BoxHead }

/** Runs the encoders and computes the decoder's prefix of every example. The caller ends the state. */
export async function beginAnswers(model: StageModel, examples: readonly Example[]): Promise<Begun> {
  const node = model.graph.nodes.find(({ kind }) => kind === "decoder");
  if (!node || !model.loader) throw new RuntimeError("ERR_INPUT", "This model answers no questions: its recipe has no decoder. Train one with prompt fine-tuning first.");
  const microbatch = await model.loader.encode([...examples]);
  const context = { training: false, step: 0, seed: model.seed, counts: {}, precision: model.precision, sampleIds: microbatch.sampleIds };
  const pass = new MicrobatchPass(model.graph, upstream(model.graph, node), context, "generate");
  const decoder = node.component as GenerativeDecoder;
  try {
    pass.forward({}, microbatch);
    const edges = model.graph.edges.filter((edge) => edge.to[0] === node.name);
    const inputs = Object.fromEntries(edges.map((edge) => [edge.to[1], pass.value(...edge.from)]));
    const { dec_ids, dec_mask } = microbatch.tensors;
    return { decoder, state: decoder.begin(inputs, context), ids: withoutPadding(dec_ids.data as Int32Array, dec_mask.data as Uint8Array), boxHead: boxHeadOf(model.graph, node) };
  } finally {
    pass.close();
  }
}

export interface WriteOptions { tokenizer: Tokenizer; plan: GenerationPlan; /** One per row: what names it among all draws of a seed. */ samples: readonly number[]; signal?: AbortSignal }

/** Writes one answer per row, yielding every token as soon as it is certain. Ends the state. Returns the finished searches, in order. */
export async function* writeAnswers({ decoder, state, ids, boxHead }: Begun, { tokenizer, plan, samples, signal }: WriteOptions): AsyncGenerator<WrittenToken, AnswerSearch[]> {
  const searches = samples.map((sample) => searchFor(plan, tokenizer, sample));
  let widths = searches.map(() => 1);
  try {
    const told = searches.map(() => 0);
    while (searches.some((search) => !search.done)) {
      signal?.throwIfAborted();
      const rows = await nextLogits(decoder, state, ids), boxes = boxHead ? await boxesAt(tokenizer.special.box, ids, { decoder, state, boxHead, rows: rows.length }) : [];
      const parents: number[] = [], following: number[] = [], nextWidths: number[] = [];
      let from = 0;
      for (const [page, search] of searches.entries()) {
        const next = search.step(rows.slice(from, from + widths[page]), boxes.slice(from, from + widths[page]));
        for (const parent of next.parents) parents.push(from + parent);
        following.push(...next.ids);
        nextWidths.push(next.ids.length);
        from += widths[page];
      }
      for (const [row, { settled }] of searches.entries()) {
        for (; told[row] < settled.length; told[row]++) yield { row, number: told[row], id: settled[told[row]] };
      }
      if (searches.every((search) => search.done)) break; // nobody reads rows that are branched off now
      if (parents.length !== from || parents.some((parent, row) => parent !== row)) {
        const before = state;
        state = decoder.branch(before, parents);
        decoder.end(before);
      }
      [widths, ids] = [nextWidths, Int32Array.from(following)];
    }
    return searches;
  } finally {
    decoder.end(state);
  }
}

/** Logits after each row's last token, in ordinary memory. */
export async function nextLogits(decoder: GenerativeDecoder, state: DecoderState, ids: Int32Array): Promise<ArrayLike<number>[]> {
  const logits = decoder.next(state, ids);
  try {
    const [rows, V] = logits.shape;
    const values = await logits.readNumbers();
    return Array.from({ length: rows }, (_, row) => values.subarray(row * V, (row + 1) * V));
  } finally {
    logits.dispose();
  }
}

/** What the head reads in the rows whose one new token was `<box>`. A question may hold one, at its end stands another token. */
async function boxesAt(box: number, ids: Int32Array, { decoder, state, boxHead, rows }: { decoder: GenerativeDecoder; state: DecoderState; boxHead: BoxHead; rows: number }): Promise<(Box | undefined)[]> {
  if (ids.length !== rows || !ids.includes(box) || !decoder.hidden) return [];
  const read = await readBoxes(boxHead, decoder.hidden(state));
  return read.map((found, row) => (ids[row] === box ? found : undefined));
}

/** The head of the objective that reads this decoder's states. */
function boxHeadOf(graph: Graph, decoder: GraphNode): BoxHead | undefined {
  const readers = graph.edges.filter(({ from }) => from[0] === decoder.name && from[1] === "hidden").map(({ to }) => graph.nodes.find(({ name }) => name === to[0])!);
  const objective = readers.map(({ component }) => component as Partial<TensorComponent>).find((component) => component.boxes);
  return objective && ((hidden) => objective.boxes!(hidden));
}

/** A number for a question about a page, the same in every batch and order. */
export const sampleOf = ({ page, prompt }: Example): number => fnv1a32(`${page.source}/${page.docId}#${page.page}\n${prompt}`);

/** Padding as -1, which decoders take for "no token here". */
function withoutPadding(ids: Int32Array, mask: Uint8Array): Int32Array {
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
