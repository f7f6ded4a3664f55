import * as ops from "../ops/index.ts";
import type { Shape, Tensor } from "../tensor/index.ts";
import type { Initializer } from "./initializer.ts";
import { layerNorm, normal } from "./layers.ts";
import { type Module, Parameter, collect } from "./parameter.ts";

/** How a random weight starts, by its name within the module and the deviation its authors gave it. */
export type Start = (name: string, shape: Shape, std: number) => Initializer;

export interface ClipBlockOptions {
  width: number;
  heads: number;
  /** Blocks of the tower: the last matrix of a branch starts smaller the more there are. */
  layers: number;
  eps?: number;
  start?: Start;
}

export interface ClipBlock extends Module {
  /** x (B, N, D), keyMask u8 (B, N) -> (B, N, D). */
  forward(x: Tensor, o?: { causal?: boolean; keyMask?: Tensor }): Tensor;
}

/**
 * x += attn(ln_1(x)); x += mlp(ln_2(x)), QuickGELU, biases everywhere. Source: Radford et al. 2021. Names: attn.in_proj_weight,
 * attn.in_proj_bias, attn.out_proj.*, ln_1.*, ln_2.*, mlp.c_fc.*, mlp.c_proj.*. The keys' third of in_proj_bias has a gradient of
 * exactly zero, as mathematics has it.
 */
export function clipBlock({ width, heads, layers, eps = 1e-5, start = (_name, _shape, std) => normal(std) }: ClipBlockOptions): ClipBlock {
  const weight = (name: string, shape: Shape, std: number) => new Parameter(shape, start(name, shape, std));
  const bias = (size: number) => new Parameter([size], { kind: "zeros" });
  const perWidth = width ** -0.5, residual = perWidth * (2 * layers) ** -0.5;
  const inWeight = weight("attn.in_proj_weight", [3 * width, width], perWidth), inBias = bias(3 * width);
  const outWeight = weight("attn.out_proj.weight", [width, width], residual), outBias = bias(width);
  const fcWeight = weight("mlp.c_fc.weight", [4 * width, width], (2 * width) ** -0.5), fcBias = bias(4 * width);
  const projWeight = weight("mlp.c_proj.weight", [width, 4 * width], residual), projBias = bias(width);
  const ln_1 = layerNorm({ width, eps }), ln_2 = layerNorm({ width, eps });
  return {
    parameters: () => collect({
      "attn.in_proj_weight": inWeight, "attn.in_proj_bias": inBias, "attn.out_proj.weight": outWeight, "attn.out_proj.bias": outBias,
      ln_1, ln_2, "mlp.c_fc.weight": fcWeight, "mlp.c_fc.bias": fcBias, "mlp.c_proj.weight": projWeight, "mlp.c_proj.bias": projBias,
    }),
    forward(x, { causal, keyMask } = {}) {
      const [biasQ, biasK, biasV] = ops.split(inBias.value, 0, [width, width, width]);
      const packed = ops.linear(ln_1.forward(x), inWeight.value, ops.concat([biasQ, ops.zeroGradient(biasK), biasV], 0));
      const [q, k, v] = ops.split(packed, 2, [width, width, width]);
      x = ops.add(x, ops.linear(ops.attention({ q, k, v, heads, causal, keyMask }), outWeight.value, outBias.value));
      const hidden = ops.quickGelu(ops.linear(ln_2.forward(x), fcWeight.value, fcBias.value));
      return ops.add(x, ops.linear(hidden, projWeight.value, projBias.value));
    },
  };
}
