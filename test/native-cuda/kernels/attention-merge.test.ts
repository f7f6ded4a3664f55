import assert from "node:assert/strict";
import { noise, run, single, type Operand } from "../device.ts";
import { close, refuses } from "../harness.ts";

const [batch, heads, width] = [2, 3, 4];

/** y and lse of attention over keys [from, to) of q, k, v (2, n, 12). */
async function over(keys: number, from: number, to: number, mask?: Uint8Array): Promise<{ y: Operand; lse: Operand }> {
  const q = noise([batch, 5, heads * width], 1), of = (seed: number): Operand => {
    const whole = noise([batch, keys, heads * width], seed).data, row = heads * width;
    const part = Float64Array.from({ length: batch * (to - from) * row }, (_, i) => whole[(Math.floor(i / ((to - from) * row)) * keys + from) * row + (i % ((to - from) * row))]);
    return { shape: [batch, to - from, row], data: part };
  };
  const hidden = mask && { shape: [batch, to - from], data: Uint8Array.from({ length: batch * (to - from) }, (_, i) => mask[Math.floor(i / (to - from)) * keys + from + (i % (to - from))]) };
  const [y, lse] = await run("attention_forward", [q, of(2), of(3), hidden, undefined, { out: q.shape }, { out: [batch, heads, 5] }], [heads, heads, 0, 0, 0, 0.5]);
  return { y: { shape: q.shape, data: y }, lse: { shape: [batch, heads, 5], data: lse } };
}

type Part = Awaited<ReturnType<typeof over>>;
const merge = (a: Part, b: Part, convert: (o: Operand) => Operand = (o) => o, threads = 1) =>
  run("attention_merge", [{ ...convert(a.y), update: true }, { ...convert(a.lse), update: true }, convert(b.y), convert(b.lse)], [heads], { threads });

describe("attention_merge", () => {
  for (const cut of [1, 4, 8]) {
    it(`makes attention over 9 keys of parts of ${cut} and ${9 - cut}`, async () => {
      const whole = await over(9, 0, 9), [y, lse] = await merge(await over(9, 0, cut), await over(9, cut, 9));
      close(y, whole.y.data as Float64Array, 1e-14);
      close(lse, whole.lse.data as Float64Array, 1e-14);
    });
  }

  it("AM-1: heeds no part without visible keys, whichever it is, and gives nothing for two of them", async () => {
    const mask = Uint8Array.from({ length: 18 }, (_, i) => Number(i % 9 < 4)), nothing = await over(9, 4, 9, mask), some = await over(9, 0, 4, mask);
    assert.ok((nothing.lse.data as Float64Array).every((x) => x === -Infinity));
    for (const [a, b] of [[some, nothing], [nothing, some]]) {
      const [y, lse] = await merge(a, b);
      close(y, some.y.data as Float64Array, 1e-15);
      close(lse, some.lse.data as Float64Array, 1e-15);
    }
    const [y, lse] = await merge(nothing, nothing);
    assert.ok(y.every((x) => x === 0) && lse.every((x) => x === -Infinity));
  });

  it("agrees in f32 with f64, and has the same bits on 1, 2, 3, 4 and 8 threads", async () => {
    const [a, b] = [await over(9, 0, 4), await over(9, 4, 9)], [exact, exactLse] = await merge(a, b), [y, lse] = await merge(a, b, single);
    close(y, exact as Float64Array, 1e-6);
    close(lse, exactLse as Float64Array, 1e-6);
    for (const threads of [2, 3, 4, 8]) assert.deepEqual(await merge(a, b, single, threads), [y, lse]);
  });

  it("refuses what does not fit", () =>
    refuses(run("attention_merge", [{ ...noise([1, 2, 6], 1), update: true }, noise([1, 3, 2], 2), noise([1, 2, 6], 3), noise([1, 3, 1], 4)], [3]), /attention_merge: moreLse expected f64 \(1, 3, 2\) as lse, got f64 \(1, 3, 1\)/));
});
