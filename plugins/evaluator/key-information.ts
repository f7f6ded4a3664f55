/**
 * Key information, exact: a field counts when its string equals the truth, case and spaces included. Micro over all fields.
 * A missing or empty prediction counts against recall only. Source: ICDAR 2019 SROIE, task 3.
 */
export class KeyInformation {
  readonly #counts = new Map<string, { correct: number; predicted: number; truth: number }>();

  /** Either side may be missing or empty. */
  add(field: string, predicted: string | undefined, truth: string | undefined): void {
    const counts = this.#counts.get(field) ?? { correct: 0, predicted: 0, truth: 0 };
    if (predicted) counts.predicted++;
    if (truth) counts.truth++;
    if (predicted && predicted === truth) counts.correct++;
    this.#counts.set(field, counts);
  }

  field(name: string): { precision: number; recall: number; f1: number } {
    return rates([this.#counts.get(name)].filter((counts) => counts !== undefined));
  }

  micro(): { precision: number; recall: number; f1: number } {
    return rates([...this.#counts.values()]);
  }
}

/** An average over nothing is 0. */
function rates(counts: readonly { correct: number; predicted: number; truth: number }[]): { precision: number; recall: number; f1: number } {
  const sum = (of: "correct" | "predicted" | "truth") => counts.reduce((total, c) => total + c[of], 0);
  const share = (part: number, whole: number) => (whole > 0 ? part / whole : 0);
  const precision = share(sum("correct"), sum("predicted")), recall = share(sum("correct"), sum("truth"));
  return { precision, recall, f1: share(2 * precision * recall, precision + recall) };
}
