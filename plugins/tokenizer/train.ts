/**
 * Trains a byte-level BPE and writes it as a Hugging Face `tokenizer.json`.
 *
 * TR-1: the same texts in any order give the same file: pairs are merged by count, ties by the smaller left id, then the smaller right id.
 * TR-2: ids are `reserved.ts`, then the 256 bytes, then the merges in the order they were learned.
 */
import { RuntimeError } from "../../runtime/index.ts";
import { byteAlphabet, pieces, toByteCharacters } from "./byte-level.ts";
import { reservedTokens } from "./reserved.ts";

export interface TrainOptions { vocabulary: number; locationBins: number }

/** The parts of `tokenizer.json` that this project writes and reads. */
export interface TokenizerFile {
  version: "1.0";
  truncation: null;
  padding: null;
  added_tokens: { id: number; content: string; single_word: false; lstrip: false; rstrip: false; normalized: false; special: true }[];
  normalizer: null;
  pre_tokenizer: { type: "ByteLevel"; add_prefix_space: false; trim_offsets: true; use_regex: true };
  post_processor: null;
  decoder: { type: "ByteLevel"; add_prefix_space: true; trim_offsets: true; use_regex: true };
  model: {
    type: "BPE"; dropout: null; unk_token: null; continuing_subword_prefix: null; end_of_word_suffix: null;
    fuse_unk: false; byte_fallback: false; ignore_merges: false;
    vocab: Record<string, number>; merges: [string, string][];
  };
}

/** Throws ERR_DATA when the texts are too few for the wanted vocabulary. */
export function trainByteBpe(texts: Iterable<string>, { vocabulary, locationBins }: TrainOptions): TokenizerFile {
  const reserved = reservedTokens(locationBins);
  const tokens = [...reserved, ...byteAlphabet];
  if (vocabulary < tokens.length) {
    throw new RuntimeError("ERR_DATA", `tokenizer: a vocabulary of ${vocabulary} is too small. Specials, ${locationBins} locations and 256 bytes need ${tokens.length}.`, { vocabulary });
  }
  const idOf = new Map(tokens.map((token, id) => [token, id]));
  const words = countPieces(texts).map(({ piece, count }) => ({ ids: toByteCharacters(piece).map((c) => idOf.get(c)!), count }));
  const merges: [string, string][] = [];
  const pairs = new PairCounts(words);
  while (tokens.length < vocabulary) {
    const best = pairs.best();
    if (!best) {
      throw new RuntimeError("ERR_DATA", `tokenizer: the texts hold only ${tokens.length} tokens' worth of repeated pairs, wanted ${vocabulary}. Give more text or ask for a smaller vocabulary.`, { vocabulary, possible: tokens.length });
    }
    const [left, right] = best;
    merges.push([tokens[left], tokens[right]]);
    // Two different pairs can spell the same token; its id is then the first one's, and the vocabulary does not grow.
    const written = tokens[left] + tokens[right];
    if (!idOf.has(written)) idOf.set(written, tokens.push(written) - 1);
    pairs.merge(left, right, idOf.get(written)!);
  }
  return {
    version: "1.0", truncation: null, padding: null,
    added_tokens: reserved.map((content, id) => ({ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true })),
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE", dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null,
      fuse_unk: false, byte_fallback: false, ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])), merges,
    },
  };
}

/** Sorted by the piece, so that the order of the texts does not matter. */
function countPieces(texts: Iterable<string>): { piece: string; count: number }[] {
  const counts = new Map<string, number>();
  for (const text of texts) for (const [piece] of text.matchAll(pieces)) counts.set(piece, (counts.get(piece) ?? 0) + 1);
  return [...counts].map(([piece, count]) => ({ piece, count })).sort((a, b) => (a.piece < b.piece ? -1 : 1));
}

interface CountedWord { ids: number[]; count: number }

/** How often each pair of neighbours occurs, kept up to date while pairs become tokens. */
class PairCounts {
  readonly #words: CountedWord[];
  readonly #counts = new Map<number, number>();
  /** Pair -> indices of words that may hold it (a superset: entries are not removed). */
  readonly #where = new Map<number, Set<number>>();

  constructor(words: CountedWord[]) {
    this.#words = words;
    words.forEach((_, i) => this.#add(i, 1));
  }

  /** The most frequent pair that occurs at least twice. */
  best(): [left: number, right: number] | undefined {
    let best = -1, bestCount = 1;
    for (const [pair, count] of this.#counts) {
      if (count > bestCount || (count === bestCount && best >= 0 && pair < best)) [best, bestCount] = [pair, count];
    }
    return best < 0 ? undefined : [Math.floor(best / span), best % span];
  }

  merge(left: number, right: number, id: number): void {
    for (const index of this.#where.get(left * span + right) ?? []) {
      const word = this.#words[index];
      this.#add(index, -1);
      word.ids = mergePair(word.ids, left, right, id);
      this.#add(index, 1);
    }
  }

  #add(index: number, sign: 1 | -1): void {
    const { ids, count } = this.#words[index];
    for (let i = 0; i + 1 < ids.length; i++) {
      const pair = ids[i] * span + ids[i + 1];
      const total = (this.#counts.get(pair) ?? 0) + sign * count;
      if (total > 0) this.#counts.set(pair, total);
      else this.#counts.delete(pair);
      if (sign > 0) {
        let where = this.#where.get(pair);
        if (!where) this.#where.set(pair, where = new Set());
        where.add(index);
      }
    }
  }
}

/** Ids stay below 2^20, so a pair is one number and smaller left ids sort first. */
const span = 2 ** 20;

function mergePair(ids: readonly number[], left: number, right: number, id: number): number[] {
  const merged: number[] = [];
  for (let i = 0; i < ids.length; i++) {
    if (ids[i] === left && ids[i + 1] === right) merged.push(id), i++;
    else merged.push(ids[i]);
  }
  return merged;
}

/** The plain encoder: within each piece, the earliest-learned merge first. What any reader of the file must reproduce. */
export function encodeByteBpe(text: string, file: TokenizerFile): number[] {
  const { vocab, merges } = file.model;
  const rank = new Map(merges.map(([a, b], i) => [`${a} ${b}`, i]));
  return [...text.matchAll(pieces)].flatMap(([piece]) => {
    let parts = toByteCharacters(piece);
    for (;;) {
      let best = -1, bestRank = Infinity;
      for (let i = 0; i + 1 < parts.length; i++) {
        const r = rank.get(`${parts[i]} ${parts[i + 1]}`) ?? Infinity;
        if (r < bestRank) [best, bestRank] = [i, r];
      }
      if (best < 0) return parts.map((part) => vocab[part]);
      parts = [...parts.slice(0, best), parts[best] + parts[best + 1], ...parts.slice(best + 2)];
    }
  });
}
