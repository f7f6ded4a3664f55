/**
 * Batches by what their pages cost together: patches and tokens, padding included, for a microbatch is padded to its longest page.
 *
 * CO-1: a microbatch of n pages costs n times (patches + its longest text + its longest question and answer).
 * CO-2: among the cuts of a batch into contiguous microbatches of at least one page, `cutByCost` gives one whose most expensive costs least.
 * CO-3: with a cap a step takes the next pages in drawing order, as many as `batch` and the cap allow. Where it begins follows from the
 *       steps before it alone, so that a step is a function of (seed, step) still.
 */

/** What one page brings to a microbatch: its sequences' tokens (text; of a question also prompt and answer), each padded on its own. */
export interface PageCost { tokens: readonly number[] }

/** [from, to) of each of `parts` microbatches (CO-2), and what the most expensive of them costs. Infinity when there are fewer pages than parts. */
export function cutByCost(pages: readonly PageCost[], patches: number, parts: number): { cuts: [from: number, to: number][]; most: number } {
  const best = [Array.from({ length: pages.length + 1 }, (_, n) => ({ most: n === 0 ? 0 : Infinity, from: 0 }))];
  for (let k = 1; k <= parts; k++) {
    best[k] = Array.from({ length: pages.length + 1 }, (_, to) => {
      let found = { most: Infinity, from: 0 };
      const longest = pages[0]?.tokens.map(() => 0) ?? [];
      for (let from = to - 1; from >= k - 1; from--) {
        pages[from].tokens.forEach((tokens, kind) => { longest[kind] = Math.max(longest[kind], tokens); });
        const cost = (to - from) * longest.reduce((sum, tokens) => sum + tokens, patches), most = Math.max(best[k - 1][from].most, cost);
        if (most < found.most) found = { most, from };
      }
      return found;
    });
  }
  const cuts: [number, number][] = [];
  for (let k = parts, to = pages.length; k > 0; k--) {
    const { from } = best[k][to];
    cuts.unshift([from, to]);
    to = from;
  }
  return { cuts, most: best[parts][pages.length].most };
}

/** Where steps begin, in draws, when a cap decides how many pages each takes (CO-3). One run's settings. */
export class CappedSteps {
  readonly #starts = [0];

  /** `fits`: may these draws be this step? One page per microbatch always may. */
  constructor(private readonly o: { batch: number; microbatches: number; fits(step: number, from: number, to: number): boolean }) {}

  /** The draws of a step: [from, to). */
  draws(step: number): [from: number, to: number] {
    while (this.#starts.length <= step + 1) {
      const from = this.#starts[this.#starts.length - 1], { batch, microbatches, fits } = this.o;
      let to = from + batch;
      while (to > from + microbatches && !fits(this.#starts.length - 1, from, to)) to--;
      this.#starts.push(to);
    }
    return [this.#starts[step], this.#starts[step + 1]];
  }
}
