/**
 * Encoded image -> the square of pixels that a model sees. Any format sharp reads; transparency becomes white paper.
 * The page is stretched, not letterboxed, as its boxes are.
 */
import sharp from "sharp";
import { dataError, type Place } from "./page-record.ts";

/** Mean and standard deviation of each channel, as the encoders were made for (ImageNet). */
const mean = [0.485, 0.456, 0.406];
const std = [0.229, 0.224, 0.225];
/** A page has 100 megapixels at most; anything larger is a decompression bomb. */
const limitInputPixels = 100_000_000;

/** Byte value -> normalised value, per channel: 768 numbers instead of a division per pixel. */
const normalised = Float32Array.from({ length: 3 * 256 }, (_, i) => ((i % 256) / 255 - mean[i >> 8]) / std[i >> 8]);

/** side * side * 3 bytes, interleaved RGB. Throws ERR_DATA. */
export async function decodePixels(image: Uint8Array, side: number, at: Place): Promise<Uint8Array> {
  try {
    const { data, info } = await sharp(image, { limitInputPixels })
      .flatten({ background: "#ffffff" }).toColourspace("srgb").removeAlpha()
      .resize(side, side, { fit: "fill", kernel: "cubic" }).raw().toBuffer({ resolveWithObject: true });
    if (info.channels === 3) return data;
    const rgb = new Uint8Array(side * side * 3);
    for (let i = 0; i < side * side; i++) rgb.fill(data[i * info.channels], 3 * i, 3 * i + 3);
    return rgb;
  } catch (cause) {
    throw dataError(at, `not a readable image (${(cause as Error).message.split("\n")[0]})`, "Expected JPEG, PNG, TIFF or WebP with at least one pixel.", cause);
  }
}

/** Width and height without decoding. Throws ERR_DATA. */
export async function imageSize(image: Uint8Array, at: Place): Promise<[width: number, height: number]> {
  try {
    const { width, height } = await sharp(image, { limitInputPixels }).metadata();
    return [width, height];
  } catch (cause) {
    throw dataError(at, `not a readable image (${(cause as Error).message.split("\n")[0]})`, "Expected JPEG, PNG, TIFF or WebP with at least one pixel.", cause);
  }
}

/** Interleaved RGB bytes -> planes of normalised floats, (3, side, side), written at `offset`. */
export function normalise(rgb: Uint8Array, side: number, out: Float32Array, offset: number): void {
  const plane = side * side;
  for (let i = 0; i < plane; i++) {
    for (let c = 0; c < 3; c++) out[offset + c * plane + i] = normalised[256 * c + rgb[3 * i + c]];
  }
}
