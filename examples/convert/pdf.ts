/** PDFs with a text layer: one page record per page, words from the text layer, pixels rendered. */
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { readPdfPage } from "../../plugins/data-loader/index.ts";
import { groupCopies } from "./copies.ts";
import type { SourcePage } from "./page.ts";

export async function readPdfs(files: readonly string[], licence: string): Promise<SourcePage[]> {
  const pages: SourcePage[] = [];
  for (const file of files) {
    const bytes = readFileSync(file);
    const document = documentName(file);
    for (let number = 0, count = 1; number < count; number++) {
      const { image, ...record } = await readPdfPage(bytes, { file: basename(file) }, number);
      count = record.meta.pages as number;
      pages.push({ key: `${document}_${number}`, group: document, image: image!, record: { ...record, docId: document, meta: { ...record.meta, licence } } });
    }
  }
  groupCopies(pages);
  return pages;
}

/** A key must not hold dots: the first one ends it. */
export function documentName(file: string): string {
  return basename(file).replace(/\.pdf$/i, "").replaceAll(".", "-");
}
