/**
 * The text of pages as language models read it.
 *
 * T-1: windows hold exactly `length` tokens of pages joined by `<eos>`, in the order of the pages, nothing twice and no padding; what is left
 *      at the end is too short and left out.
 * T-2: a sentence is a line of a page, `<bos> line <eos>`; of like ones the first is kept, since a text must not be its own opposite.
 * T-3: what is hidden for next-token prediction is no special token and never a window's first.
 */
import type { PageRecord, Philox, Tokenizer } from "../../runtime/index.ts";

/** Tokens of the page's words, without specials. */
const wordsOf = (page: PageRecord, tokenizer: Tokenizer): number[] => tokenizer.encodeWords(page.words.map((word) => word.text)).ids;

export interface Window { key: string; ids: number[] }

/** A window's key names the page it begins in. */
export function packedWindows(pages: readonly { key: string; page: PageRecord }[], tokenizer: Tokenizer, length: number): { windows: Window[]; left: number } {
  const windows: Window[] = [];
  let ids: number[] = [], key = "";
  for (const { key: pageKey, page } of pages) {
    const tokens = [...wordsOf(page, tokenizer), tokenizer.special.eos];
    for (let from = 0; from < tokens.length;) {
      if (ids.length === 0) key = from === 0 ? pageKey : `${pageKey}+${from}`;
      const taken = tokens.slice(from, from + length - ids.length);
      ids.push(...taken);
      from += taken.length;
      if (ids.length < length) continue;
      windows.push({ key, ids });
      ids = [];
    }
  }
  return { windows, left: ids.length };
}

/** Lines with two tokens or more, cut to `longest`. */
export function sentences(pages: readonly { key: string; page: PageRecord }[], tokenizer: Tokenizer, longest: number): { sentences: Window[]; repeated: number; cut: number } {
  const seen = new Set<string>(), found: Window[] = [];
  let repeated = 0, cut = 0;
  for (const { key, page } of pages) {
    linesOf(page).forEach((line, i) => {
      const tokens = tokenizer.encodeWords(line.split(/\s+/u).filter(Boolean)).ids;
      if (tokens.length < 2) return;
      const kept = tokens.slice(0, longest - 2), name = kept.join();
      if (seen.has(name)) return void repeated++;
      seen.add(name);
      cut += Number(kept.length < tokens.length);
      found.push({ key: `${key}#${i}`, ids: [tokenizer.special.bos, ...kept, tokenizer.special.eos] });
    });
  }
  return { sentences: found, repeated, cut };
}

/** A page's lines; where its record has none, the words that share a line number; else all its words as one. */
function linesOf(page: PageRecord): string[] {
  if (page.lines.length > 0) return page.lines.map((line) => line.text);
  const byLine = new Map<number, string[]>();
  for (const { text, line = 0 } of page.words) byLine.set(line, [...(byLine.get(line) ?? []), text]);
  return [...byLine.values()].map((words) => words.join(" "));
}

/** One byte per position, 1 where a token is hidden: each ordinary token behind the first by its own draw. Source: BehnamGhader et al. 2024. */
export function tokenMask(random: Philox, ids: readonly number[], { share, isText }: { share: number; isText(id: number): boolean }): Uint8Array {
  return Uint8Array.from(ids, (id, i) => (i > 0 && isText(id) ? Number(random.uniform() < share) : 0));
}
