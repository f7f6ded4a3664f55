import type { Tokenizer } from "../plugin/index.ts";
import { isLocationId } from "./answer-grammar.ts";

/**
 * The words of an answer as its tokens come: `add` gives what a token adds. A token may end inside a character, so the text of an item is
 * decoded as a whole and its growth is told. Items are told with a space between them.
 */
export class GrowingText {
  #ids: number[] = [];
  #said = 0;
  #spoke = false;

  constructor(private readonly tokenizer: Tokenizer) {}

  add(id: number): string {
    const { special } = this.tokenizer;
    if (id === special.item || id === special.kv || id === special.box) {
      this.#ids = [], this.#said = 0;
      return "";
    }
    if (id === special.boxEnd || id === special.none || isLocationId(this.tokenizer, id)) return "";
    this.#ids.push(id);
    const text = this.tokenizer.decode(this.#ids).trimStart().replace(/\uFFFD+$/u, "");
    const more = text.slice(this.#said);
    const gap = this.#said === 0 && this.#spoke && more !== "" ? " " : "";
    this.#said = Math.max(this.#said, text.length);
    this.#spoke ||= more !== "";
    return gap + more;
  }
}
