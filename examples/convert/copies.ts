/** Pages with nearly the same text are copies of one document, whatever they are called: a receipt scanned twice, a page of two PDFs. */
import type { SourcePage } from "./page.ts";

/** Share of common lines. Found by looking at the receipts: copies share 0.82 and more, different receipts of one shop 0.79 and less. */
const sameDocument = 0.8;

/** Gives every copy the group of the first page it copies. Pages without words have no copies. */
export function groupCopies(pages: SourcePage[]): void {
  const lineSets = pages.map((page) => new Set(page.record.lines.map((line) => line.text.toUpperCase().replace(/[^A-Z0-9]/g, "")).filter((text) => text.length > 1)));
  pages.forEach((page, i) => {
    const original = pages.slice(0, i).findIndex((other, j) => other.group !== page.group && jaccard(lineSets[i], lineSets[j]) >= sameDocument);
    if (original < 0) return;
    const { group } = page;
    for (const other of pages) if (other.group === group) other.group = pages[original].group;
  });
}

function jaccard(a: Set<string>, b: Set<string>): number {
  const common = [...a].filter((text) => b.has(text)).length;
  return common / (a.size + b.size - common || 1);
}
