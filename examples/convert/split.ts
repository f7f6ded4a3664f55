/**
 * Train and held-out pages never share a document: whole groups are dealt, in the order of a hash of their name,
 * so that the split depends on nothing but the names.
 */
import { createHash } from "node:crypto";
import type { SourcePage } from "./page.ts";

export interface SplitPages { train: SourcePage[]; "held-out": SourcePage[] }

export function splitByDocument(pages: readonly SourcePage[], heldOutPages: number): SplitPages {
  const order = (group: string) => createHash("sha256").update(group).digest("hex");
  const groups = [...new Set(pages.map((page) => page.group))].sort((a, b) => (order(a) < order(b) ? -1 : 1));
  const heldOut = new Set<string>();
  let count = 0;
  for (const group of groups) {
    const size = pages.filter((page) => page.group === group).length;
    if (count + size > heldOutPages) continue;
    heldOut.add(group);
    count += size;
  }
  return {
    train: pages.filter((page) => !heldOut.has(page.group)),
    "held-out": pages.filter((page) => heldOut.has(page.group)),
  };
}
