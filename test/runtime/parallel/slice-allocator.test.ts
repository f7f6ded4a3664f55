import assert from "node:assert/strict";
import { SliceAllocator } from "../../../runtime/parallel/lanes/slice-allocator.ts";

describe("slice allocator", () => {
  it("gives the lowest gap that fits, on cache lines", () => {
    const slab = new SliceAllocator(1024);
    assert.deepEqual([slab.take(100), slab.take(1), slab.take(64)], [0, 128, 192]);
    slab.give(0);
    assert.equal(slab.take(129), 256, "128 bytes are too small a gap");
    assert.equal(slab.take(128), 0);
  });

  it("joins neighbouring gaps, whichever side is freed last", () => {
    const slab = new SliceAllocator(256);
    for (const order of [[0, 64, 128, 192], [192, 128, 64, 0], [64, 192, 128, 0]]) {
      assert.deepEqual([64, 64, 64, 64].map((bytes) => slab.take(bytes)), [0, 64, 128, 192]);
      assert.equal(slab.take(1), undefined);
      for (const offset of order) slab.give(offset);
      assert.equal(slab.take(256), 0, `freed in order ${order.join(" ")}`);
      slab.give(0);
    }
  });

  it("never lets two slices overlap, and loses no byte, over thousands of random steps", () => {
    const slab = new SliceAllocator(10_000);
    const taken = new Map<number, number>();
    let seed = 7;
    const random = (n: number): number => (seed = (seed * 48_271) % 2_147_483_647) % n;
    for (let i = 0; i < 5000; i++) {
      if (random(2) === 0 && taken.size > 0) {
        const offset = [...taken.keys()][random(taken.size)];
        slab.give(offset);
        taken.delete(offset);
        continue;
      }
      const bytes = 1 + random(1500);
      const offset = slab.take(bytes);
      if (offset === undefined) continue;
      for (const [other, length] of taken) assert.ok(offset + bytes <= other || other + length <= offset, `step ${i}: [${offset}, ${offset + bytes}) meets [${other}, ${other + length})`);
      assert.ok(offset % 64 === 0 && offset + bytes <= 10_000);
      taken.set(offset, bytes);
    }
    for (const offset of taken.keys()) slab.give(offset);
    assert.equal(slab.bytesTaken, 0);
    assert.equal(slab.take(10_000), 0);
  });

  it("refuses to free what is not taken", () => {
    const slab = new SliceAllocator(128);
    slab.give(slab.take(64)!);
    assert.throws(() => slab.give(0), RangeError);
  });
});
