/**
 * Reads a Hugging Face `tokenizer.json` of the byte-level BPE family.
 *
 * BB-1: text never becomes a special token, whatever it says: "<eos>" on a page is five characters.
 * BB-2: decode(encode(text)) is text, exactly. Specials and locations decode to nothing.
 * BB-3: words are encoded with the space before them, so that a word has the same ids on a page and in an answer.
 */
import { z } from "zod";
import { definePlugin, type Tokenizer } from "../../runtime/index.ts";
import { plainModel, readTokenizerJson, unreadable, wordEncoder } from "./file.ts";
import { locationBase, reservedTokens, specialIds } from "./reserved.ts";

export const byteBpe = definePlugin({
  kind: "tokenizer", name: "byte-bpe", version: "1.0.0",
  about: "Byte-level BPE from a Hugging Face tokenizer.json. Source: Sennrich et al. 2016; Radford et al. 2019.",
  options: z.strictObject({ file: z.string() }),
  create: ({ file }, host) => readByteBpe(host.resolvePath(file)),
});

/** Throws ERR_DATA when the file is missing, broken or does not have this project's reserved ids. */
export function readByteBpe(path: string): Tokenizer {
  const expected = "a tokenizer.json as examples/convert writes it", json = readTokenizerJson(path, expected);
  const added = new Map(json.added_tokens?.map(({ id, content }) => [id, content]));
  const locationBins = [...added.values()].filter((content) => /^<loc_\d+>$/.test(content)).length;
  const wrong = reservedTokens(locationBins).findIndex((content, id) => added.get(id) !== content);
  if (wrong >= 0 || locationBins === 0) {
    const id = Math.max(wrong, 0);
    throw unreadable(path, `reserved id ${id} is ${added.get(id) ?? "missing"}, expected ${reservedTokens(Math.max(1, locationBins))[id]}`, expected);
  }
  const vocabulary = Math.max(...Object.values(json.model?.vocab ?? {}) as number[], ...added.keys()) + 1;
  const { encode, decode } = plainModel(path, json, expected); // BB-1
  const firstText = locationBase + locationBins;
  return {
    vocabulary, file: path, locationBins, locationBase, special: specialIds, encode,
    decode: (ids) => decode([...ids].filter((id) => id >= firstText && id < vocabulary)),
    encodeWords: wordEncoder(encode, " "), // BB-3
  };
}
