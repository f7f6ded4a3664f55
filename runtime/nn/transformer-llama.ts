import * as ops from "../ops/index.ts";
import { type Tensor, fnv1a32, owned, writeRows, zeros } from "../tensor/index.ts";
import { type Randomness, drawnBy } from "./drop-path.ts";
import { type Embedding, type Linear, linear, normal, rmsNorm, swigluFeedForward } from "./layers.ts";
import type { Adaptable } from "./lora.ts";
import { entered, headsOf } from "./members.ts";
import { type Module, collect } from "./parameter.ts";
import type { TensorPlan } from "./tensor-plan.ts";
import type { TokenShare } from "./token-share.ts";

export interface LlamaLayerOptions {
  width: number;
  heads: number;
  kvHeads?: number;
  /** Default width / heads. */
  headDim?: number;
  hidden: number;
  eps?: number;
  /** Of the weights of attention, while training, keyed by the layer's place in the model: `name`. */
  dropout?: { p: number; name: string };
}

/**
 * Keys (after rotation) and values, (B, C, KV*K): room for C positions, zeros where nothing was written. Inference only. Its tensors are
 * made by the first call, belong to the cache and keep their shape from token to token, so that a decoding step can be compiled.
 */
export interface KeyValueCache {
  /** C */
  readonly capacity: number;
  k?: Tensor;
  v?: Tensor;
}

export interface LlamaLayerInput {
  /** i32 (B, N): positions of the tokens in x. */
  positions: Tensor;
  /** (K/2) on the device. */
  invFreq: Tensor;
  /** u8 (B, Nk) over all keys. With a cache, attention looks at its first Nk positions. */
  keyMask?: Tensor;
  causal: boolean;
  /** Sliding window, with `causal`: Mistral's. */
  window?: number;
  /** S2-Attn, training only: N is a multiple of the group size. */
  groups?: ops.AttentionGroups;
  /** Written by this call from position `at`, i32 (1), on; x holds only those tokens. Needs keyMask. */
  cache?: { at: Tensor; room: KeyValueCache };
  /** What dropout is keyed by, in attention and in adapters. */
  keys?: Randomness;
  /** Where x holds this member's tokens only (`overTokens`). */
  share?: TokenShare;
}

export interface LlamaLayer extends Module {
  /** By name within the layer: `self_attn.q_proj`. */
  readonly linears: Readonly<Record<string, Linear>>;
  /** x (B, N, D) -> (B, N, D). */
  forward(x: Tensor, o: LlamaLayerInput): Tensor;
}

/** The parts of a stack that adapters can lie on, by name: `embed_tokens`, `layers.0.self_attn.q_proj`. */
export const llamaParts = (table: Embedding, layers: readonly LlamaLayer[]): Record<string, Adaptable> => ({
  embed_tokens: table, ...Object.fromEntries(layers.flatMap(({ linears }, i) => Object.entries(linears).map(([name, part]) => [`layers.${i}.${name}`, part]))),
});

/** How layers under this path are shared out: by heads, and by hidden numbers of the feed-forward. */
export const llamaTensorPlan = (path: string): Pick<TensorPlan, "column" | "row"> => ({
  column: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"].map((part) => `${path}.${part}`),
  row: ["self_attn.o_proj", "mlp.down_proj"].map((part) => `${path}.${part}`),
});

/**
 * x += o(attention(rmsnorm(x))) with rotary positions and grouped queries; x += swiglu(rmsnorm(x)). Source: Touvron et al. 2023.
 * Names: self_attn.{q,k,v,o}_proj.weight, mlp.{gate,up,down}_proj.weight, input_layernorm.weight, post_attention_layernorm.weight.
 */
export function llamaLayer({ width, heads, kvHeads = heads, headDim = width / heads, hidden, eps = 1e-5, dropout }: LlamaLayerOptions): LlamaLayer {
  const project = (from: number, to: number) => linear({ in: from, out: to, bias: false, init: normal() });
  const q_proj = project(width, heads * headDim), o_proj = project(heads * headDim, width);
  const k_proj = project(width, kvHeads * headDim), v_proj = project(width, kvHeads * headDim);
  const projections = { q_proj, k_proj, v_proj, o_proj };
  const self_attn: Module = { parameters: () => collect(projections) };
  const feedForward = swigluFeedForward({ width, hidden });
  const input_layernorm = rmsNorm({ width, eps }), post_attention_layernorm = rmsNorm({ width, eps });

  const under = (path: string, linears: Record<string, Linear>) => Object.fromEntries(Object.entries(linears).map(([name, part]) => [`${path}.${name}`, part]));
  const dropped = (keys: Randomness | undefined): ops.AttentionDropout | undefined => {
    if (!dropout?.p || !keys?.training) return undefined;
    return { p: dropout.p, ...drawnBy(keys), site: fnv1a32(`${dropout.name}.self_attn`), firstHead: headsOf(heads, q_proj.weight.split).firstHead };
  };

  return {
    linears: { ...under("self_attn", projections), ...under("mlp", feedForward.linears) },
    parameters: () => collect({ self_attn, mlp: feedForward, input_layernorm, post_attention_layernorm }),
    forward(x, { positions, invFreq, keyMask, causal, window, groups, cache, keys, share }) {
      const h = input_layernorm.forward(x), shared = entered(h, q_proj.weight);
      const own = { heads: headsOf(heads, q_proj.weight.split).heads, kvHeads: headsOf(kvHeads, k_proj.weight.split).heads };
      const q = ops.rope(q_proj.forward(h, keys, shared), positions, invFreq, { heads: own.heads });
      let k = ops.rope(k_proj.forward(h, keys, shared), positions, invFreq, { heads: own.kvHeads });
      let v = v_proj.forward(h, keys, shared);
      if (cache) {
        k = written(cache.room, "k", k, cache.at, keyMask!.shape[1]);
        v = written(cache.room, "v", v, cache.at, keyMask!.shape[1]);
      }
      const seen = (share?.attention ?? ops.attention)({ q, k, v, keyMask, ...own, causal, window, groups, dropout: dropped(keys) });
      x = ops.add(x, o_proj.forward(seen, keys));
      return ops.add(x, feedForward.forward(post_attention_layernorm.forward(x), keys));
    },
  };
}

/** Numbers in table, layers and final norm of a stack, adapters not counted. */
export function llamaStackSize(o: { vocabulary: number; width: number; layers: number; heads: number; kvHeads: number; headDim: number; hidden: number }): number {
  const layer = o.width * o.headDim * 2 * (o.heads + o.kvHeads) + 3 * o.width * o.hidden + 2 * o.width;
  return o.vocabulary * o.width + o.layers * layer + o.width;
}

/** Puts more positions into the cache; its first `count` positions. */
function written(room: KeyValueCache, which: "k" | "v", more: Tensor, at: Tensor, count: number): Tensor {
  const whole = room[which] ??= owned(zeros([more.shape[0], room.capacity, more.shape[2]], more.dtype));
  writeRows(more, at, whole);
  return count === room.capacity ? whole : ops.slice(whole, 1, 0, count);
}

/** A cache of the same positions with room for more; it takes the place of the old one, whose tensors are freed. */
export function growCache(cache: KeyValueCache, capacity: number): KeyValueCache {
  const grown = (room: Tensor | undefined): Tensor | undefined =>
    room && owned(ops.concat([room, zeros([room.shape[0], capacity - cache.capacity, room.shape[2]], room.dtype)], 1));
  const larger = { capacity, k: grown(cache.k), v: grown(cache.v) };
  releaseCache(cache);
  return larger;
}

/** A cache of `keep` places per row, taken from b * C + c `from`, i32 (B * keep), with room for more; it takes the place of the old one, whose tensors are freed. */
export function pickCache(cache: KeyValueCache, from: Tensor, keep: number, capacity: number): KeyValueCache {
  const picked = (room: Tensor | undefined): Tensor | undefined => {
    if (!room) return undefined;
    const [batch, before, width] = room.shape;
    const rows = ops.reshape(ops.gatherRows(ops.reshape(room, [batch * before, width]), from), [batch, keep, width]);
    return owned(ops.concat([rows, zeros([batch, capacity - keep, width], room.dtype)], 1));
  };
  const chosen = { capacity, k: picked(cache.k), v: picked(cache.v) };
  releaseCache(cache);
  return chosen;
}

export function releaseCache(cache: KeyValueCache): void {
  cache.k?.dispose();
  cache.v?.dispose();
  cache.k = cache.v = undefined;
}
