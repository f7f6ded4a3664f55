import assert from "node:assert/strict";
import * as nn from "../../../runtime/nn/index.ts";
import * as ops from "../../../runtime/ops/index.ts";
import { fromArray } from "../../../runtime/tensor/index.ts";
import { assertClose, goldenFill, noLeaks, withScope } from "../numbers.ts";

const table = (grid: number, heads: number) => goldenFill("table", ((2 * grid - 1) ** 2 + 3) * heads, 1, 0);
const total = (values: ArrayLike<number>, of = (v: number) => v) => Array.from(values).reduce((sum, v) => sum + of(v), 0);

describe("resizing of position tables", () => {
  noLeaks();

  it("bilinear and bicubic of [[0, 1], [2, 3]] to 4 x 4 have the known first rows", () => {
    const positions = nn.resizePositions([9, 0, 1, 2, 3], { from: [2, 2], to: [4, 4], width: 1 });
    assertClose(positions.slice(0, 5), [9, -0.31640625, 0.015625, 0.5625, 0.89453125], 1e-12); // 9: the class token's row stays
    // Relative tables have odd sides, so bilinear is seen on 1 x 3 offsets: (0, 1, 2) to 5 places, centres at 0.6 i - 0.2.
    const offsets = nn.resizeRelativeBias([0, 1, 2, 7, 8, 9], { from: [1, 2], to: [1, 3], heads: 1 });
    assertClose(offsets, [0, 0.4, 1, 1.6, 2, 7, 8, 9], 1e-12);
  });

  it("agrees with the op resize, bilinear and bicubic, growing and shrinking", () => withScope(async (scope) => {
    for (const [from, to] of [[4, 7], [7, 4]]) {
      const heads = 2, values = table(from, heads), size = 2 * from - 1, newSize = 2 * to - 1;
      const byOp = async (plain: ArrayLike<number>, side: number, newSide: number, mode: "bilinear" | "bicubic") => Array.from(await scope.enter(() => {
        const planes = ops.permute(fromArray(Float64Array.from(plain), [side, side, heads]), [2, 0, 1]);
        return ops.permute(ops.resize(planes, { height: newSide, width: newSide, mode }), [1, 2, 0]);
      }).read() as Float64Array);
      const relative = nn.resizeRelativeBias(values, { from: [from, from], to: [to, to], heads });
      assertClose(relative.slice(0, -3 * heads), await byOp(values.slice(0, size * size * heads), size, newSize, "bilinear"), 1e-12);
      assertClose(relative.slice(-3 * heads), values.slice(-3 * heads), 0);
      const positions = goldenFill("pos_embed", (1 + from * from) * heads, 1, 0);
      const resized = nn.resizePositions(positions, { from: [from, from], to: [to, to], width: heads });
      assertClose(resized.slice(heads), await byOp(positions.slice(heads), from, to, "bicubic"), 1e-12);
    }
  }));

  it("geometric: BEiT's fine-tuning script, its bicubic spline from SciPy", () => {
    // scipy.interpolate.RectBivariateSpline(x, x, z, kx=3, ky=3, s=0) at the whole offsets, clipped to x; x = the script's ±(1, 1+q, ...).
    const known: [from: number, to: number, sum: number, abs: number, first: number[]][] = [
      [4, 5, -8.642866591032522, 38.42476280265078, [0.6513216525758186, -0.27428298690499453, 0.24876395262612003]],
      [14, 24, 25.243832569233042, 959.2025965847704, [0.6513245846144855, 0.004011665246036363, -0.11092019198600028]],
      [4, 8, -34.98514712893889, 116.06742453445574, [0.6513245846144857, 0.6513245846144857, 0.6513245846144857]],
      [5, 3, 0.452866902442345, 10.849887689509247, [0.8956645309236682, 0.6515488372449797, 0.5558388219380966]],
    ];
    for (const [from, to, sum, abs, first] of known) {
      const resized = nn.resizeRelativeBias(table(from, 1), { from: [from, from], to: [to, to], heads: 1, mode: "geometric" });
      const offsets = resized.slice(0, -3);
      assert.equal(offsets.length, (2 * to - 1) ** 2);
      assertClose(offsets.slice(0, 3), first, 1e-10);
      assertClose([total(offsets), total(offsets, Math.abs)], [sum, abs], 1e-8);
      assertClose(resized.slice(-3), table(from, 1).slice(-3), 0);
    }
  });

  it("the same grid gives the same numbers, and heads do not mix", () => {
    for (const mode of ["bilinear", "geometric"] as const) {
      const values = table(5, 3);
      assertClose(nn.resizeRelativeBias(values, { from: [5, 5], to: [5, 5], heads: 3, mode }), values, 1e-12);
      const resized = nn.resizeRelativeBias(values, { from: [5, 5], to: [6, 6], heads: 3, mode });
      const second = nn.resizeRelativeBias(values.filter((_, i) => i % 3 === 1), { from: [5, 5], to: [6, 6], heads: 1, mode });
      assertClose(resized.filter((_, i) => i % 3 === 1), second, 1e-12);
    }
  });

  it("refuses a table of another grid, and a grid too small for a spline", () => {
    assert.throws(() => nn.resizeRelativeBias(table(4, 1), { from: [5, 5], to: [6, 6], heads: 1 }), { code: "ERR_SHAPE", message: /84 numbers/ });
    assert.throws(() => nn.resizePositions(new Float64Array(16), { from: [4, 4], to: [6, 6], width: 1 }), { code: "ERR_SHAPE", message: /17 numbers/ });
    assert.throws(() => nn.resizeRelativeBias(table(2, 1), { from: [2, 2], to: [3, 3], heads: 1, mode: "geometric" }), { code: "ERR_SHAPE", message: /bilinear/ });
  });
});

describe("drop path", () => {
  noLeaks();
  const random = { training: true, seed: 3, step: 5, sampleIds: [10, 11, 12, 13, 14, 15, 16, 17] };

  it("rates rise evenly from 0 for the first block; one block alone drops nothing", () => {
    assertClose(nn.dropPathRates(0.3, 4), [0, 0.1, 0.2, 0.3], 1e-15);
    assert.deepEqual(nn.dropPathRates(0.3, 1), [0]);
    assert.deepEqual(nn.dropPathRates(0.3, 0), []);
  });

  it("drops whole samples of each branch by its own choice, divides the others, and only while training", () => withScope(async (scope) => {
    const ones = scope.enter(() => fromArray(new Float64Array(8 * 2 * 3).fill(1), [8, 2, 3]));
    const rows = async (name: string, part: "attn" | "mlp", ids = random.sampleIds) => {
      const drop = nn.dropBranches(name, 0.5, { ...random, sampleIds: ids })!;
      const values = Array.from(await scope.enter(() => drop(ops.slice(ones, 0, 0, ids.length), part)).read() as Float64Array);
      return ids.map((_, b) => {
        const sample = new Set(values.slice(6 * b, 6 * b + 6));
        assert.equal(sample.size, 1, "a sample is dropped or kept as a whole");
        return [...sample][0];
      });
    };
    const kept = await rows("vision.blocks.1", "attn");
    assert.deepEqual([...new Set(kept)].sort(), [0, 2]);
    assert.notDeepEqual(await rows("vision.blocks.1", "mlp"), kept);
    assert.notDeepEqual(await rows("vision.blocks.2", "attn"), kept);
    assert.deepEqual(await rows("vision.blocks.1", "attn", random.sampleIds.slice(3, 6)), kept.slice(3, 6), "the choice belongs to the sample, not to the batch");
    assert.equal(nn.dropBranches("vision.blocks.1", 0.5, { ...random, training: false }), undefined);
    assert.equal(nn.dropBranches("vision.blocks.0", 0, random), undefined);
  }));

  it("a block whose branches are all dropped gives its input", () => withScope(async (scope) => {
    const block = nn.beitBlock({ width: 8, heads: 2, layerScale: 0.1 });
    nn.materialise(block.parameters(), { seed: 1, prefix: "", dtype: "f64" });
    const x = scope.enter(() => fromArray(goldenFill("x", 2 * 5 * 8, 1, 0), [2, 5, 8]));
    const out = async (drop?: nn.DropBranch) => Array.from(await scope.enter(() => block.forward(x, { drop })).read() as Float64Array);
    const input = Array.from(await x.read() as Float64Array);
    assert.deepEqual(await out((branch) => ops.scale(branch, 0)), input);
    assert.notDeepEqual(await out(), input);
    assert.deepEqual(await out((branch) => branch), await out());
    nn.release(block.parameters());
  }));
});

describe("frozen parameters", () => {
  noLeaks();

  it("train nothing, and with a seed of their own start alike in every run", async () => {
    const start = async (runSeed: number, seed?: number) => {
      const layer = nn.linear({ in: 3, out: 2 });
      nn.freeze(layer.parameters(), { seed });
      nn.materialise(layer.parameters(), { seed: runSeed, prefix: "teacher" });
      assert.deepEqual([layer.weight.trainable, layer.weight.value.requiresGrad], [false, false]);
      const values = Array.from(await layer.weight.value.read() as Float32Array);
      nn.release(layer.parameters());
      return values;
    };
    assert.deepEqual(await start(1, 7), await start(2, 7));
    assert.deepEqual(await start(7), await start(1, 7));
    assert.notDeepEqual(await start(1), await start(2));
  });
});
