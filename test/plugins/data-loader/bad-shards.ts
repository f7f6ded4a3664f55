/** Small shards for tests: pages of one word, whole or broken. */
import sharp from "sharp";
import tar from "tar-stream";

export async function packTar(members: readonly (readonly [name: string, content: string | Uint8Array])[]): Promise<Buffer> {
  const pack = tar.pack();
  const chunks: Buffer[] = [];
  const whole = (async () => { for await (const chunk of pack) chunks.push(chunk as Buffer); })();
  for (const [name, content] of members) pack.entry({ name, mtime: new Date(0) }, Buffer.from(content as Uint8Array));
  pack.finalize();
  await whole;
  return Buffer.concat(chunks);
}

/** A grey page; `shade` tells pages apart. */
export function greyPage(shade: number, width = 40, height = 60): Promise<Buffer> {
  return sharp({ create: { width, height, channels: 3, background: { r: shade, g: shade, b: shade } } }).greyscale().png().toBuffer();
}

export function record(o: { words?: { text: string; box: unknown }[]; entities?: Record<string, string> } & Record<string, unknown> = {}): string {
  const { words = [{ text: "TOTAL", box: [0, 0, 512, 512] }, { text: "9.00", box: [512, 0, 1024, 512] }], entities = { total: "9.00" }, ...rest } = o;
  return JSON.stringify({ page: 0, source: "test", words, meta: { entities }, ...rest });
}
