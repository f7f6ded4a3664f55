/** A page and a question as token ids. */
import { renderAnswer, type Box, type PageRecord, type Tokenizer } from "../../runtime/index.ts";
import { toUnit } from "./frame.ts";

export type UnitBox = readonly [x0: number, y0: number, x1: number, y1: number];

/** `<bos> words <eos>`; every token of a word has the word's box (corners in [0, 1]), specials have none. */
export interface PageText { ids: number[]; boxes: (UnitBox | undefined)[]; /** Which word each token is of, -1 for specials. */ words: number[]; cut: boolean }

export function pageText(page: PageRecord, tokenizer: Tokenizer, longest: number): PageText {
  const { ids, wordIndex } = tokenizer.encodeWords(page.words.map((word) => word.text));
  const kept = Math.min(ids.length, longest - 2);
  const boxes = page.words.map((word) => toUnit(word.box));
  return {
    ids: [tokenizer.special.bos, ...ids.slice(0, kept), tokenizer.special.eos],
    boxes: [undefined, ...wordIndex.slice(0, kept).map((word) => boxes[word]), undefined],
    words: [-1, ...wordIndex.slice(0, kept), -1],
    cut: kept < ids.length,
  };
}

/** The boxes of tokens by the lines their words stand in; a word without one has its own. */
export function lineBoxes(page: PageRecord, { boxes, words }: PageText): (UnitBox | undefined)[] {
  const lines = page.lines.map((line) => toUnit(line.box));
  return words.map((word, i) => lines[page.words[word]?.line ?? -1] ?? boxes[i]);
}

/**
 * What the prompt encoder reads, `<bos> prompt <sep>`, and what the decoder reads, `<bos> prompt <ans> answer <eos>`.
 * `labels[i]` is the token that follows position i, from `<ans>` on; -100 before. A cut answer has no `<eos>`: nothing
 * says that it ends there.
 */
export interface DialogueText {
  promptIds: number[];
  ids: number[];
  labels: number[];
  /** One per `<box>` token: its position in `ids`, and the true box. */
  boxes: { position: number; box: UnitBox }[];
  promptCut: boolean;
  answerCut: boolean;
}

export interface DialogueLimits { prompt: number; answer: number; /** false: the decoder reads no instruction. Default true. */ inDecoder?: boolean }

export function dialogueText(o: { prompt: string; answer?: string; boxes?: readonly Box[] }, { tokenizer, promptTokenizer }: { tokenizer: Tokenizer; promptTokenizer: Tokenizer }, limits: DialogueLimits): DialogueText {
  const { special } = tokenizer, promptWords = o.prompt.split(/\s+/u).filter(Boolean);
  const asked = (by: Tokenizer): { ids: number[]; cut: boolean } => {
    const { ids } = by.encodeWords(promptWords);
    return { ids: ids.slice(0, limits.prompt - 2), cut: ids.length > limits.prompt - 2 };
  };
  const read = asked(promptTokenizer), instruction = promptTokenizer === tokenizer ? read : asked(tokenizer);
  const opening = [special.bos, ...(limits.inDecoder === false ? [] : instruction.ids), special.ans];
  const boxes = o.boxes ?? [];
  const answered = o.answer === undefined ? [] : renderAnswer([{ text: o.answer, box: boxes[0] }, ...boxes.slice(1).map((box) => ({ text: "", box }))], tokenizer);
  const room = Math.max(0, limits.answer - opening.length);
  const answerCut = answered.length + 1 > room;
  const written = o.answer === undefined ? [] : answerCut ? beforeCutBox(answered.slice(0, room), special.box, special.boxEnd) : [...answered, special.eos];
  const ids = [...opening, ...written];
  const positions = ids.flatMap((id, position) => (id === special.box ? [position] : []));
  return {
    promptIds: [promptTokenizer.special.bos, ...read.ids, promptTokenizer.special.sep], ids,
    labels: ids.map((_, i) => (o.answer !== undefined && i >= opening.length - 1 && i + 1 < ids.length ? ids[i + 1] : -100)),
    boxes: positions.map((position, i) => ({ position, box: toUnit(boxes[i]) })),
    promptCut: read.cut || instruction.cut, answerCut: o.answer !== undefined && answerCut,
  };
}

/** A box is whole or not there. */
function beforeCutBox(ids: number[], box: number, boxEnd: number): number[] {
  const opened = ids.lastIndexOf(box);
  return opened >= 0 && ids.indexOf(boxEnd, opened) < 0 ? ids.slice(0, opened) : ids;
}
