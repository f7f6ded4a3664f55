/**
 * One row per kernel of the engine: what it is launched with, and what it has to move or to compute.
 *
 * RO-1: bytes are counted as McCalpin's STREAM does: what the kernel has to read and to write, once each, whatever the caches make of it.
 * RO-2: a kernel whose time is in products has `flop`; every other one is measured in bytes.
 * Shape letters: R rows, C columns, V vocabulary, B samples, H heads, N tokens, K head width.
 */
import { type DType, bytesPerElement, sizeOf } from "../../../runtime/tensor/index.ts";

/** "noise" in [-0.5, 0.5), "positive" in [0.1, 1.1), "ones", or whole numbers 0 .. below - 1 that look scattered. */
export interface Operand { shape: readonly number[]; dtype: DType; fill: "noise" | "positive" | "ones" | { below: number }; updated?: boolean }
/** `updated` operands are read and written. An undefined operand is absent. */
export interface Row { kernel: string; operands: readonly (Operand | undefined)[]; scalars: readonly number[]; bytes: number; flop?: number }

export const bytesOf = ({ shape, dtype }: Operand): number => sizeOf(shape) * bytesPerElement(dtype);

const f32 = (...shape: number[]): Operand => ({ shape, dtype: "f32", fill: "noise" });
const f64 = (...shape: number[]): Operand => ({ shape, dtype: "f64", fill: "noise" });
const positive = (...shape: number[]): Operand => ({ shape, dtype: "f32", fill: "positive" });
const ids = (below: number, ...shape: number[]): Operand => ({ shape, dtype: "i32", fill: { below } });
const mask = (...shape: number[]): Operand => ({ shape, dtype: "u8", fill: { below: 2 } });
const updated = (operand: Operand): Operand => ({ ...operand, updated: true });
const bf16 = (operand: Operand): Operand => ({ ...operand, dtype: "bf16" });

type Extra = { scalars?: readonly number[]; bytes?: number; flop?: number };
function row(kernel: string, operands: readonly (Operand | undefined)[], { scalars = [], bytes, flop }: Extra = {}): Row {
  const moved = operands.reduce((sum, o) => sum + (o ? bytesOf(o) * (o.updated ? 2 : 1) : 0), 0);
  return { kernel, operands, scalars, bytes: bytes ?? moved, ...(flop === undefined ? {} : { flop }) };
}

/** The kernels whose speed is memory's once their arrays are large: norms, activations, optimizers. `x(...)` makes an activation. */
export function memoryRows(R: number, C: number, activation: "f32" | "bf16"): Row[] {
  const x = (...shape: number[]): Operand => (activation === "bf16" ? bf16(f32(...shape)) : f32(...shape)), full = x(R, C), eps = [1e-6];
  const activations = ["gelu", "silu", "quick_gelu"].flatMap((name) => [row(`${name}_forward`, [full, full]), row(`${name}_backward`, [full, full, full])]);
  return [
    row("layer_norm_forward", [full, f32(C), f32(C), full, f32(R), f32(R)], { scalars: eps }),
    row("layer_norm_backward_input", [full, full, f32(C), f32(R), positive(R), full]),
    row("layer_norm_backward_affine", [full, full, f32(R), positive(R), f32(C), f32(C)]),
    row("rms_norm_forward", [full, f32(C), full, f32(R)], { scalars: eps }),
    row("rms_norm_backward_input", [full, full, f32(C), positive(R), full]),
    row("rms_norm_backward_weight", [full, full, positive(R), f32(C)]),
    ...activations,
    row("swiglu_forward", [full, full, full]),
    row("swiglu_backward", [full, full, full, full, full]),
    row("softmax_forward", [full, full]),
    row("softmax_backward", [full, full, full]),
  ];
}

/** Parameters, gradients and state are f32 whatever the activations are. AdamW moves 28 bytes per element. */
export function optimizerRows(R: number, C: number): Row[] {
  const g = f32(R, C), p = updated(f32(R, C)), v = updated(positive(R, C)), part = R / 4;
  const parts = (make: () => Operand[]): Operand[] => Array.from({ length: 4 }, make).flat(), decays = Array.from({ length: 4 }, () => 0.01);
  const [pp, pg, pv] = [updated(f32(part, C)), f32(part, C), updated(positive(part, C))], numbers: Operand = { shape: [3], dtype: "f64", fill: "ones" };
  return [
    row("adamw", [p, g, p, v], { scalars: [1e-3, 0.9, 0.999, 1e-8, 0.01, 10, 0.5] }),
    row("adamw_many", [...parts(() => [pp, pg, pp, pv]), numbers], { scalars: [0.9, 0.999, 1e-8, ...decays] }),
    row("sgd", [p, g, p], { scalars: [1e-3, 0.9, 0.01, 0.5] }),
    row("sgd_many", [...parts(() => [pp, pg, pp]), numbers], { scalars: [0.9, ...decays] }),
    row("ema", [p, g], { scalars: [0.999] }),
    row("ema_many", parts(() => [pp, pg]), { scalars: [0.999] }),
    row("accumulate_many", parts(() => [pg, pp])),
  ];
}

function elementwise(R: number, C: number): Row[] {
  const x = f32(R, C), some = positive(R, C), bias = f32(C);
  const unary = ["relu", "tanh", "sigmoid", "sin", "cos", "exp", "abs"].map((name) => [name, x] as const), above = ["sqrt", "log"].map((name) => [name, some] as const);
  return [
    ...[...unary, ...above].flatMap(([name, from]) => [row(`${name}_forward`, [from, x]), row(`${name}_backward`, [x, from, x])]),
    row("clamp_forward", [x, x], { scalars: [-0.25, 0.25] }), row("clamp_backward", [x, x, x], { scalars: [-0.25, 0.25] }),
    row("power_forward", [some, x], { scalars: [1.5] }), row("power_backward", [x, some, x], { scalars: [1.5] }),
    ...["add", "sub", "mul", "div"].map((name) => row(name, [x, some, x])),
    ...["eq", "ne", "lt", "le", "gt", "ge"].map((name) => row(name, [x, some, mask(R, C)])),
    row("where", [mask(R, C), x, x, x]),
    row("sum_to", [x, bias]),
    row("scale", [x, x], { scalars: [0.5] }), row("accumulate", [x, updated(x)]),
    row("fill", [x], { scalars: [0] }), row("copy", [x, x]), row("cast", [x, ids(9, R, C)]),
    row("dropout", [x, ids(1e6, R), x], { scalars: [0.1, 7, 0, 3, 5] }), row("philox_uniform", [x], { scalars: [1, 2, 3, 4] }),
    row("sum_all", [x, f32(1)]), row("sum_all_backward", [f32(1), x]), row("sum_squares", [x, f64(4)], { scalars: [1] }), row("collect", [x, f64(R * C)]), row("update_numbers", [f64(R * C), f64(2), f64(3), f64(1)], { scalars: [1] }),
  ];
}

function rowwise(R: number, C: number): Row[] {
  const x = f32(R, C), perRow = f32(R), some = positive(R);
  return [
    row("l2_normalize_forward", [x, x, perRow]), row("l2_normalize_backward", [x, x, some, x]),
    row("logsumexp_forward", [x, perRow]), row("logsumexp_backward", [perRow, x, some, x]),
    row("row_norm_forward", [x, perRow]), row("row_norm_backward", [perRow, x, some, x]),
    row("log_softmax_forward", [x, x]), row("log_softmax_backward", [x, x, x]),
    row("top_k_forward", [x, f32(R, 4), ids(C, R, 4)], { scalars: [4] }), row("top_k_backward", [f32(R, 4), ids(C, R, 4), x], { scalars: [4] }),
    row("mask_rows_forward", [x, mask(R), f32(C), x]), row("mask_rows_backward", [x, mask(R), x, f32(C)]),
    row("masked_mean_forward", [f32(8, R / 8, C), mask(8, R / 8), f32(8, C)]), row("masked_mean_backward", [f32(8, C), mask(8, R / 8), f32(8, R / 8, C)]),
    row("rope", [x, ids(512, R), f32(C / 16), x], { scalars: [8, 1] }),
  ];
}

function losses(R: number, C: number): Row[] {
  const x = f32(R, C), one = f32(1), perRow = f32(R), weight = [1], boxes = positive(R, 4), logits = f32(R / 4, 4 * C), labels = ids(4 * C, R / 4), plain = [1, 0, 0, 0, 0];
  const pairs = (name: string, of: Operand): Row[] => [row(`${name}_forward`, [of, of, one], { scalars: weight }), row(`${name}_backward`, [one, of, of, of], { scalars: weight })];
  return [
    row("bce_forward", [perRow, ids(2, R), one], { scalars: weight }), row("bce_backward", [one, perRow, ids(2, R), perRow], { scalars: weight }),
    ...pairs("box_l1", boxes), ...pairs("box_giou", boxes), ...pairs("squared_error", x), ...pairs("absolute_error", x), ...pairs("cosine_loss", x), ...pairs("kl_divergence", x),
    row("cross_entropy_forward", [logits, labels, one, f32(R / 4)], { scalars: plain }),
    row("cross_entropy_backward", [one, logits, labels, f32(R / 4), logits], { scalars: plain }),
  ];
}

function moves(R: number, C: number): Row[] {
  const x = f32(R, C), V = 2 * R, table = f32(V, C), half = f32(R, C / 2), images = f32(4, 3, 256, 256), patches = f32(4, 256, 768), smaller = f32(4, 3, 224, 224);
  const gathered = { bytes: 2 * bytesOf(x) + 4 * R }, scattered = { bytes: bytesOf(x) + 4 * R + bytesOf(table) };
  return [
    row("gather_rows_forward", [table, ids(V, R), x], gathered), row("gather_rows_backward", [x, ids(V, R), table], scattered),
    row("index_select_forward", [table, ids(V, R), x], { ...gathered, scalars: [0] }), row("index_select_backward", [x, ids(V, R), table], { ...scattered, scalars: [0] }),
    row("slice_forward", [x, half], { scalars: [1, 0], bytes: 2 * bytesOf(half) }), row("slice_backward", [half, x], { scalars: [1, 0] }),
    row("concat", [half, half, x], { scalars: [1] }), row("write_rows", [f32(8, R / 8, C), ids(1, 1), f32(8, R / 4, C)], { bytes: 2 * bytesOf(f32(R, C)) }), row("permute", [f32(8, R / 8, 8, C / 8), f32(8, 8, R / 8, C / 8)], { scalars: [0, 2, 1, 3] }),
    row("patchify_forward", [images, patches], { scalars: [16] }), row("patchify_backward", [patches, images], { scalars: [16] }),
    row("resize_forward", [images, smaller], { scalars: [0] }), row("resize_backward", [smaller, images], { scalars: [0] }),
  ];
}

function products(R: number, C: number): Row[] {
  const O = 4 * C, [x, w, bias, y] = [f32(R, C), f32(O, C), f32(O), f32(R, O)], flop = 2 * R * C * O;
  const [B, N, H, K] = [4, 257, 8, 32], q = f32(B, N, H * K), lse = f32(B, H, N), table = f32(31 * 31 + 3, H), scalars = [H, H, 0, 16, 16, K ** -0.5], pairs = B * H * N * N * K;
  return [
    row("linear_forward", [x, w, bias, y], { flop }), row("linear_backward_input", [y, w, x], { flop }),
    row("linear_backward_weight", [y, x, w], { flop }), row("linear_backward_bias", [y, bias]),
    row("matmul", [f32(512, 512), f32(512, 512), f32(512, 512)], { scalars: [0, 0], flop: 2 * 512 ** 3 }),
    row("attention_forward", [q, q, q, undefined, table, q, lse], { scalars, flop: 4 * pairs }),
    row("attention_backward", [q, q, q, q, undefined, table, q, lse, q, q, q, table], { scalars, flop: 10 * pairs }),
    row("attention_merge", [updated(q), updated(lse), q, lse], { scalars: [H] }),
    row("nearest_code", [f32(1024, 32), f32(512, 32), ids(512, 1024)], { flop: 3 * 1024 * 512 * 32 }),
  ];
}

/** The kernel that this one is the CUDA twin of, or itself: an addon built with CUDA has both. */
export const twinOf = (kernel: string): string => kernel.replace(/_cuda$/, "");

/** The kernels that have no row; twins share one. */
export const withoutRow = (kernels: readonly string[], rows: readonly Row[]): string[] => {
  const named = new Set(rows.map(({ kernel }) => kernel));
  return kernels.filter((kernel) => !named.has(twinOf(kernel)));
};

/** A row for every kernel: R x C activations. */
export function everyRow(R: number, C: number): Row[] {
  return [...memoryRows(R, C, "f32"), ...optimizerRows(R, C), ...elementwise(R, C), ...rowwise(R, C), ...losses(R, C), ...moves(R, C), ...products(R, C)];
}
