// Ids are values: only the device knows them. Every kernel that takes ids refuses one out of range before it touches memory with it,
// and says at which position it stood. One row per kernel; the id is the last of four.
import { type Operand, type Output, noise, runMixed } from "./device.ts";
import { refuses } from "./harness.ts";

const four = (last: number): Operand => ({ shape: [4], data: Int32Array.of(0, 1, 1, last) });
const one: Operand = { shape: [1], data: Float64Array.of(1) };
const out = (...shape: number[]): Output => ({ out: shape });
const qkv = noise([1, 4, 2], 1), lse = noise([1, 1, 4], 2), sharp = [1, 0, 0, 0, 0], inBins = [1, 0, 1, 0, 3], plain = [1, 1, 0, 0, 0, 1], packed = [...plain, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/** Kernel, what its ids are called and how many there are to choose from, its operands with one bad id, scalars. */
const table: [kernel: string, named: string, below: number, operands: (bad: number) => (Operand | Output | undefined)[], scalars?: number[]][] = [
  ["gather_rows_forward", "index", 3, (bad) => [noise([3, 2], 1), four(bad), out(4, 2)]],
  ["gather_rows_backward", "index", 3, (bad) => [noise([4, 2], 1), four(bad), out(3, 2)]],
  ["index_select_forward", "index", 3, (bad) => [noise([2, 3], 1), four(bad), out(2, 4)], [1]],
  ["index_select_backward", "index", 3, (bad) => [noise([2, 4], 1), four(bad), out(2, 3)], [1]],
  ["cross_entropy_forward", "labels", 3, (bad) => [noise([4, 3], 1), four(bad), out(1), out(4)], sharp],
  ["cross_entropy_backward", "labels", 3, (bad) => [one, noise([4, 3], 1), four(bad), noise([4], 2), out(4, 3)], sharp],
  ["cross_entropy_forward", "labels", 3, (bad) => [noise([4, 5], 1), four(bad), out(1), out(4)], inBins],
  ["bce_forward", "labels", 2, (bad) => [noise([4], 1), four(bad), out(1)], [1]],
  ["bce_backward", "labels", 2, (bad) => [one, noise([4], 1), four(bad), out(4)], [1]],
  ["top_k_backward", "at", 3, (bad) => [noise([4, 1], 1), { ...four(bad), shape: [4, 1] }, out(4, 3)], [1]],
  ["attention_forward", "boundaries", 5, (bad) => [qkv, qkv, qkv, undefined, undefined, out(1, 4, 2), out(1, 1, 4), four(bad), undefined, undefined, undefined], packed],
  ["attention_backward", "boundaries", 5, (bad) => [qkv, qkv, qkv, qkv, undefined, undefined, qkv, lse, out(1, 4, 2), out(1, 4, 2), out(1, 4, 2), undefined, four(bad), undefined, undefined, undefined], packed],
];

describe("ids out of range", () => {
  for (const [kernel, named, below, operands, scalars] of table) {
    for (const bad of [below, -1, 2 ** 31 - 1, -(2 ** 31)]) {
      it(`${kernel} refuses ${named} with ${bad}, naming its position`, () =>
        refuses(runMixed(kernel, operands(bad), scalars), new RegExp(`${kernel}: ${named}\\[3\\] (expected an? (id|bin) .*got ${bad}$|is ${bad};)`)));
    }
  }
});
