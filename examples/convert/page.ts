/** A page on its way into a shard. */
import sharp from "sharp";
import type { PageRecord } from "../../runtime/index.ts";

export interface SourcePage {
  /** Name in the shard; no dots. */
  key: string;
  record: PageRecord;
  image: Uint8Array;
  /** Pages with the same group are one document, and go to one side of the split. */
  group: string;
}

export interface ShrinkOptions { side: number; quality: number }

/** Greyscale JPEG, longest side at most `side`: small enough to commit, large enough to draw boxes on and read. */
export function shrink(image: Uint8Array, { side, quality }: ShrinkOptions): Promise<Buffer> {
  return sharp(image).flatten({ background: "#ffffff" }).toColourspace("b-w")
    .resize({ width: side, height: side, fit: "inside", withoutEnlargement: true })
    .jpeg({ quality, mozjpeg: true }).toBuffer();
}
