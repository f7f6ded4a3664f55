/** The page with boxes drawn on it, as PNG. */
import { writeFile } from "node:fs/promises";
import sharp from "sharp";
import type { Box } from "../../runtime/index.ts";
import { pageSide } from "./frame.ts";
import { dataError } from "./page-record.ts";

export interface DrawOptions {
  /** `#rrggbb` of the frames. */
  colour?: string;
  /** Small pages are enlarged to this longest side. */
  smallest?: number;
}

/** PNG bytes: the image in colour, each box (in [0, 1024]) framed and lightly filled. Throws ERR_DATA for an unreadable image. */
export async function drawBoxes(image: Uint8Array, boxes: readonly Box[], { colour = "#d81b60", smallest = 800 }: DrawOptions = {}): Promise<Buffer> {
  try {
    const { width: w, height: h } = await sharp(image).metadata();
    const scale = Math.max(1, smallest / Math.max(w, h));
    const [width, height] = [Math.round(w * scale), Math.round(h * scale)];
    const line = Math.max(2, Math.round(Math.max(width, height) / 300));
    const frames = boxes.map(([x0, y0, x1, y1]) => {
      const [x, y] = [(x0 / pageSide) * width, (y0 / pageSide) * height];
      // A box of no width still shows: it is framed from outside.
      const [bw, bh] = [((x1 - x0) / pageSide) * width, ((y1 - y0) / pageSide) * height];
      return `<rect x="${x - line}" y="${y - line}" width="${bw + 2 * line}" height="${bh + 2 * line}" fill="${colour}" fill-opacity="0.15" stroke="${colour}" stroke-width="${line}"/>`;
    });
    const overlay = Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">${frames.join("")}</svg>`);
    return await sharp(image).flatten({ background: "#ffffff" }).resize(width, height, { fit: "fill" }).toColourspace("srgb")
      .composite([{ input: overlay }]).removeAlpha().png({ compressionLevel: 9 }).toBuffer();
  } catch (cause) {
    throw dataError({ file: "image" }, `cannot be drawn on (${(cause as Error).message.split("\n")[0]})`, "Expected JPEG, PNG, TIFF or WebP.", cause);
  }
}

export async function writePageWithBoxes(path: string, image: Uint8Array, boxes: readonly Box[], options?: DrawOptions): Promise<void> {
  await writeFile(path, await drawBoxes(image, boxes, options));
}
