import assert from "node:assert/strict";
import { Tape } from "../../../runtime/autograd/index.ts";
import * as ops from "../../../runtime/ops/index.ts";
import { fromArray, zeros } from "../../../runtime/tensor/index.ts";
import { noLeaks, withScope } from "../numbers.ts";

/**
 * Row i of the relative position index as the attention kernel has it: without queries and keys all weights are equal, and with head j
 * reading key j alone, a gradient at output i has its one positive entry per head at the table's row that (i, j) reads.
 */
const indexRow = (i: number, grid: readonly [number, number]): Promise<number[]> => withScope(async (scope) => {
  const tokens = 1 + grid[0] * grid[1], rows = (2 * grid[0] - 1) * (2 * grid[1] - 1) + 3;
  const dtable = scope.enter(() => {
    const nothing = zeros([1, tokens, tokens], "f64"), biasTable = zeros([rows, tokens], "f64"), tape = new Tape();
    const v = fromArray(Float64Array.from({ length: tokens * tokens }, (_, e) => Number(e % (tokens + 1) === 0)), [1, tokens, tokens]);
    tape.watch(biasTable);
    const y = tape.record(() => ops.attention({ q: nothing, k: nothing, v, biasTable, grid, heads: tokens }));
    const dy = fromArray(Float64Array.from({ length: tokens * tokens }, (_, e) => Number(Math.floor(e / tokens) === i)), [1, tokens, tokens]);
    return tape.backward([[y, dy]]).get(biasTable)!;
  });
  const values = Array.from(await dtable.read() as Float64Array);
  return Array.from({ length: tokens }, (_, j) => {
    const column = Array.from({ length: rows }, (_, t) => values[t * tokens + j]);
    return column.indexOf(Math.max(...column));
  });
});

/** The index by its definition: query minus key, class token first. */
function defined(i: number, j: number, [height, width]: readonly [number, number]): number {
  const rows = (2 * height - 1) * (2 * width - 1) + 3;
  if (i === 0) return j === 0 ? rows - 1 : rows - 3;
  if (j === 0) return rows - 2;
  const [ri, ci, rj, cj] = [Math.floor((i - 1) / width), (i - 1) % width, Math.floor((j - 1) / width), (j - 1) % width];
  return (ri - rj + height - 1) * (2 * width - 1) + (ci - cj + width - 1);
}
const all = (grid: readonly [number, number]) => {
  const tokens = 1 + grid[0] * grid[1];
  return Array.from({ length: tokens }, (_, i) => Array.from({ length: tokens }, (_, j) => defined(i, j, grid)));
};
const total = (index: number[][]) => index.flat().reduce((a, b) => a + b, 0);

// Literals: the index buffers of the original BEiT.
describe("the relative position index of attention", () => {
  noLeaks();

  it("4 x 4: the original's rows 0, 1 and 16, and its total", async () => {
    const index = [];
    for (let i = 0; i < 17; i++) index.push(await indexRow(i, [4, 4]));
    assert.deepEqual(index[0], [51, ...new Array(16).fill(49)]);
    assert.deepEqual(index[1], [50, 24, 23, 22, 21, 17, 16, 15, 14, 10, 9, 8, 7, 3, 2, 1, 0]);
    assert.deepEqual(index[16], [50, 48, 47, 46, 45, 41, 40, 39, 38, 34, 33, 32, 31, 27, 26, 25, 24]);
    assert.equal(total(index), 7779);
    assert.deepEqual(index, all([4, 4]));
  });

  it("2 x 3: rows and columns are told apart", async () => {
    assert.deepEqual(await indexRow(1, [2, 3]), [16, 7, 6, 5, 2, 1, 0]);
  });

  it("14 x 14: the original's entries, its symmetry and its total", async () => {
    const [cls, first, second, below, last] = [await indexRow(0, [14, 14]), await indexRow(1, [14, 14]), await indexRow(2, [14, 14]), await indexRow(15, [14, 14]), await indexRow(196, [14, 14])];
    assert.deepEqual([first[1], first[2], second[1], first[15], below[1], first[196], last[1]], [364, 363, 365, 337, 391, 0, 728]);
    assert.deepEqual([cls[7], last[0], cls[0]], [729, 730, 731]);
    const index = all([14, 14]);
    for (const [i, row] of [[0, cls], [1, first], [2, second], [15, below], [196, last]] as const) assert.deepEqual(row, index[i]);
    assert.equal(total(index), 14_270_119);
    for (const [i, j] of [[1, 2], [5, 190], [77, 13]]) assert.equal(index[i][j] + index[j][i], 728);
    assert.equal(index[9][9], 364);
  });
});
