/** Pages into batches. Reading order: `frame.ts`, `page-record.ts`, `tar.ts`, `corpus.ts`, `tokens.ts`, `masking.ts`, `collate.ts`, `shards.ts`;
 *  without images `sequences.ts`, `text.ts`. */
import type { Plugin } from "../../runtime/index.ts";
import { shards } from "./shards.ts";
import { text } from "./text.ts";

export { drawBoxes, writePageWithBoxes, type DrawOptions } from "./draw.ts";
export { rounded, splitWords, toFrame, toUnit } from "./frame.ts";
export { readPage } from "./page-file.ts";
export { readPdfPage } from "./pdf.ts";
export { imageSize } from "./pixels.ts";

export const dataLoaders: Plugin[] = [shards, text];
