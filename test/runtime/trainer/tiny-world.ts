/** A vocabulary one can enumerate and a decoder without weights: its logits are a number for every (page, tokens so far). */
import { type DecoderState, type GenerativeDecoder, type Tokenizer, fromArray } from "../../../runtime/index.ts";
import { fnv1a32, Philox } from "../../../runtime/tensor/philox.ts";

const names = ["pad", "bos", "eos", "unk", "mask", "sep", "ans", "box", "boxEnd", "none", "item", "kv"] as const;

/** Ids 16 and 17 are places, 18 to 20 the words a, b and c. */
export const tinyTokenizer: Tokenizer = {
  vocabulary: 21, locationBins: 2, locationBase: 16,
  special: Object.fromEntries(names.map((name, id) => [name, id])) as Tokenizer["special"],
  encode: (text) => [...text].flatMap((c) => (/[abc]/.test(c) ? [18 + "abc".indexOf(c)] : [])),
  decode: (ids) => Array.from(ids, (id) => "abc"[id - 18] ?? "").join(""),
  encodeWords: (words) => ({ ids: words.flatMap((word) => tinyTokenizer.encode(word)), wordIndex: words.flatMap((word, i) => [...word].map(() => i)) }),
};
export const { special } = tinyTokenizer;
export const [a, b, c] = [18, 19, 20];

export type LogitsOf = (page: number, history: readonly number[]) => number[];

/** Logits between -3 and 3, different for every page and history. */
export const randomLogits = (seed: number): LogitsOf => (page, history) => {
  const draw = new Philox(seed, fnv1a32(`${page}: ${history.join(",")}`));
  return Array.from({ length: tinyTokenizer.vocabulary }, () => Math.fround(draw.uniform(-3, 3)));
};

interface State { rows: { page: number; history: number[] }[]; open: boolean }

/** `open()`: states that nobody has ended; `rows`: how many rows each step had. */
export function tableDecoder(pages: number, logitsOf: LogitsOf): { decoder: GenerativeDecoder; state: DecoderState; ids: Int32Array; open(): number; rows: number[] } {
  const states: State[] = [], rows: number[] = [];
  const made = (state: State): State => (states.push(state), state);
  const decoder: GenerativeDecoder = {
    parameters: () => ({}),
    forward: () => { throw new Error("generation uses begin and next"); },
    begin: () => made({ open: true, rows: Array.from({ length: pages }, (_, page) => ({ page, history: [] })) }),
    next(opaque, ids) {
      const state = opaque as State, length = ids.length / state.rows.length;
      if (!state.open) throw new Error("this state was ended");
      rows.push(state.rows.length);
      state.rows.forEach(({ history }, row) => history.push(...[...ids.subarray(row * length, (row + 1) * length)].filter((id) => id > special.ans || id === special.eos)));
      return fromArray(Float32Array.from(state.rows.flatMap(({ page, history }) => logitsOf(page, history))), [state.rows.length, tinyTokenizer.vocabulary]);
    },
    branch: (opaque, wanted) => made({ open: true, rows: wanted.map((row) => ({ ...(opaque as State).rows[row], history: [...(opaque as State).rows[row].history] })) }),
    end: (opaque) => { (opaque as State).open = false; },
  };
  return { decoder, state: decoder.begin({}, {} as never), ids: new Int32Array(pages).fill(special.bos), open: () => states.filter(({ open }) => open).length, rows };
}
