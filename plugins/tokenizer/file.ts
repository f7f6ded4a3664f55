/** A Hugging Face `tokenizer.json`, read with care, and what every tokenizer here does with words. */
import { readFileSync } from "node:fs";
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { RuntimeError } from "../../runtime/index.ts";

export interface TokenizerJson {
  added_tokens?: { id: number; content: string; special?: boolean }[];
  /** Ids by piece, or pieces with scores in the order of their ids (Unigram). */
  model?: { type?: string; vocab?: Record<string, number> | [string, number][] };
}

export const unreadable = (file: string, problem: string, expected: string, cause?: unknown): RuntimeError =>
  new RuntimeError("ERR_DATA", `${file}: ${problem}. Expected ${expected}.`, { file, problem }, { cause });

/** Throws ERR_DATA for a file that is missing or no JSON. */
export function readTokenizerJson(path: string, expected: string): TokenizerJson {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as TokenizerJson;
  } catch (cause) {
    throw unreadable(path, `cannot be read (${(cause as Error).message})`, expected, cause);
  }
}

const models = ["BPE", "WordPiece", "Unigram"];

/** Text to ids and back by the model of a file alone: without its added tokens no text is taken for a special one. Throws ERR_DATA for a model that is not known. */
export function plainModel(path: string, json: TokenizerJson, expected: string): { encode(text: string): number[]; decode(ids: number[]): string } {
  const type = json.model?.type;
  if (type !== undefined && !models.includes(type)) throw unreadable(path, `not a tokenizer this reader knows (a model of type ${type})`, `a model of type ${models.join(", ")}`);
  let plain: HuggingFaceTokenizer;
  try {
    plain = new HuggingFaceTokenizer({ ...json, added_tokens: [] }, {});
  } catch (cause) {
    throw unreadable(path, `not a tokenizer this reader knows (${(cause as Error).message})`, expected, cause);
  }
  return {
    encode: (text) => plain.encode(text, { add_special_tokens: false }).ids,
    decode: (ids) => (ids.length === 0 ? "" : plain.decode(ids, { skip_special_tokens: false, clean_up_tokenization_spaces: false })),
  };
}

/** Words one by one, each as it stands in running text; `space`: what `encode` wants before a word to see it so. */
export function wordEncoder(encode: (text: string) => number[], space: string): (words: string[]) => { ids: number[]; wordIndex: number[] } {
  const known = new Map<string, number[]>();
  return (words) => {
    const ids: number[] = [], wordIndex: number[] = [];
    words.forEach((word, index) => {
      let found = known.get(word);
      if (!found) known.set(word, found = encode(space + word));
      for (const id of found) ids.push(id), wordIndex.push(index);
      if (known.size > 65536) known.clear();
    });
    return { ids, wordIndex };
  };
}
