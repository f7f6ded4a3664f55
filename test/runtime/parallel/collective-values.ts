import { type DType, type HostArray, type Shape, sizeOf, toHostArray } from "../../../runtime/tensor/index.ts";

const places = 65_536;
const drawn = new Map<DType, HostArray>();

/** Numbers whose sums round: what a rank brings to call `number`. Every rank and call reads one long row from another place. */
export function valuesOf(dtype: DType, shape: Shape, rank: number, number: number): HostArray {
  const n = sizeOf(shape), from = (1 + rank * 7919 + number * 131) % places;
  let row = drawn.get(dtype);
  if (row === undefined || row.length < n + places) drawn.set(dtype, (row = draw(dtype, n + places)));
  return row.slice(from, from + n);
}

function draw(dtype: DType, n: number): HostArray {
  const values = new Float64Array(n), float = dtype.startsWith("f") || dtype === "bf16";
  let state = 1;
  for (let i = 0; i < n; i++) {
    state = (state * 48_271) % 2_147_483_647;
    values[i] = float ? (state / 2_147_483_647 - 0.5) * 2 ** (state % 20) : state - 1_000_000_000;
  }
  return toHostArray(values, dtype);
}
