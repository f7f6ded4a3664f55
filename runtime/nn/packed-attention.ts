import * as ops from "../ops/index.ts";
import { type Tensor, zeros } from "../tensor/index.ts";
import type { Initializer } from "./initializer.ts";
import { linear, truncatedNormal } from "./layers.ts";
import { entered, headsOf } from "./members.ts";
import { type Module, Parameter, collect } from "./parameter.ts";

export interface PackedAttentionInput {
  /** u8 (B, N), 1 = real. */
  keyMask?: Tensor;
  /** BEiT table (T, H), of the heads here, with the grid of its patches. */
  biasTable?: Tensor;
  grid?: readonly [height: number, width: number];
  /** Positions (B, N, D) or (N, D), added for queries and keys but not for values. */
  positional?: Tensor;
}

export interface PackedAttention extends Module {
  /** x (B, N, D) -> (B, N, D). */
  forward(x: Tensor, o?: PackedAttentionInput): Tensor;
}

/**
 * Self-attention with one weight for queries, keys and values, and no key bias (softmax would not notice one): BEiT's, VLMo's.
 * Names: qkv.weight (3D, D) in the order q, k, v; q_bias, v_bias (D); proj.*.
 */
export function packedAttention(o: { width: number; heads: number; init?: Initializer; projInit?: Initializer }): PackedAttention {
  const { width, heads, init = truncatedNormal(), projInit = init } = o;
  const qkv = linear({ in: width, out: 3 * width, bias: false, init });
  const q_bias = new Parameter([width], { kind: "zeros" });
  const v_bias = new Parameter([width], { kind: "zeros" });
  const proj = linear({ in: width, out: width, init: projInit });

  const project = (x: Tensor, positional: Tensor | undefined): Tensor[] => {
    const { dtype, size: width } = q_bias.value; // of the heads here
    if (positional === undefined) {
      const bias = ops.concat([q_bias.value, zeros([width], dtype), v_bias.value], 0);
      return ops.split(ops.linear(entered(x, qkv.weight), qkv.weight.value, bias), -1, [width, width, width]);
    }
    const [weightQk, weightV] = ops.split(qkv.weight.value, 0, [2 * width, width]);
    const biasQk = ops.concat([q_bias.value, zeros([width], dtype)], 0);
    const [q, k] = ops.split(ops.linear(entered(ops.add(x, positional), qkv.weight), weightQk, biasQk), -1, [width, width]);
    return [q, k, ops.linear(entered(x, qkv.weight), weightV, v_bias.value)];
  };

  return {
    parameters: () => collect({ qkv, q_bias, v_bias, proj }),
    forward(x, { keyMask, biasTable, grid, positional } = {}) {
      const [q, k, v] = project(x, positional);
      return proj.forward(ops.attention({ q, k, v, keyMask, biasTable, grid, heads: headsOf(heads, qkv.weight.split).heads }));
    },
  };
}
