/**
 * One page from a file that a user names: an image with its words beside it (`receipt.jpg` + `receipt.json`), or a PDF.
 * `manual.pdf#page=3` is its third page; without it, the first.
 */
import { readFile } from "node:fs/promises";
import { basename, extname } from "node:path";
import type { PageRecord } from "../../runtime/index.ts";
import { dataError, readRecord, type Place } from "./page-record.ts";
import { imageSize } from "./pixels.ts";
import { readPdfPage } from "./pdf.ts";

/** The record carries the encoded image. Throws ERR_DATA when the file, its words or its pixels cannot be read. */
export async function readPage(path: string, o: { words?: string } = {}): Promise<PageRecord & { image: Uint8Array }> {
  const [, file, number] = /^(.*?\.pdf)(?:#page=(\d+))?$/is.exec(path) ?? [];
  if (file !== undefined) {
    const page = await readPdfPage(await read({ file }), { file }, Math.max(0, Number(number ?? 1) - 1));
    return { ...page, docId: basename(file), image: page.image! };
  }
  const image = await read({ file: path });
  const size = await imageSize(image, { file: path });
  const words: Place = { file: o.words ?? `${path.slice(0, path.length - extname(path).length)}.json` };
  const { page } = readRecord(await read(words, `The words of ${path} belong there, as {"words": [{"text", "box"}]}; {"words": []} asks about the pixels alone`), words, basename(path));
  return { ...page, origSize: size, image };
}

async function read(at: Place, fix = "Check the path and its permissions"): Promise<Uint8Array> {
  try {
    return await readFile(at.file);
  } catch (cause) {
    throw dataError(at, `cannot be read (${(cause as NodeJS.ErrnoException).code ?? cause})`, `${fix}.`, cause);
  }
}
