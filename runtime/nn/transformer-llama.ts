import * as ops from "../ops/index.ts";
import type { Tensor } from "../tensor/index.ts";
import { linear, normal, rmsNorm, swigluFeedForward } from "./layers.ts";
import { type Module, collect } from "./parameter.ts";

export interface LlamaLayerOptions {
  width: number;
  heads: number;
  kvHeads?: number;
  /** Default width / heads. */
  headDim?: number;
  hidden: number;
  eps?: number;
}

/** Keys (after rotation) and values of the positions so far, (B, N, KV*K). Inference only. The cache owns its tensors. */
export interface KeyValueCache {
  k?: Tensor;
  v?: Tensor;
}

export interface LlamaLayerInput {
  /** i32 (B, N): positions of the tokens in x. */
  positions: Tensor;
  /** (K/2) on the device. */
  invFreq: Tensor;
  /** u8 (B, Nk) over all keys, those in the cache first. */
  keyMask?: Tensor;
  causal: boolean;
  /** Sliding window, with `causal`: Mistral's. */
  window?: number;
  /** S2-Attn, training only: N is a multiple of the group size. */
  groups?: ops.AttentionGroups;
  /** Extended by this call; x holds only the tokens that are not in it yet. */
  cache?: KeyValueCache;
}

export interface LlamaLayer extends Module {
  /** x (B, N, D) -> (B, N, D). */
  forward(x: Tensor, o: LlamaLayerInput): Tensor;
}

/**
 * x += o(attention(rmsnorm(x))) with rotary positions and grouped queries; x += swiglu(rmsnorm(x)). Source: Touvron et al. 2023.
 * Names: self_attn.{q,k,v,o}_proj.weight, mlp.{gate,up,down}_proj.weight, input_layernorm.weight, post_attention_layernorm.weight.
 */
export function llamaLayer({ width, heads, kvHeads = heads, headDim = width / heads, hidden, eps = 1e-5 }: LlamaLayerOptions): LlamaLayer {
  const project = (from: number, to: number) => linear({ in: from, out: to, bias: false, init: normal() });
  const q_proj = project(width, heads * headDim), o_proj = project(heads * headDim, width);
  const k_proj = project(width, kvHeads * headDim), v_proj = project(width, kvHeads * headDim);
  const self_attn: Module = { parameters: () => collect({ q_proj, k_proj, v_proj, o_proj }) };
  const feedForward = swigluFeedForward({ width, hidden });
  const input_layernorm = rmsNorm({ width, eps }), post_attention_layernorm = rmsNorm({ width, eps });

  return {
    parameters: () => collect({ self_attn, mlp: feedForward, input_layernorm, post_attention_layernorm }),
    forward(x, { positions, invFreq, keyMask, causal, window, groups, cache }) {
      const h = input_layernorm.forward(x);
      const q = ops.rope(q_proj.forward(h), positions, invFreq, { heads });
      let k = ops.rope(k_proj.forward(h), positions, invFreq, { heads: kvHeads });
      let v = v_proj.forward(h);
      if (cache) {
        k = cache.k = extend(cache.k, k);
        v = cache.v = extend(cache.v, v);
      }
      x = ops.add(x, o_proj.forward(ops.attention({ q, k, v, keyMask, heads, kvHeads, causal, window, groups })));
      return ops.add(x, feedForward.forward(post_attention_layernorm.forward(x)));
    },
  };
}

/** The cache with more positions: it leaves the scope, the former tensor is freed. */
function extend(cached: Tensor | undefined, more: Tensor): Tensor {
  const whole = cached === undefined ? more : ops.concat([cached, more], 1);
  whole.scope?.keep(whole);
  cached?.dispose();
  return whole;
}

export function releaseCache(cache: KeyValueCache): void {
  cache.k?.dispose();
  cache.v?.dispose();
  cache.k = cache.v = undefined;
}
