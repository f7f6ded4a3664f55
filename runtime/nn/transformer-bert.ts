import * as ops from "../ops/index.ts";
import type { Tensor } from "../tensor/index.ts";
import { layerNorm, linear, normal } from "./layers.ts";
import { entered, headsOf } from "./members.ts";
import { type Module, collect } from "./parameter.ts";

export interface BertLayer extends Module {
  /** x (B, N, D), keyMask u8 (B, N) -> (B, N, D). */
  forward(x: Tensor, o?: { keyMask?: Tensor }): Tensor;
}

/**
 * x = norm(x + attention(x)); x = norm(x + ffn(x)), GELU, biases everywhere. Source: Devlin et al. 2018.
 * Names: attention.self.{query,key,value}.*, attention.output.dense.*, attention.output.LayerNorm.*, intermediate.dense.*,
 * output.dense.*, output.LayerNorm.*. The key bias has a gradient of exactly zero, as mathematics has it.
 */
export function bertLayer({ width, heads, hidden = 4 * width, eps = 1e-12 }: { width: number; heads: number; hidden?: number; eps?: number }): BertLayer {
  const project = (from: number, to: number) => linear({ in: from, out: to, init: normal() });
  const query = project(width, width), key = project(width, width), value = project(width, width), dense = project(width, width);
  const attentionNorm = layerNorm({ width, eps });
  const up = project(width, hidden), down = project(hidden, width);
  const outputNorm = layerNorm({ width, eps });
  return {
    parameters: () => collect({
      "attention.self.query": query, "attention.self.key": key, "attention.self.value": value,
      "attention.output.dense": dense, "attention.output.LayerNorm": attentionNorm,
      "intermediate.dense": up, "output.dense": down, "output.LayerNorm": outputNorm,
    }),
    forward(x, { keyMask } = {}) {
      const shared = entered(x, query.weight), [q, v] = [query, value].map((part) => part.forward(x, undefined, shared));
      const k = ops.linear(shared, key.weight.value, ops.zeroGradient(key.bias!.value));
      const seen = ops.attention({ q, k, v, keyMask, heads: headsOf(heads, query.weight.split).heads });
      x = attentionNorm.forward(ops.add(x, dense.forward(seen)));
      return outputNorm.forward(ops.add(x, down.forward(ops.gelu(up.forward(x)))));
    },
  };
}
