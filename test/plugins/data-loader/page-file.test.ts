import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { drawBoxes, readPage, readPdfPage } from "../../../plugins/data-loader/index.ts";
import { decodePixels, normalise } from "../../../plugins/data-loader/pixels.ts";
import { greyPage, record } from "./bad-shards.ts";

const pages = fileURLToPath(new URL("../../../examples/data/pages/", import.meta.url));
const pdf = join(pages, "sample-invoice.pdf");

/** A one-page PDF of 200 x 100 points: "Hello" at (20, 40), 10 points high, and rotated text or a page rotation on request. */
function smallPdf(o: { rotate?: number; text?: string; crop?: string } = {}): Buffer {
  const content = o.text ?? "BT /F1 10 Tf 20 40 Td (Hello big world) Tj ET";
  const objects = [
    "<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
    `<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 100] ${o.crop ? `/CropBox ${o.crop}` : ""} ${o.rotate ? `/Rotate ${o.rotate}` : ""} /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>`,
    `<< /Length ${content.length} >>\nstream\n${content}\nendstream`, "<< /Type /Font /Subtype /Type1 /BaseFont /Courier >>",
  ];
  let text = "%PDF-1.4\n";
  const offsets = objects.map((object, i) => { const at = text.length; text += `${i + 1} 0 obj\n${object}\nendobj\n`; return at; });
  const table = text.length;
  text += `xref\n0 6\n0000000000 65535 f \n${offsets.map((at) => `${String(at).padStart(10, "0")} 00000 n \n`).join("")}trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n${table}\n%%EOF\n`;
  return Buffer.from(text, "latin1");
}

describe("a PDF page", () => {
  it("has its words where they stand", async () => {
    const { words, lines, origSize } = await readPdfPage(smallPdf(), { file: "small.pdf" });
    assert.deepEqual(words.map((word) => word.text), ["Hello", "big", "world"]);
    assert.deepEqual(lines.map((line) => line.text), ["Hello big world"]);
    assert.deepEqual(origSize, [200, 100]);
    // Courier: every letter is 0.6 of the size, so "Hello" is 30 points from x = 20 and "world" starts 10 letters on, at 80.
    const x = words.map(({ box }) => [box[0], box[2]]);
    [[20, 50], [56, 74], [80, 110]].forEach((span, i) => span.forEach((points, side) => assert.ok(Math.abs(x[i][side] - (points / 200) * 1024) < 0.02, `word ${i}: ${x[i]}`)));
    // The baseline is 60 of 100 points from the top; letters stand on it.
    for (const { box } of words) assert.ok(box[1] < 614.4 && box[3] > 614.4 && box[3] - box[1] < 160, `${box}`);
  });

  it("turns with the page and starts at the crop box (P-1)", async () => {
    const turned = await readPdfPage(smallPdf({ rotate: 90 }), { file: "turned.pdf" });
    assert.deepEqual(turned.origSize, [100, 200]);
    // Rotated clockwise, the text runs down: x of the baseline is 40 of 100 points, y from 20 to 50 of 200.
    const [x0, y0, x1, y1] = turned.words[0].box;
    assert.ok(x0 < 409.6 && x1 > 409.6, `${turned.words[0].box}`);
    assert.ok(Math.abs(y0 - 102.4) < 0.02 && Math.abs(y1 - 256) < 0.02, `${turned.words[0].box}`);
    const cropped = await readPdfPage(smallPdf({ crop: "[10 0 110 100]" }), { file: "cropped.pdf" });
    assert.ok(Math.abs(cropped.words[0].box[0] - 102.4) < 0.02, `${cropped.words[0].box}`);
  });

  it("without a text layer has no words and says so (P-2)", async () => {
    const page = await readPdfPage(smallPdf({ text: "0 0 100 50 re f" }), { file: "scan.pdf" });
    assert.deepEqual([page.words, page.meta.noText], [[], true]);
    const { data, info } = await sharp(page.image).raw().toBuffer({ resolveWithObject: true });
    assert.deepEqual([info.width, info.height], [416, 208]);  // 150 dpi
    // The rectangle fills the lower left quarter.
    assert.deepEqual([data[info.channels * (150 * 416 + 100)], data[info.channels * (50 * 416 + 100)]], [0, 255]);
  });

  it("is ERR_DATA when it is broken, empty or not there (P-3)", async () => {
    const whole = readFileSync(pdf);
    for (const [name, bytes] of [["empty", Buffer.alloc(0)], ["text", Buffer.from("hello")], ["cut", whole.subarray(0, 3000)]] as const) {
      await assert.rejects(readPdfPage(bytes, { file: `${name}.pdf` }), { code: "ERR_DATA", message: new RegExp(`^${name}\\.pdf: `) });
    }
    await assert.rejects(readPdfPage(whole, { file: "one.pdf" }, 3), { code: "ERR_DATA", message: "one.pdf: no page 3. The document has pages 0 to 0." });
  });
});

describe("a page file", () => {
  let folder: string;
  before(() => { folder = mkdtempSync(join(tmpdir(), "octavo-page-")); });
  after(() => rmSync(folder, { recursive: true }));

  it("is an image with its words beside it", async () => {
    const page = await readPage(join(pages, "X00016469623.jpg"));
    assert.deepEqual([page.words.length, page.words[0].text, page.origSize], [144, "TAN", [451, 1000]]);
    assert.equal(page.meta.entities, undefined, "the truth stands beside the question");
  });

  it("is a PDF, also by page", async () => {
    const page = await readPage(pdf);
    assert.deepEqual([page.words.length, page.origSize, page.docId], [111, [595.28, 841.89], "sample-invoice.pdf"]);
    await assert.rejects(readPage(`${pdf}#page=2`), { code: "ERR_DATA", message: /no page 1/ });
  });

  it("takes its words from another file on request", async () => {
    writeFileSync(join(folder, "a.png"), await greyPage(9));
    writeFileSync(join(folder, "other.json"), record());
    assert.equal((await readPage(join(folder, "a.png"), { words: join(folder, "other.json") })).words.length, 2);
  });

  it("is ERR_DATA, with advice, when words, image or file are wrong", async () => {
    const image = join(folder, "b.png");
    writeFileSync(image, await greyPage(9));
    await assert.rejects(readPage(image), { code: "ERR_DATA", message: /b\.json: cannot be read \(ENOENT\)\. The words of .*b\.png belong there/ });
    writeFileSync(join(folder, "b.json"), `{"words": [{"text": 7}]}`);
    await assert.rejects(readPage(image), { code: "ERR_DATA", message: /b\.json: not a page record: words\.0\.text/ });
    writeFileSync(join(folder, "b.json"), Buffer.from([0xff, 0xfe, 0x00]));
    await assert.rejects(readPage(image), { code: "ERR_DATA", message: /b\.json: broken JSON/ });
    writeFileSync(image, "");
    await assert.rejects(readPage(image), { code: "ERR_DATA", message: /b\.png: not a readable image/ });
    await assert.rejects(readPage(join(folder, "nothing.png")), { code: "ERR_DATA", message: /nothing\.png: cannot be read \(ENOENT\)/ });
  });
});

describe("pixels", () => {
  it("are normalised per channel, in planes", async () => {
    const rgb = await decodePixels(await sharp({ create: { width: 5, height: 9, channels: 3, background: { r: 255, g: 0, b: 128 } } }).png().toBuffer(), 2, { file: "x" });
    assert.deepEqual([...rgb], [255, 0, 128, 255, 0, 128, 255, 0, 128, 255, 0, 128]);
    const out = new Float32Array(13);
    normalise(rgb, 2, out, 1);
    // (1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (128/255 - 0.406) / 0.225
    [2.2489083, -2.0357143, 0.4264924].forEach((value, c) => {
      for (let i = 0; i < 4; i++) assert.ok(Math.abs(out[1 + 4 * c + i] - value) < 1e-6, `channel ${c}: ${out[1 + 4 * c + i]}`);
    });
  });

  it("are three equal planes for a grey page, and white paper under transparency", async () => {
    assert.deepEqual([...await decodePixels(await greyPage(77), 1, { file: "x" })], [77, 77, 77]);
    const clear = await sharp({ create: { width: 3, height: 3, channels: 4, background: { r: 0, g: 0, b: 0, alpha: 0 } } }).png().toBuffer();
    assert.deepEqual([...await decodePixels(clear, 1, { file: "x" })], [255, 255, 255]);
  });
});

describe("drawing boxes on a page", () => {
  it("frames them where they are and leaves the rest", async () => {
    const png = await drawBoxes(await greyPage(200, 400, 800), [[256, 256, 768, 512]], { colour: "#ff0000" });
    const { data, info } = await sharp(png).raw().toBuffer({ resolveWithObject: true });
    assert.deepEqual([info.width, info.height, info.channels], [400, 800, 3]);
    const at = (x: number, y: number) => [...data.subarray(3 * (y * 400 + x), 3 * (y * 400 + x) + 3)];
    assert.deepEqual(at(97, 300), [255, 0, 0], "the frame stands outside the box");
    assert.deepEqual(at(10, 10), [200, 200, 200], "outside");
    const [r, g] = at(200, 300);
    assert.ok(r > 200 && g < 200 && g > 150, `the inside is tinted: ${at(200, 300)}`);
  });

  it("enlarges small pages and draws boxes without area", async () => {
    const { data, info } = await sharp(await drawBoxes(await greyPage(200, 40, 80), [[512, 512, 512, 512]])).raw().toBuffer({ resolveWithObject: true });
    assert.deepEqual([info.width, info.height], [400, 800]);
    const centre = 3 * (400 * 400 + 200);
    assert.notDeepEqual([...data.subarray(centre, centre + 3)], [200, 200, 200]);
  });

  it("is ERR_DATA on what is no image", async () => {
    await assert.rejects(drawBoxes(Buffer.from("x"), []), { code: "ERR_DATA" });
  });
});
