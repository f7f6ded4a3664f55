import { ShapeError } from "../errors.ts";
import { defineOp } from "../autograd/index.ts";
import { type Tensor, kernel } from "../tensor/index.ts";
import { type AttentionRules, attentionRules } from "./attention-rules.ts";
import { like, needDtype, needFloat, needShape, wide } from "./check.ts";

const attentionForward = kernel("attention_forward");
const attentionBackward = kernel("attention_backward");
const ropeKernel = kernel("rope");

export interface AttentionInput extends AttentionRules {
  /** (B, Nq, H*K) */
  q: Tensor;
  /** (B, Nk, KV*K) */
  k: Tensor;
  /** (B, Nk, KV*K) */
  v: Tensor;
  /** u8 (B, Nk), 1 = real key. A query without a visible key gives zeros. */
  keyMask?: Tensor;
  /** BEiT relative position bias (T, H), T = (2gh-1)(2gw-1)+3, with `grid`: gathered in the kernel, row 0 and column 0 are CLS. */
  biasTable?: Tensor;
  heads: number;
  /** Defaults to `heads`. Query head h reads key head floor(h / (heads / kvHeads)). */
  kvHeads?: number;
  /** Query i sees key j iff j <= i + (Nk - Nq): the queries are the last Nq positions. */
  causal?: boolean;
  grid?: readonly [height: number, width: number];
  /** Defaults to K^(-1/2). */
  scale?: number;
}

/**
 * softmax(q kᵀ scale + bias, masked) v per head, without ever storing the (Nq, Nk) scores -> (B, Nq, H*K).
 * A key is seen if every rule given lets it be seen. Throws ShapeError; boundaries out of order are an ERR_DEVICE of the kernel.
 * Sources: Vaswani et al. 2017; Ainslie et al. 2023 (grouped queries); Bao et al. 2021 (bias table).
 */
export const attention = (input: AttentionInput): Tensor =>
  attentionOp(input.q, input.k, input.v, input.biasTable, input);

const attentionOp = defineOp({
  name: "attention",
  operands: ["q", "k", "v", "biasTable"],
  forward(q: Tensor, k: Tensor, v: Tensor, biasTable: Tensor | undefined, input: AttentionInput) {
    const { keyMask, heads } = input;
    const plain = checkAttention(input);
    const rules = attentionRules(input, { batch: q.shape[0], queries: q.shape[1], keys: k.shape[1], heads, causal: input.causal ?? false, biasTable: biasTable !== undefined, shape: q.shape });
    const scalars = [...plain, ...rules.scalars], extra = rules.operands;
    const y = like(q);
    const lse = wide([q.shape[0], heads, q.shape[1]], q);
    attentionForward([q, k, v, keyMask, biasTable, y, lse, ...extra], scalars);
    return { output: y, saves: { q, k, v, keyMask, biasTable, y, lse, scalars, extra } };
  },
  gradients: {
    "q, k, v, biasTable": (dy, { q, k, v, keyMask, biasTable, y, lse, scalars, extra }) => {
      const dq = like(q), dk = like(k), dv = like(v), dbias = biasTable && like(biasTable);
      attentionBackward([dy, q, k, v, keyMask, biasTable, y, lse, dq, dk, dv, dbias, ...extra], scalars);
      return [dq, dk, dv, dbias];
    },
  },
});

function checkAttention({ q, k, v, keyMask, biasTable, heads, kvHeads = heads, causal = false, grid, scale }: AttentionInput): number[] {
  needFloat("attention", "q", q);
  needFloat("attention", "k", k, q.dtype);
  needFloat("attention", "v", v, q.dtype);
  needShape("attention", "q", q, ["B", "Nq", "H*K"], "Queries of all heads lie side by side in the last dimension.");
  const [batch, queries, width] = q.shape;
  const fail = (operand: string, expected: string, fix: string): never => {
    throw new ShapeError({ op: "attention", operand, expected, got: operand === "k" ? k.shape : q.shape, fix });
  };
  if (width % heads !== 0) fail("q", `a last dimension divisible by ${heads} heads`, "Width is heads times head width.");
  if (heads % kvHeads !== 0) fail("k", `heads (${heads}) divisible by key heads (${kvHeads})`, "Each key head serves the same number of query heads.");
  const headWidth = width / heads;
  needShape("attention", "k", k, [batch, "Nk", kvHeads * headWidth], `${kvHeads} key heads of the query's head width ${headWidth}.`);
  needShape("attention", "v", v, k.shape, "One value per key.");
  const keys = k.shape[1];
  if (causal && keys < queries) fail("k", `at least ${queries} keys for a causal mask`, "The queries are the last positions of the keys.");
  if (keyMask) needDtype("attention", "keyMask", keyMask, "u8");
  if (keyMask) needShape("attention", "keyMask", keyMask, [batch, keys], "One flag per key, 1 = real.");
  if (biasTable) {
    if (!grid) fail("q", "a grid with the bias table", "Pass grid: [rows, columns] of the patches.");
    const [height, gridWidth] = grid!;
    needFloat("attention", "biasTable", biasTable, q.dtype);
    needShape("attention", "biasTable", biasTable, [(2 * height - 1) * (2 * gridWidth - 1) + 3, heads],
      `(2h-1)(2w-1)+3 rows for the grid ${height} x ${gridWidth}, one column per head.`);
    if (queries !== 1 + height * gridWidth || keys !== queries) {
      fail("q", `${1 + height * gridWidth} tokens (CLS and ${height} x ${gridWidth} patches)`, "The bias table speaks about CLS and patches only.");
    }
  }
  const [gridHeight, gridWidth] = biasTable ? grid! : [0, 0];
  return [heads, kvHeads, Number(causal), gridHeight, gridWidth, scale ?? headWidth ** -0.5];
}

/**
 * Rotary positions: x (B, N, H*K), positions i32 (B, N), invFreq (K/2) -> like x. Element i of a head pairs with i + K/2.
 * Angles are computed in f32 (f64 for f64 tensors); for bf16 tensors give f32 frequencies. Source: Su et al. 2021.
 */
export const rope = defineOp({
  name: "rope",
  operands: ["x"],
  forward(x: Tensor, positions: Tensor, invFreq: Tensor, { heads }: { heads: number }) {
    needFloat("rope", "x", x);
    needFloat("rope", "invFreq", invFreq, x.dtype);
    needShape("rope", "x", x, ["B", "N", 2 * invFreq.size * heads], `${heads} heads of twice the ${invFreq.size} frequencies.`);
    needDtype("rope", "positions", positions, "i32");
    needShape("rope", "positions", positions, [x.shape[0], x.shape[1]], "One position per token.");
    return { output: rotate(x, positions, invFreq, heads, 1), saves: { positions, invFreq, heads } };
  },
  gradients: { x: (dy, { positions, invFreq, heads }) => rotate(dy, positions, invFreq, heads, -1) },
});

function rotate(x: Tensor, positions: Tensor, invFreq: Tensor, heads: number, direction: 1 | -1): Tensor {
  const y = like(x);
  ropeKernel([x, positions, invFreq, y], [heads, direction]);
  return y;
}
