/**
 * Context parallelism: the tokens of a sequence are shared out over a group, each member has the run of tokens that its rank says. Only attention
 * looks at the others' tokens, so keys and values travel round the ring of members while queries stay.
 *
 * CP-1: forward and backward are those of attention over the whole sequence, to rounding: each block of keys gives y and lse, which are merged;
 *       backward takes the merged lse and y for every block, so that each block gives its share of the exact gradients.
 * CP-2: a member holds its own keys and values and one more block of them, never all.
 * CP-3: all members make the same calls in the same order, also where causality leaves them nothing to compute.
 * Source: Liu et al. 2023 (ring attention); Dao et al. 2022 (lse and delta in backward).
 */
import { defineOp, withoutRecording } from "../../autograd/index.ts";
import { RuntimeError } from "../../errors.ts";
import type { TokenShare } from "../../nn/index.ts";
import { type AttentionInput, cast } from "../../ops/index.ts";
import { type DType, type Tensor, accumulate, allocate, kernel, widened, zeros } from "../../tensor/index.ts";
import { enter, gather, part } from "../groups/collective-ops.ts";
import type { Group } from "../groups/collectives.ts";
import type { TensorPlace } from "./tensor-parallel.ts";

const attentionForward = kernel("attention_forward");
const attentionBackward = kernel("attention_backward");
const attentionMerge = kernel("attention_merge");

/** What a context group does for stacks of layers. */
export const tokenShare = ({ rank, size, group }: TensorPlace): TokenShare => ({
  index: rank,
  count: size,
  part: (x, axis) => part(x, group(), axis),
  gather: (x, axis) => gather(x, group(), axis),
  enter: (value) => enter(value, group()),
  attention: (input) => ringAttention(input, group()),
});

/** Attention of own queries over the keys of all members: q (B, n, H*K), k, v (B, n, KV*K), keyMask u8 (B, n) -> (B, n, H*K). */
export function ringAttention(input: AttentionInput, group: Group): Tensor {
  const refused = (["biasTable", "window", "groups", "boundaries"] as const).find((rule) => input[rule] !== undefined) ?? (input.dropout?.p ? "dropout" : undefined);
  if (refused) throw new RuntimeError("ERR_PLAN", `attention: ${refused} speaks of places in the whole sequence, whose tokens are shared out over group ${group.name}. Give the component a layout without context.`, { rule: refused });
  return ringAttentionOp(input.q, input.k, input.v, input, group);
}

interface Keys {
  k: Tensor;
  v: Tensor;
  mask?: Tensor;
}

/** Visits the blocks of keys in the order in which they come by: own first, then that of the rank before, and so on. Frees what came. */
function roundTheRing(group: Group, own: Keys, visit: (keys: Keys, from: number, last: boolean) => void): void {
  let keys = own;
  for (let turn = 0; turn < group.size; turn++) {
    const last = turn === group.size - 1;
    visit(keys, (group.rank - turn + group.size) % group.size, last);
    const next = last ? undefined : { k: group.rotate(keys.k), v: group.rotate(keys.v), mask: keys.mask && group.rotate(keys.mask) };
    if (keys !== own) release(keys.k, keys.v, keys.mask);
    if (next) keys = next;
  }
}

function release(...tensors: readonly (Tensor | undefined)[]): void {
  for (const tensor of tensors) tensor?.dispose();
}

const ringAttentionOp = defineOp({
  name: "ring_attention",
  operands: ["q", "k", "v"],
  forward(q: Tensor, k: Tensor, v: Tensor, { keyMask, heads, kvHeads = heads, causal = false, scale }: AttentionInput, group: Group) {
    const [batch, tokens, width] = q.shape;
    const scalars = (masked: boolean): number[] => [heads, kvHeads, Number(masked), 0, 0, scale ?? (width / heads) ** -0.5];
    const part = (keys: Keys, masked: boolean): { y: Tensor; lse: Tensor } => {
      const y = allocate(q.shape, q.dtype), lse = allocate([batch, heads, tokens], widened(q.dtype));
      attentionForward([q, keys.k, keys.v, keys.mask, undefined, y, lse], scalars(masked));
      return { y, lse };
    };
    let merged: { y: Tensor; lse: Tensor } | undefined;
    roundTheRing(group, { k, v, mask: keyMask }, (keys, from) => {
      if (causal && from > group.rank) return;
      const { y, lse } = part(keys, causal && from === group.rank);
      if (merged) {
        attentionMerge([merged.y, merged.lse, y, lse], [heads]);
        release(y, lse);
      } else {
        merged = { y: inDtype(y, widened(q.dtype)), lse };
      }
    });
    const output = inDtype(merged!.y, q.dtype);
    return { output, saves: { q, k, v, keyMask, y: output, lse: merged!.lse, causal, scalars, group } };
  },
  gradients: {
    "q, k, v": (dy, { q, k, v, keyMask, y, lse, causal, scalars, group }) => {
      const wide = widened(q.dtype), dq = zeros(q.shape, wide);
      let sums = { k: zeros(k.shape, wide), v: zeros(v.shape, wide) };
      roundTheRing(group, { k, v, mask: keyMask }, (keys, from) => {
        if (!causal || from <= group.rank) {
          const parts = [q, k, v].map(({ shape, dtype }) => allocate(shape, dtype));
          attentionBackward([dy, q, keys.k, keys.v, keys.mask, undefined, y, lse, ...parts, undefined], scalars(causal && from === group.rank));
          [dq, sums.k, sums.v].forEach((sum, i) => accumulate(parts[i], sum));
          release(...parts);
        }
        const onward = { k: group.rotate(sums.k), v: group.rotate(sums.v) }; // after the last turn they are home
        release(sums.k, sums.v);
        sums = onward;
      });
      return [inDtype(dq, q.dtype), inDtype(sums.k, k.dtype), inDtype(sums.v, v.dtype)];
    },
  },
});

/** The tensor in this dtype; another one takes its place. */
function inDtype(x: Tensor, dtype: DType): Tensor {
  if (x.dtype === dtype) return x;
  const result = withoutRecording(() => cast(x, dtype as "f64" | "f32" | "bf16")); // attention has checked that it computes with it
  x.dispose();
  return result;
}
