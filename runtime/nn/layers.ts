import * as ops from "../ops/index.ts";
import { type Tensor, zeros } from "../tensor/index.ts";
import type { Randomness } from "./drop-path.ts";
import type { Initializer } from "./initializer.ts";
import { entered, left, wholeOf, wordsHere } from "./members.ts";
import { type Adaptable, Adapters } from "./lora.ts";
import { type Module, Parameter, collect } from "./parameter.ts";
import { alike, sequenceShare } from "./sequence-share.ts";

/** BEiT's start of weights: normal with std 0.02, cut at one standard deviation. */
export const truncatedNormal = (std = 0.02, o: { bound?: number; divide?: number } = {}): Initializer => ({ kind: "truncated-normal", std, ...o });
/** Llama's and BERT's start of weights. */
export const normal = (std = 0.02): Initializer => ({ kind: "normal", std });

/** One tensor in, one tensor out. */
export interface Layer extends Module {
  forward(x: Tensor): Tensor;
}

export interface Linear extends Layer, Adaptable {
  readonly weight: Parameter;
  readonly bias: Parameter | undefined;
  /** `keys` where an adapter with dropout lies on it; `x` as `entered` gave it, where several weights share an input. */
  forward(x: Tensor, keys?: Randomness, enteredX?: Tensor): Tensor;
}

/**
 * y = x Wᵀ + b: (..., in) -> (..., out). Names: weight (out, in), bias (out), those of its adapters. A weight that is shared out by outputs gives
 * this member's of them; by inputs, it takes this member's and gives the sum over members, to which the bias is added.
 */
export function linear(o: { in: number; out: number; bias?: boolean; init?: Initializer; biasInit?: Initializer }): Linear {
  const weight = new Parameter([o.out, o.in], o.init ?? normal());
  const bias = o.bias === false ? undefined : new Parameter([o.out], o.biasInit ?? { kind: "zeros" });
  const adapters = new Adapters(weight, "linear");
  return {
    weight,
    bias,
    adapters,
    parameters: () => ({ ...collect({ weight, bias }), ...adapters.parameters() }),
    forward(x, keys, enteredX = entered(x, weight)) {
      const { split } = weight;
      if (split?.axis !== 1) return adapters.addTo(ops.linear(enteredX, weight.value, bias?.value), sequenceShare() ? enteredX : x, keys);
      const sum = left(ops.linear(x, weight.value), split);
      return adapters.addTo(bias ? ops.add(sum, alike(bias.value)) : sum, x, keys);
    },
  };
}

/**
 * One vector per square patch, row by row: pixels (B, C, S, S) -> (B, P, D). A convolution whose kernel is its stride.
 * Names: weight (D, C, p, p), bias (D). Source: Dosovitskiy et al. 2021.
 */
export function patchEmbedding(o: { patch: number; width: number; channels?: number; bias?: boolean; init?: Initializer }): Layer {
  const { patch, width, channels = 3 } = o;
  const weight = new Parameter([width, channels, patch, patch], o.init ?? normal());
  const bias = o.bias === false ? undefined : new Parameter([width], { kind: "zeros" });
  return {
    parameters: () => collect({ weight, bias }),
    forward: (pixels) => ops.linear(ops.patchify(pixels, patch), ops.reshape(weight.value, [width, channels * patch * patch]), bias?.value),
  };
}

/** Names: weight, bias (width). */
export function layerNorm({ width, eps = 1e-6 }: { width: number; eps?: number }): Layer {
  const weight = new Parameter([width], { kind: "ones" });
  const bias = new Parameter([width], { kind: "zeros" });
  return { parameters: () => collect({ weight, bias }), forward: (x) => ops.layerNorm(x, alike(weight.value), alike(bias.value), { eps }) };
}

/** Names: weight (width). */
export function rmsNorm({ width, eps = 1e-5 }: { width: number; eps?: number }): Layer {
  const weight = new Parameter([width], { kind: "ones" });
  return { parameters: () => collect({ weight }), forward: (x) => ops.rmsNorm(x, alike(weight.value), { eps }) };
}

export interface Embedding extends Module, Adaptable {
  readonly weight: Parameter;
  /** ids i32 of any shape S -> (...S, width). */
  forward(ids: Tensor): Tensor;
  /** (count, width): the table as it is read, with what its adapters add. */
  table(): Tensor;
}

/** A table of vectors. Names: weight (count, width), those of its adapters. Rows that are shared out are looked up by the member that has them. */
export function embedding({ count, width, init = normal() }: { count: number; width: number; init?: Initializer }): Embedding {
  const weight = new Parameter([count, width], init, { decay: false });
  const adapters = new Adapters(weight, "table");
  return {
    weight,
    adapters,
    parameters: () => ({ ...collect({ weight }), ...adapters.parameters() }),
    forward(ids) {
      const { split } = weight;
      if (!split) return adapters.addRows(ops.gatherRows(weight.value, ids), ids);
      const { index, outside } = wordsHere(ids, weight.shape[0], split.members);
      const rows = adapters.addRows(ops.gatherRows(weight.value, index), index);
      return split.members.leave(ops.maskRows(rows, outside, zeros([width], rows.dtype)));
    },
    table: () => wholeOf(weight, adapters.whole()),
  };
}

export const activations = { gelu: ops.gelu, quickGelu: ops.quickGelu, silu: ops.silu, relu: ops.relu, tanh: ops.tanh } as const;
export type Activation = keyof typeof activations;

/** fc2(activation(fc1(x))): (..., width) -> (..., out). Names: fc1.*, fc2.*. */
export function mlp(o: { width: number; hidden: number; out?: number; activation?: Activation; init?: Initializer; outInit?: Initializer }): Layer {
  const fc1 = linear({ in: o.width, out: o.hidden, init: o.init });
  const fc2 = linear({ in: o.hidden, out: o.out ?? o.width, init: o.outInit ?? o.init });
  const activate = activations[o.activation ?? "gelu"];
  return { parameters: () => collect({ fc1, fc2 }), forward: (x) => fc2.forward(activate(fc1.forward(x))) };
}

export interface SwigluFeedForward extends Module {
  readonly linears: Readonly<Record<"gate_proj" | "up_proj" | "down_proj", Linear>>;
  forward(x: Tensor, keys?: Randomness): Tensor;
}

/** down(silu(gate(x)) * up(x)), no biases. Names: gate_proj, up_proj, down_proj. */
export function swigluFeedForward({ width, hidden, init = normal() }: { width: number; hidden: number; init?: Initializer }): SwigluFeedForward {
  const gate_proj = linear({ in: width, out: hidden, bias: false, init });
  const up_proj = linear({ in: width, out: hidden, bias: false, init });
  const down_proj = linear({ in: hidden, out: width, bias: false, init });
  const linears = { gate_proj, up_proj, down_proj };
  return {
    linears,
    parameters: () => collect(linears),
    forward(x, keys) {
      const shared = entered(x, gate_proj.weight);
      return down_proj.forward(ops.swiglu(gate_proj.forward(x, keys, shared), up_proj.forward(x, keys, shared)), keys);
    },
  };
}
