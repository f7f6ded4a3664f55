/**
 * The tokenizer of a released model: any `tokenizer.json` (Llama-3, Mistral, BERT WordPiece). This project's reserved tokens, 16 specials and the
 * locations, come behind its vocabulary; a file that has them already keeps them where they stand.
 *
 * HF-1: text never becomes a special or reserved token, whatever it says; those decode to nothing.
 * HF-2: words have the ids they have in running text.
 * HF-3: ids of the released vocabulary stay as they are, so released tables fit; the table grows by 16 + `location_bins` rows (an import gives
 *       them the mean of the others).
 * `append: false` is for prompts alone: the released vocabulary as it is, `[CLS]` and `[SEP]` (or their like) around a text.
 */
import { z } from "zod";
import { definePlugin, specialTokens, type SpecialToken, type Tokenizer } from "../../runtime/index.ts";
import { plainModel, readTokenizerJson, unreadable, wordEncoder, type TokenizerJson } from "./file.ts";
import { locationBase, reservedTokens, specialIds } from "./reserved.ts";

export const huggingFace = definePlugin({
  kind: "tokenizer", name: "hugging-face", version: "1.0.0",
  about: "A released model's tokenizer.json (byte-level BPE, SentencePiece BPE, WordPiece), with this project's tokens behind its own.",
  options: z.strictObject({ file: z.string(), location_bins: z.int().positive().default(1024), append: z.boolean().default(true) }),
  create: ({ file, location_bins, append }, host) => readHuggingFace(host.resolvePath(file), { locationBins: location_bins, append }),
});

const expected = "a tokenizer.json as Hugging Face writes it";

/** Throws ERR_DATA when the file is missing, broken, of an unknown kind, or has reserved tokens in another order. */
export function readHuggingFace(path: string, { locationBins, append }: { locationBins: number; append: boolean }): Tokenizer {
  const json = readTokenizerJson(path, expected), { encode, decode } = plainModel(path, json, expected);
  const vocab = vocabularyOf(json), added = json.added_tokens ?? [];
  if (vocab.size === 0) throw unreadable(path, "its model has no vocabulary", expected);
  const size = Math.max(...vocab.values(), ...added.map(({ id }) => id)) + 1;
  const places = append ? reservedIn(path, added) ?? { base: size, bins: locationBins, vocabulary: size + locationBase + locationBins } : { base: size, bins: 0, vocabulary: size };
  const special = append ? shifted(places.base) : ownSpecials(path, new Map([...vocab, ...added.map(({ id, content }) => [content, id] as const)]));
  const never = new Set(added.filter(({ id, special }) => special || (append && id >= places.base && id < places.base + locationBase + places.bins)).map(({ id }) => id));
  const text = ranges([...new Set(vocab.values())].filter((id) => !never.has(id)));
  const isText = (id: number): boolean => text.some(([from, to]) => id >= from && id < to);
  return {
    vocabulary: places.vocabulary, file: path, locationBins: places.bins, locationBase: places.base + (append ? locationBase : 0), special, textIds: text, encode,
    decode: (ids) => decode([...ids].filter(isText)),
    encodeWords: wordEncoder(encode, spaceBefore(encode)),
  };
}

function vocabularyOf({ model }: TokenizerJson): Map<string, number> {
  const vocab = model?.vocab ?? {};
  return new Map(Array.isArray(vocab) ? vocab.map(([piece], id) => [piece, id]) : Object.entries(vocab));
}

/** Where a file has this project's reserved tokens, undefined where it has none. */
function reservedIn(path: string, added: NonNullable<TokenizerJson["added_tokens"]>): { base: number; bins: number; vocabulary: number } | undefined {
  const byName = new Map(added.map(({ id, content }) => [content, id])), bins = added.filter(({ content }) => /^<loc_\d+>$/.test(content)).length;
  if (bins === 0) return undefined;
  const names = reservedTokens(bins), base = byName.get(names[0]) ?? NaN;
  const wrong = names.findIndex((name, i) => byName.get(name) !== base + i);
  if (wrong >= 0) throw unreadable(path, `its reserved token ${names[wrong]} has id ${byName.get(names[wrong]) ?? "none"}, not ${Number.isNaN(base) ? "one behind <pad>'s" : base + wrong}`, "16 specials and the locations in their order, or none of them");
  return { base, bins, vocabulary: Math.max(...byName.values()) + 1 };
}

const shifted = (base: number): Tokenizer["special"] => Object.fromEntries(Object.entries(specialIds).map(([token, id]) => [token, base + id])) as Tokenizer["special"];

/** How released models write what a prompt needs. */
const written: Partial<Record<SpecialToken, readonly string[]>> = {
  bos: ["[CLS]", "<s>", "<|begin_of_text|>", "<bos>"], eos: ["[SEP]", "</s>", "<|end_of_text|>", "<eos>"], sep: ["[SEP]", "</s>", "<|end_of_text|>", "<sep>"],
  pad: ["[PAD]", "<pad>", "</s>", "<|end_of_text|>"], unk: ["[UNK]", "<unk>"], mask: ["[MASK]", "<mask>"],
};

/** -1 for what the model has no token for. */
function ownSpecials(path: string, ids: ReadonlyMap<string, number>): Tokenizer["special"] {
  const found = Object.fromEntries(specialTokens.map((token) => [token, written[token]?.map((name) => ids.get(name)).find((id) => id !== undefined) ?? -1])) as Tokenizer["special"];
  const missing = (["bos", "sep", "pad"] as const).find((token) => found[token] < 0);
  if (missing) throw unreadable(path, `it has no token for ${missing} (${written[missing]!.join(", ")})`, "a vocabulary whose own tokens open and close a prompt, or append: true");
  return found;
}

/** What stands before a word so that it has the ids of running text: byte-level models want the space, SentencePiece puts its own (HF-2). */
function spaceBefore(encode: (text: string) => number[]): string {
  const first = encode("a"), rest = encode("a a").slice(first.length).join();
  return encode(" a").join() === rest ? " " : "";
}

function ranges(ids: number[]): [number, number][] {
  const found: [number, number][] = [];
  for (const id of ids.sort((a, b) => a - b)) {
    if (found.at(-1)?.[1] === id) found.at(-1)![1]++;
    else found.push([id, id + 1]);
  }
  return found;
}
