/**
 * Reads a Hugging Face `tokenizer.json` of the byte-level BPE family.
 *
 * BB-1: text never becomes a special token, whatever it says: "<eos>" on a page is five characters.
 * BB-2: decode(encode(text)) is text, exactly. Specials and locations decode to nothing.
 * BB-3: words are encoded with the space before them, so that a word has the same ids on a page and in an answer.
 */
import { readFileSync } from "node:fs";
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { z } from "zod";
import { definePlugin, RuntimeError, type Tokenizer } from "../../runtime/index.ts";
import { locationBase, reservedTokens, specialIds } from "./reserved.ts";

export const byteBpe = definePlugin({
  kind: "tokenizer", name: "byte-bpe", version: "1.0.0",
  about: "Byte-level BPE from a Hugging Face tokenizer.json. Source: Sennrich et al. 2016; Radford et al. 2019.",
  options: z.strictObject({ file: z.string() }),
  create: ({ file }, host) => readByteBpe(host.resolvePath(file)),
});

/** Throws ERR_DATA when the file is missing, broken or does not have this project's reserved ids. */
export function readByteBpe(path: string): Tokenizer {
  const refuse = (problem: string, cause?: unknown) => new RuntimeError("ERR_DATA", `${path}: ${problem}. Expected a tokenizer.json as examples/convert writes it.`, { file: path, problem }, { cause });
  let json: { added_tokens?: { id: number; content: string }[]; model?: { vocab?: Record<string, number> } };
  try {
    json = JSON.parse(readFileSync(path, "utf8"));
  } catch (cause) {
    throw refuse(`cannot be read (${(cause as Error).message})`, cause);
  }
  const added = new Map(json.added_tokens?.map(({ id, content }) => [id, content]));
  const locationBins = [...added.values()].filter((content) => /^<loc_\d+>$/.test(content)).length;
  const wrong = reservedTokens(locationBins).findIndex((content, id) => added.get(id) !== content);
  if (wrong >= 0 || locationBins === 0) throw refuse(`reserved id ${Math.max(wrong, 0)} is ${added.get(Math.max(wrong, 0)) ?? "missing"}, expected ${reservedTokens(Math.max(1, locationBins))[Math.max(wrong, 0)]}`);
  const vocabulary = Math.max(...Object.values(json.model?.vocab ?? {}), ...added.keys()) + 1;
  let plain: HuggingFaceTokenizer;
  try {
    // Without its added tokens the reader cannot take page text for a special token (BB-1).
    plain = new HuggingFaceTokenizer({ ...json, added_tokens: [] }, {});
  } catch (cause) {
    throw refuse(`not a tokenizer this reader knows (${(cause as Error).message})`, cause);
  }
  const firstText = locationBase + locationBins;
  const known = new Map<string, number[]>();
  const encode = (text: string) => plain.encode(text, { add_special_tokens: false }).ids;
  return {
    vocabulary, file: path, locationBins, locationBase, special: specialIds, encode,
    decode(ids) {
      const text = [...ids].filter((id) => id >= firstText && id < vocabulary);
      return text.length === 0 ? "" : plain.decode(text, { skip_special_tokens: false, clean_up_tokenization_spaces: false });
    },
    encodeWords(words) {
      const ids: number[] = [], wordIndex: number[] = [];
      words.forEach((word, index) => {
        let found = known.get(word);
        if (!found) known.set(word, found = encode(` ${word}`));
        for (const id of found) ids.push(id), wordIndex.push(index);
        if (known.size > 65536) known.clear();
      });
      return { ids, wordIndex };
    },
  };
}
