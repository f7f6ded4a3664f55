/**
 * Where on the page an entity stands: the words whose letters and digits, run together, spell it.
 *
 * E-1: A-Z and 0-9 count, nothing else (spaces, punctuation and case differ between scan and truth); for totals a leading RM or MYR does not count.
 * E-2: fields are searched in the order company, date, address, total; words belong to one field only.
 * E-3: the first run that fits is taken, for the total the last (it stands below the items).
 * An entity whose words were read differently has no evidence.
 */
import type { Word } from "../../runtime/index.ts";

export const receiptFields = ["company", "date", "address", "total"] as const;
export type ReceiptField = (typeof receiptFields)[number];

/** Half-open range of word indices. */
export type WordRun = readonly [from: number, to: number];

export function findEvidence(words: readonly Pick<Word, "text">[], entities: Partial<Record<string, string>>): Map<ReceiptField, WordRun> {
  const found = new Map<ReceiptField, WordRun>();
  const taken = new Array<boolean>(words.length).fill(false);
  const cleaned = words.map((word) => clean(word.text));
  for (const field of receiptFields) {
    const target = clean(entities[field] ?? "");
    if (target === "") continue;
    const runs = allRuns(cleaned, target, taken, field === "total");
    const run = field === "total" ? runs.at(-1) : runs[0];
    if (!run) continue;
    found.set(field, run);
    taken.fill(true, run[0], run[1]);
  }
  return found;
}

function clean(text: string): string {
  return text.toUpperCase().replace(/[^A-Z0-9]/g, "");
}

function allRuns(cleaned: readonly string[], target: string, taken: readonly boolean[], currency: boolean): WordRun[] {
  const runs: WordRun[] = [];
  for (let from = 0; from < cleaned.length; from++) {
    if (cleaned[from] === "") continue;
    const first = currency ? cleaned[from].replace(/^(RM|MYR)(?=\d)/, "") : cleaned[from];
    let written = "";
    for (let to = from; to < cleaned.length && !taken[to]; to++) {
      written += to === from ? first : cleaned[to];
      if (written === target) { runs.push([from, to + 1]); break; }
      if (!target.startsWith(written)) break;
    }
  }
  return runs;
}
