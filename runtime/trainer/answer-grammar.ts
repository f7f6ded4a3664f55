/**
 * What a decoder may write, and what it means:
 *
 *   answer := <none> | items          items := item ( <item> item )*
 *   item   := [ type <kv> ] text [ box ] | text? box
 *   box    := <box> X0 Y0 X1 Y1 </box>      (location tokens; X1 >= X0, Y1 >= Y0)
 *
 * G-1: from every reachable state some token is allowed, so that generation can always go on or end.
 * G-2: whatever follows the automaton to <eos> parses, and never exceeds the length it was given (at least 2 tokens).
 * G-3: render and parse are inverse to each other up to the half bin that quantising a box loses.
 *
 * Pure functions over data: no tensors, no state of their own.
 */
import type { Box, Tokenizer } from "../plugin/kinds.ts";

type Tokens = Pick<Tokenizer, "special" | "locationBase" | "locationBins" | "vocabulary" | "textIds">;

/** `phase` is where in the grammar we are; `corner` holds the location bins of the box being written. */
export interface AnswerState {
  readonly phase: "start" | "text" | "after-key" | "box" | "after-box" | "after-item" | "none" | "end";
  /** A type was already named in this item, so no second `<kv>`. */
  readonly keyed: boolean;
  readonly corner: readonly number[];
}

/** Half-open ranges of token ids, ascending. */
export type IdRanges = readonly (readonly [from: number, to: number])[];

export const answerStart: AnswerState = { phase: "start", keyed: false, corner: [] };

/** Ids that are pieces of text: behind the locations in vocabularies of our own, before the reserved tokens in those of released models. */
export const textIds = (tokens: Tokens): IdRanges => tokens.textIds ?? [[tokens.locationBase + tokens.locationBins, tokens.vocabulary]];

export const isTextId = (tokens: Tokens, id: number): boolean => isAllowed(textIds(tokens), id);

export const isLocationId = ({ locationBase, locationBins }: Tokens, id: number): boolean => id >= locationBase && id < locationBase + locationBins;

/** Can the limit on tokens forbid anything here? The longest that any choice needs is a box and `<eos>`. */
export const isLimited = (remaining: number): boolean => remaining < boxAndEnd;
const boxAndEnd = 7;

/** Which ids may come next when at most `remaining` more tokens (with `<eos>`) can be written. */
export function allowedNext(state: AnswerState, tokens: Tokens, remaining: number): IdRanges {
  const { special } = tokens;
  const only = (id: number): [number, number] => [id, id + 1];
  const ranges: (readonly [number, number])[] = [];
  // What each choice still needs up to and with <eos>, itself included.
  const text = remaining >= 2 ? textIds(tokens) : [];
  const box = remaining >= boxAndEnd ? [only(special.box)] : [];
  const next = remaining >= 3 ? [only(special.item)] : [];
  switch (state.phase) {
    case "start": ranges.push(...text, ...box, only(special.none)); break;
    case "after-item": ranges.push(...text, ...box); break;
    case "after-key": ranges.push(...text); break;
    case "text":
      ranges.push(...text, ...box, ...next, only(special.eos));
      if (!state.keyed && remaining >= 3) ranges.push(only(special.kv));
      break;
    case "after-box": ranges.push(...next, only(special.eos)); break;
    case "none": ranges.push(only(special.eos)); break;
    case "box": {
      const written = state.corner.length;
      if (written === 4) ranges.push(only(special.boxEnd));
      else ranges.push([tokens.locationBase + (written < 2 ? 0 : state.corner[written - 2]), tokens.locationBase + tokens.locationBins]);
      break;
    }
    case "end": break;
  }
  return ranges.sort((a, b) => a[0] - b[0]);
}

export function isAllowed(ranges: IdRanges, id: number): boolean {
  return ranges.some(([from, to]) => id >= from && id < to);
}

/** The best allowed id of one row of logits; ties go to the lower id. -1 when nothing is allowed. */
export function bestAllowed(logits: ArrayLike<number>, ranges: IdRanges): number {
  let best = -1;
  for (const [from, to] of ranges) {
    for (let id = from; id < to; id++) if (best < 0 || logits[id] > logits[best]) best = id;
  }
  return best;
}

/** The state after `id`. The caller asked `allowedNext` first; an id outside the grammar ends the answer. */
export function advance(state: AnswerState, id: number, tokens: Tokens): AnswerState {
  const { special } = tokens;
  if (state.phase === "box") {
    if (id === special.boxEnd) return { phase: "after-box", keyed: state.keyed, corner: [] };
    return { ...state, corner: [...state.corner, id - tokens.locationBase] };
  }
  if (id === special.box) return { phase: "box", keyed: state.keyed, corner: [] };
  if (id === special.item) return { phase: "after-item", keyed: false, corner: [] };
  if (id === special.kv) return { phase: "after-key", keyed: true, corner: [] };
  if (id === special.none) return { phase: "none", keyed: false, corner: [] };
  if (isTextId(tokens, id)) return { phase: "text", keyed: state.keyed, corner: [] };
  return { phase: "end", keyed: false, corner: [] };
}

// ------------------------------------------------------------------------------------------------- meaning of the tokens

/** One thing answered: its words, where they stand on the page, and what kind of thing it is. */
export interface AnswerItem {
  type?: string;
  text: string;
  /** In [0, 1024]. Of the two below the one that is believed, where both are there. */
  box?: Box;
  /** By location tokens: the middles of their bins. */
  tokenBox?: Box;
  /** By the box head, between bins. */
  headBox?: Box;
}

/** v in [0, 1] -> bin `clamp(floor(v * bins), 0, bins - 1)`. */
export function locationBin(v: number, bins: number): number {
  return Math.min(bins - 1, Math.max(0, Math.floor(v * bins)));
}

/** The middle of a bin, in [0, 1]: at most half a bin from where it came. */
export function binCentre(bin: number, bins: number): number {
  return (bin + 0.5) / bins;
}

const frame = 1024;

/** Items -> ids without `<bos>` and `<eos>`; no items give `<none>`. Words of the text keep the order given. */
export function renderAnswer(items: readonly AnswerItem[], tokenizer: Tokenizer): number[] {
  const { special } = tokenizer;
  if (items.length === 0) return [special.none];
  const words = (text: string) => tokenizer.encodeWords(text.split(/\s+/u).filter(Boolean)).ids;
  return items.flatMap((item, i) => [
    ...(i > 0 ? [special.item] : []),
    ...(item.type === undefined ? [] : [...words(item.type), special.kv]),
    ...words(item.text),
    ...(item.box ? [special.box, ...item.box.map((v) => tokenizer.locationBase + locationBin(v / frame, tokenizer.locationBins)), special.boxEnd] : []),
  ]);
}

/** Ids (up to `<eos>` or the end) -> items. Lenient: an unfinished box is left out, other stray tokens are passed over. */
export function parseAnswer(ids: Iterable<number>, tokenizer: Tokenizer): AnswerItem[] {
  const { special, locationBase, locationBins } = tokenizer;
  const items: AnswerItem[] = [];
  let type: string | undefined, text: number[] = [], corner: number[] | undefined, box: Box | undefined;
  const take = () => { const words = tokenizer.decode(text).trim(); text = []; return words; };
  const close = () => {
    const words = take();
    if (words !== "" || box) items.push({ ...(type === undefined ? {} : { type }), text: words, ...(box ? { box } : {}) });
    type = undefined, box = undefined, corner = undefined;
  };
  for (const id of ids) {
    if (id === special.eos) break;
    if (id === special.item) close();
    else if (id === special.kv) type = take();
    else if (id === special.box) corner = [];
    else if (id === special.boxEnd) {
      if (corner?.length === 4) box = corner.map((bin) => binCentre(bin, locationBins) * frame) as unknown as Box;
      corner = undefined;
    } else if (isLocationId(tokenizer, id)) corner?.push(id - locationBase);
    else if (isTextId(tokenizer, id)) text.push(id);
  }
  close();
  return items;
}

/** Reading order of the targets: rows of a thirty-second of the page, then left to right. Items without a box come last. */
export function canonicalOrder(items: readonly AnswerItem[]): AnswerItem[] {
  const key = ({ box }: AnswerItem) => box ? [Math.floor((32 * box[1]) / frame), box[0], box[3], box[2]] : [Infinity, 0, 0, 0];
  return [...items].sort((a, b) => {
    const [ka, kb] = [key(a), key(b)];
    const i = ka.findIndex((value, at) => value !== kb[at]);
    return i < 0 ? 0 : ka[i] - kb[i];
  });
}
