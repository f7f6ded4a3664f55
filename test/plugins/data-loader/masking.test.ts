import assert from "node:assert/strict";
import { Philox } from "../../../runtime/index.ts";
import { alignmentLabels, blockMask, corrupt, hiddenShare, spanMask } from "../../../plugins/data-loader/masking.ts";

describe("block masks", () => {
  it("reproduce the reference mask bit for bit", () => {
    // An independent implementation of BEiT's algorithm on Philox seed 7, stream 3: 8 x 8, 26 cells, blocks of 5 and more.
    const mask = blockMask(new Philox(7, 3), { rows: 8, columns: 8, count: 26, smallestBlock: 5 });
    const rows = Array.from({ length: 8 }, (_, r) => mask.slice(8 * r, 8 * r + 8).join(""));
    assert.deepEqual(rows, ["01111111", "11111111", "11111111", "00100000", "00100000", "00000000", "00010000", "00000000"]);
  });

  it("have exactly the wanted number of cells, whatever the shape (M-1, INV-M1)", () => {
    for (let stream = 0; stream < 200; stream++) {
      for (const [rows, columns, count, smallestBlock] of [[8, 8, 26, 5], [4, 4, 6, 4], [14, 14, 75, 16], [2, 9, 7, 4], [8, 8, 64, 5], [3, 3, 0, 4], [1, 1, 1, 4]]) {
        const mask = blockMask(new Philox(1, stream), { rows, columns, count, smallestBlock });
        assert.equal(mask.reduce((sum, cell) => sum + cell, 0), count, `${rows} x ${columns}, ${count} cells, stream ${stream}`);
      }
    }
  });
});

describe("span masks", () => {
  it("reproduce the reference mask bit for bit", () => {
    // The same reference on seed 7, stream 4: 24 tokens, first and last special, 30 %, Poisson 3, at most 10 long.
    const eligible = Array.from({ length: 24 }, (_, i) => i > 0 && i < 23);
    assert.equal(spanMask(new Philox(7, 4), eligible, { share: 0.3 }).join(""), "000001111000110000000100");
  });

  it("never touch what is not eligible and spend exactly their budget (M-2, INV-M2)", () => {
    for (let stream = 0; stream < 200; stream++) {
      const draw = new Philox(2, 1000 + stream);
      const eligible = Array.from({ length: 2 + (stream % 60) }, () => draw.uniform() < 0.7);
      const mask = spanMask(new Philox(2, stream), eligible, { share: 0.3 });
      mask.forEach((hidden, i) => assert.ok(!hidden || eligible[i], `position ${i} of stream ${stream} is not eligible`));
      assert.equal(mask.reduce((sum, bit) => sum + bit, 0), Math.floor(0.3 * eligible.filter(Boolean).length + 0.5));
    }
  });

  it("hide words whole where asked, and little more than their budget", () => {
    for (let stream = 0; stream < 100; stream++) {
      const draw = new Philox(4, 500 + stream), words: number[] = [-1];
      for (let word = 0; words.length < 60; word++) words.push(...new Array<number>(draw.randint(1, 5)).fill(word));
      words.push(-1);
      const eligible = words.map((word) => word >= 0), mask = spanMask(new Philox(4, stream), eligible, { share: 0.3, words });
      for (const word of new Set(words)) assert.equal(new Set(words.flatMap((each, i) => (each === word ? [mask[i]] : []))).size, 1, `word ${word} of stream ${stream}`);
      const hidden = mask.reduce((sum, bit) => sum + bit, 0), budget = Math.floor(0.3 * eligible.filter(Boolean).length + 0.5);
      assert.ok(hidden >= budget && hidden < budget + 5 && mask[0] === 0 && mask.at(-1) === 0, `${hidden} hidden of ${budget}`);
    }
  });

  it("hide nothing where nothing is eligible", () => {
    assert.deepEqual([...spanMask(new Philox(1, 1), [false, false], { share: 0.3 })], [0, 0]);
  });
});

describe("corruption of hidden tokens", () => {
  const options = { maskId: 4, textIds: [[144, 2048]] as const };

  it("masks 80 %, replaces 10 %, keeps 10 %", () => {
    const ids = new Array<number>(20000).fill(999);
    const seen = corrupt(new Philox(3, 1), ids, new Uint8Array(20000).fill(1), options);
    const share = (test: (id: number) => boolean) => seen.filter(test).length / seen.length;
    // Four standard deviations of a share at n = 20000 are 0.0113 and 0.0085.
    assert.ok(Math.abs(share((id) => id === 4) - 0.8) < 0.0114, `${share((id) => id === 4)} masked`);
    assert.ok(Math.abs(share((id) => id === 999) - 0.1) < 0.0086, `${share((id) => id === 999)} kept`);
    assert.ok(seen.every((id) => id === 4 || (id >= 144 && id < 2048)), "a special or location token was drawn");
  });

  it("leaves visible tokens alone", () => {
    assert.deepEqual(corrupt(new Philox(3, 2), [500, 501, 502], Uint8Array.of(0, 0, 0), options), [500, 501, 502]);
  });
});

describe("word-patch alignment", () => {
  const patchMask = Uint8Array.of(0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0);  // 4 x 4, rows 0-1, columns 1-2

  it("measures the hidden share of a box", () => {
    // Areas by hand, e.g. (.1,.1,.3,.2) has a quarter of its width in column 1.
    const cases: [number[], number][] = [[[0.25, 0, 0.75, 0.5], 1], [[0.1, 0.1, 0.3, 0.2], 0.25], [[0.6, 0.4, 0.9, 0.6], 0.25], [[0, 0.6, 0.5, 0.7], 0], [[0.3, 0.05, 0.7, 0.45], 1]];
    for (const [box, share] of cases) assert.ok(Math.abs(hiddenShare(box, patchMask, 4) - share) < 1e-12, `${box}: ${hiddenShare(box, patchMask, 4)}`);
  });

  it("asks only for visible words with area", () => {
    const labels = alignmentLabels({
      boxes: [undefined, [0.25, 0, 0.75, 0.5], [0.1, 0.1, 0.3, 0.2], [0.3, 0.05, 0.7, 0.45], [0.5, 0.5, 0.5, 0.6]],
      textMask: Uint8Array.of(0, 0, 0, 1, 0), patchMask, grid: 4,
    });
    assert.deepEqual([...labels], [-100, 0, 1, -100, -100]);
    const strict = alignmentLabels({ boxes: [[0.25, 0, 0.75, 0.5], [0.1, 0.1, 0.3, 0.2], [0, 0.6, 0.5, 0.7]], textMask: new Uint8Array(3), patchMask, grid: 4, strict: true });
    assert.deepEqual([...strict], [0, -100, 1], "hidden, hidden in part, seen");
  });
});
