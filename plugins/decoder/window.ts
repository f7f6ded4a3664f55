/**
 * A sliding window counts real keys. Kernels count places, so the real ones of a row must stand side by side: rows are packed, and a cache
 * forgets what no later token sees. Worked out on the device, where the masks are; places are whole numbers below 2^24, exact in f32.
 */
import { add, cast, full, fromArray, gatherRows, lt, mul, reshape, runningSum, scatterAdd, slice, sub, type Tensor } from "../../runtime/index.ts";

const one = (): Tensor => full([1], 1);
const numbers = (count: number, value: (i: number) => number, shape: number[]): Tensor => fromArray(Float32Array.from({ length: count }, (_, i) => value(i)), shape);
/** (B, 1): where each row begins, end to end with `each` places per row. */
const rowStarts = (batch: number, each: number): Tensor => numbers(batch, (b) => b * each, [batch, 1]);
/** Real places up to each one (B, N), and of the whole row (B, 1). */
function counted(mask: Tensor): { real: Tensor; counts: Tensor; total: Tensor } {
  const real = cast(mask, "f32"), counts = runningSum(real);
  return { real, counts, total: slice(counts, 1, mask.shape[1] - 1, 1) };
}

/** Real places first, in their order. */
export interface PackedRows {
  /** (B, N, D) */
  x: Tensor;
  /** u8 (B, N) */
  mask: Tensor;
  /** i32 (B, N): b * N + n of where each place went. */
  places: Tensor;
}

/** x (B, N, D), mask u8 (B, N). */
export function packRows(x: Tensor, mask: Tensor): PackedRows {
  const [batch, length, width] = x.shape, all = batch * length;
  const { real, counts, total } = counted(mask), empty = sub(one(), real);
  const place = sub(add(mul(counts, real), mul(add(total, runningSum(empty)), empty)), one());
  const places = cast(add(place, rowStarts(batch, length)), "i32");
  const from = cast(reshape(scatterAdd(numbers(all, (i) => i, [all, 1]), reshape(places, [all]), all), [all]), "i32");
  return { x: reshape(gatherRows(reshape(x, [all, width]), from), x.shape), mask: lt(numbers(length, (i) => i, [length]), total), places };
}

/** mask u8 (B, N) -> which of the keys the token behind them all, the last real one of its row, sees: u8 (B, N). */
export function seen(mask: Tensor, window: number): Tensor {
  const { real, counts, total } = counted(mask);
  return cast(mul(real, cast(lt(sub(total, counts), full([1], window)), "f32")), "u8");
}

/** The last `keep` real keys of each row, at the end of `keep` places: where they are now, i32 (B * keep) of b * stride + n, and which places hold one, u8 (B, keep). */
export function lastKeys(mask: Tensor, keep: number, stride: number): { from: Tensor; mask: Tensor } {
  const [batch, length] = mask.shape, rows = batch * keep;
  const { real, counts, total } = counted(mask), back = sub(total, counts);
  const kept = mul(real, cast(lt(back, full([1], keep)), "f32"));
  // what is not kept goes to one row behind all others
  const place = add(mul(kept, sub(add(rowStarts(batch, keep), full([1], keep - 1)), back)), mul(sub(one(), kept), full([1], rows)));
  const now = numbers(batch * length, (i) => Math.floor(i / length) * stride + (i % length), [batch, length, 1]);
  const from = scatterAdd(now, cast(place, "i32"), rows + 1);
  return { from: cast(reshape(slice(from, 0, 0, rows), [rows]), "i32"), mask: lt(numbers(keep, (i) => keep - 1 - i, [keep]), total) };
}
