/**
 * One page of a PDF as a page record: words and boxes from its text layer (pdf.js), pixels from PDFium.
 *
 * P-1: boxes are measured on the visible page: crop box, after the page's rotation.
 * P-2: a scan without text layer gives a page without words, marked `meta.noText`.
 * P-3: broken, empty and password-protected files are ERR_DATA.
 */
import sharp from "sharp";
import type { Box, Line, PageRecord, Word } from "../../runtime/index.ts";
import { pageSide, rounded, toFrame, union } from "./frame.ts";
import { dataError, type Place } from "./page-record.ts";

/** PDF points are 1/72 inch; pages are drawn at 150 dpi. */
const renderScale = 150 / 72;
const largestSide = 8000;

/** What is used of a pdf.js text run. `transform` is [a, b, c, d, e, f] in PDF user space, `width` along its direction. */
interface TextRun { str: string; transform: number[]; width: number; height: number; fontName: string; hasEOL: boolean }
interface Viewport { width: number; height: number; convertToViewportPoint(x: number, y: number): number[] }
/** One character: its corners on the page in points, and where along the run's direction it starts and ends. */
interface Glyph { character: string; box: [number, number, number, number]; from: number; to: number }

/** Page `number` (0-based) of the PDF in `bytes`, with `image` as PNG. Throws ERR_DATA. */
export async function readPdfPage(bytes: Uint8Array, at: Place, number = 0): Promise<PageRecord> {
  const text = await readTextLayer(bytes, at, number);
  const image = await renderPage(bytes, at, number);
  return { ...text, image };
}

async function readTextLayer(bytes: Uint8Array, at: Place, number: number): Promise<PageRecord> {
  const { getDocument, VerbosityLevel } = await import("pdfjs-dist/legacy/build/pdf.mjs");
  const task = getDocument({ data: new Uint8Array(bytes), verbosity: VerbosityLevel.ERRORS, isEvalSupported: false, useSystemFonts: false });
  try {
    const document = await task.promise;
    if (number >= document.numPages) throw dataError(at, `no page ${number}`, `The document has pages 0 to ${document.numPages - 1}.`);
    const page = await document.getPage(number + 1);
    const viewport = page.getViewport({ scale: 1 });
    const content = await page.getTextContent();
    const runs = content.items.filter((item) => "str" in item) as TextRun[];
    const { words, lines } = layOut(runs, content.styles, viewport);
    return {
      docId: at.file, page: number, source: "pdf", origSize: [viewport.width, viewport.height], words, lines, regions: [],
      meta: { pages: document.numPages, ...(words.length === 0 ? { noText: true } : {}) },
    };
  } catch (cause) {
    if ((cause as { code?: string }).code === "ERR_DATA") throw cause;
    const locked = (cause as Error).name === "PasswordException";
    throw dataError(at, locked ? "the PDF is protected by a password" : `not a readable PDF (${(cause as Error).message})`,
      locked ? "Save it without password first." : "Expected a PDF file.", cause);
  } finally {
    await task.destroy();
  }
}

/** Runs -> lines (runs that share a baseline) -> words (characters between spaces or wide gaps). */
function layOut(runs: readonly TextRun[], styles: Record<string, { ascent?: number; descent?: number }>, viewport: Viewport): { words: Word[]; lines: Line[] } {
  const words: Word[] = [];
  const lines: Line[] = [];
  let glyphs: Glyph[] = [];
  let baseline: { direction: number; across: number; size: number } | undefined;
  const closeLine = () => {
    const found = wordsOf(glyphs, baseline?.size ?? 0).map(({ text, corners }) => ({ text, box: toFrame(corners, viewport.width, viewport.height).box }));
    const box = union(found.map((word) => word.box));
    if (box && box[2] > 0 && box[3] > 0 && box[0] < pageSide && box[1] < pageSide) {
      words.push(...found.map((word) => ({ text: word.text, box: rounded(word.box), line: lines.length })));
      lines.push({ text: found.map((word) => word.text).join(" "), box: rounded(box) });
    }
    glyphs = [];
    baseline = undefined;
  };
  for (const run of runs) {
    const [a, b, , , e, f] = run.transform;
    const direction = Math.atan2(b, a);
    const size = run.height || Math.hypot(run.transform[2], run.transform[3]) || 1;
    const along = e * Math.cos(direction) + f * Math.sin(direction);
    const across = -e * Math.sin(direction) + f * Math.cos(direction);
    if (run.str !== "") {
      const same = baseline && Math.abs(baseline.direction - direction) < 0.01 && Math.abs(baseline.across - across) < 0.3 * Math.max(size, baseline.size);
      if (baseline && !same) closeLine();
      baseline ??= { direction, across, size };
      glyphs.push(...glyphsOf(run, direction, along, size, styles[run.fontName] ?? {}, viewport));
    }
    if (run.hasEOL) closeLine();
  }
  closeLine();
  return { words, lines };
}

/** The proportional rule: each of a run's n characters gets an n-th of its width. */
function glyphsOf(run: TextRun, direction: number, along: number, size: number, style: { ascent?: number; descent?: number }, viewport: Viewport): Glyph[] {
  const [, , , , e, f] = run.transform;
  const [cos, sin] = [Math.cos(direction), Math.sin(direction)];
  const ascent = (style.ascent || 0.8) * size, descent = (style.descent || -0.2) * size;
  const n = run.str.length;
  return [...run.str].length === 0 ? [] : Array.from({ length: n }, (_, i) => {
    const from = (run.width * i) / n, to = (run.width * (i + 1)) / n;
    const points = [[from, ascent], [to, ascent], [from, descent], [to, descent]]
      .map(([u, v]) => viewport.convertToViewportPoint(e + u * cos - v * sin, f + u * sin + v * cos));
    const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
    return { character: run.str[i], from: along + from, to: along + to,
      box: [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)] };
  });
}

/** A gap wider than a quarter of the letter size separates words even where the PDF has no space character. */
function wordsOf(glyphs: readonly Glyph[], size: number): { text: string; corners: Box }[] {
  const found: { text: string; corners: Box }[] = [];
  let word: Glyph[] = [];
  const close = () => {
    const corners = union(word.map((glyph) => glyph.box));
    if (corners) found.push({ text: word.map((glyph) => glyph.character).join(""), corners });
    word = [];
  };
  for (const glyph of glyphs) {
    const last = word.at(-1);
    if (/\s/u.test(glyph.character)) { close(); continue; }
    if (last && Math.abs(glyph.from - last.to) > 0.25 * size) close();
    word.push(glyph);
  }
  close();
  return found;
}

type PdfiumLibrary = Awaited<ReturnType<typeof import("@hyzyla/pdfium").PDFiumLibrary.init>>;
let pdfium: Promise<PdfiumLibrary> | undefined;

async function renderPage(bytes: Uint8Array, at: Place, number: number): Promise<Uint8Array> {
  // One WebAssembly instance per process: it takes half a second to start and holds no state between documents.
  pdfium ??= import("@hyzyla/pdfium").then(({ PDFiumLibrary }) => PDFiumLibrary.init());
  const library = await pdfium;
  try {
    const document = await library.loadDocument(Buffer.from(bytes));
    try {
      const page = document.getPage(number);
      const { originalWidth, originalHeight } = page.getOriginalSize();
      const scale = Math.min(renderScale, largestSide / Math.max(originalWidth, originalHeight));
      const bitmap = await page.render({ scale, colorSpace: "Gray", render: ({ data, width, height }) =>
        sharp(data, { raw: { width, height, channels: 1 } }).png().toBuffer() });
      return bitmap.data;
    } finally {
      document.destroy();
    }
  } catch (cause) {
    throw dataError(at, `page ${number} cannot be drawn (${(cause as Error).message})`, "Expected a PDF that a viewer can show.", cause);
  }
}
