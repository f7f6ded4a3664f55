/** Pages into batches. Reading order: `frame.ts`, `page-record.ts`, `tar.ts`, `masking.ts`, `shards.ts`. */
import type { Plugin } from "../../runtime/index.ts";

export { rounded, splitWords, toFrame, toUnit } from "./frame.ts";
export { readPdfPage } from "./pdf.ts";
export { imageSize } from "./pixels.ts";

export const dataLoaders: Plugin[] = [];
