/** Cells of m x m patches, from the page to the loss: what the fusion reads, what the loader hides, what the head answers. */
import assert from "node:assert/strict";
import { createHost, createRegistry, fromArray, type DataLoader } from "../../../runtime/index.ts";
import { builtins } from "../../../plugins/index.ts";
import { shards } from "../../../plugins/data-loader/shards.ts";
import { concatenation } from "../../../plugins/fusion/concatenation.ts";
import { mimCodes } from "../../../plugins/objective/mim-codes.ts";
import { root } from "../../process/octavo.ts";
import { fill } from "./fill.ts";
import { assertClose, build, compute, context, fillParameters, ids, mask, vector } from "./harness.ts";

describe("cells of merged patches", () => {
  const grid = 2, merge = 2, width = 3, out = 4;
  /** Patch (row, column) of a page of 4 x 4, as a vector. */
  const image = fill("image", [(1 + 16) * width]);
  const token = (i: number) => [...image.slice(i * width, (i + 1) * width)];
  const patch = (row: number, column: number) => token(1 + row * grid * merge + column);

  it("fusion projects the patches of a cell side by side, row by row, and the class token repeated as often", async () => {
    const fuse = async (o: { image_width: number; merge: number; tokens: number[][] }) => {
      const fusion = build(concatenation, { image_width: o.image_width, merge: o.merge, text_width: 2, width: out, grid });
      fillParameters(fusion, "f64", { nameOf: (name) => name });
      return compute(() => fusion.forward({
        image: fromArray(o.tokens.flat(), [1, o.tokens.length, o.image_width], "f64"), text: fromArray(fill("text", [4]), [1, 2, 2]), text_mask: mask([[1, 1]]),
      }, context()), fusion);
    };
    const cells = [[0, 0], [0, 1], [1, 0], [1, 1]].map(([r, c]) => [[0, 0], [0, 1], [1, 0], [1, 1]].flatMap(([i, j]) => patch(2 * r + i, 2 * c + j)));
    const merged = await fuse({ image_width: width, merge, tokens: Array.from({ length: 17 }, (_, i) => token(i)) });
    const byHand = await fuse({ image_width: 4 * width, merge: 1, tokens: [[...token(0), ...token(0), ...token(0), ...token(0)], ...cells] });
    assertClose(merged.memory, byHand.memory, 0, "memory");
    assert.deepEqual(merged.memory_mask, [1, 1, 1, 1, 1, 1, 1]);
  });

  it("objective/mim-codes answers for the patches of a cell in reading order", async () => {
    // The head knows nothing but its bias: patch s of a cell has code s for certain.
    const objective = build(mimCodes, { width, grid, merge, codes: 5 });
    const bias = Float64Array.from({ length: 20 }, (_, i) => (i % 5 === Math.floor(i / 5) ? 50 : 0));
    const loss = async (codes: number[]) => {
      fillParameters(objective, "f64", { given: { "head.mim.out.weight": new Float64Array(20 * width), "head.mim.out.bias": bias } });
      return compute(() => objective.forward({
        memory: fromArray(fill("memory", [2 * 5 * width]), [2, 5, width]), codes: ids([new Array(16).fill(4), codes]), mim_index: vector([1 + 4]),
      }, context({ counts: { mim_patches: 4 } })), objective);
    };
    // Cell 1 of page 1 is the upper right one: rows 0 and 1, columns 2 and 3.
    const right = [4, 4, 0, 1, 4, 4, 2, 3, 4, 4, 4, 4, 4, 4, 4, 4], down = [4, 4, 0, 2, 4, 4, 1, 3, 4, 4, 4, 4, 4, 4, 4, 4];
    const read = await loss(right), columns = await loss(down);
    assert.ok(read.loss[0] < 1e-12 && read.accuracy[0] === 1, `loss ${read.loss}, accuracy ${read.accuracy}`);
    assertClose(columns.loss, [25], 1e-9, "two of four patches wrong by 50");
    assert.deepEqual(columns.accuracy, [0.5]);
  });

  it("data-loader/shards hides whole cells: the same ones in the patch mask and the index, counted as patches", async () => {
    const host = createHost(createRegistry(builtins), { folder: root, seed: 1 });
    const options = { shards: "examples/data/pdf/train-*.tar", tokenizer: "examples/data/tokenizer.json", max_text: 48 };
    const loaderOf = (o: object) => shards.create(shards.options.parse({ ...options, ...o }), host) as DataLoader;
    const loader = loaderOf({ merge: 2 });
    const { microbatches: [{ tensors }], counts } = await loader.batch({ step: 0, seed: 1, batch: 3, microbatches: 1 });
    await loader.close();
    const patches = tensors.patch_mask.data as Uint8Array, index = Array.from(tensors.mim_index.data as Int32Array);
    const cells = [0, 1, 2].flatMap((b) => Array.from({ length: 16 }, (_, cell) => [b, cell])).filter(([b, cell]) => {
      const flags = [0, 1, 8, 9].map((step) => patches[b * 64 + Math.floor(cell / 4) * 16 + (cell % 4) * 2 + step]);
      assert.equal(new Set(flags).size, 1, "a cell is hidden or shown as a whole");
      return flags[0] === 1;
    }).map(([b, cell]) => b * 16 + cell);
    assert.deepEqual(index, cells);
    assert.equal(index.length, 3 * Math.floor(0.4 * 16 + 0.5));
    assert.equal(counts.mim_patches, 4 * index.length);
    assert.throws(() => shards.options.parse({ ...options, merge: 3 }), /merge must divide/);
  });
});
