/**
 * The encoder of VQ-KD: from a page to one unit vector per patch. A vision transformer with absolute positions, without relative
 * bias, layer scale or mask token; `fc_norm` on its patch tokens; then Linear, tanh, Linear, and the length taken out.
 * Source: Peng et al. 2022 (BEiT v2), section 2.2. Parameter names and start are those of the original; nothing here is trained.
 */
import {
  add, attention, concat, gelu, l2Normalize, layerNorm, linear, nn, patchify, reshape, slice, split, tanh, zeros, type Tensor,
} from "../../runtime/index.ts";

export interface EncoderOptions { image: number; patch: number; width: number; layers: number; heads: number; dim: number; eps: number }

/** How a parameter gets its starting value, by its name within the encoder. */
export type Frozen = (name: string, shape: readonly number[], init: nn.Initializer) => nn.Parameter;

export interface Encoder extends nn.Module {
  /** pixels (B, 3, S, S) in [-1, 1] -> z (B, P, D), rows of unit length. */
  forward(pixels: Tensor): Tensor;
}

export function vqKdEncoder({ image, patch, width, layers, heads, dim, eps }: EncoderOptions, frozen: Frozen): Encoder {
  const patches = (image / patch) ** 2, columns = 3 * patch * patch;
  const start = nn.truncatedNormal();
  const clsToken = frozen("encoder.cls_token", [1, 1, width], start);
  const positions = frozen("encoder.pos_embed", [1, 1 + patches, width], start);
  const convolution = {
    weight: frozen("encoder.patch_embed.proj.weight", [width, 3, patch, patch], start),
    bias: frozen("encoder.patch_embed.proj.bias", [width], { kind: "zeros" }),
  };
  const blocks = Array.from({ length: layers }, (_, index) => block({ width, heads, eps, index, frozen }));
  const norm = affineNorm("encoder.fc_norm", width, eps, frozen);
  const task = [affine("encode_task_layer.0", width, width, start, frozen), affine("encode_task_layer.2", width, dim, start, frozen)];
  const parameters = nn.collect({
    "encoder.cls_token": clsToken, "encoder.pos_embed": positions,
    "encoder.patch_embed.proj.weight": convolution.weight, "encoder.patch_embed.proj.bias": convolution.bias,
    "encoder.blocks": blocks, "encoder.fc_norm": norm, "encode_task_layer.0": task[0], "encode_task_layer.2": task[1],
  });
  return {
    parameters: () => parameters,
    forward(pixels) {
      const embedded = linear(patchify(pixels, patch), reshape(convolution.weight.value, [width, columns]), convolution.bias.value);
      const cls = add(zeros([pixels.shape[0], 1, width], pixels.dtype), clsToken.value);
      const states = blocks.reduce((x, each) => each.forward(x), add(concat([cls, embedded], 1), positions.value));
      const patchStates = norm.forward(slice(states, 1, 1, patches));
      return l2Normalize(task[1].forward(tanh(task[0].forward(patchStates))));
    },
  };
}

/** x + attention(norm1(x)), then x + mlp(norm2(x)). Its last matrices start divided by sqrt(2l), l from 1, as in BEiT. No key bias. */
function block({ width, heads, eps, index, frozen }:
  { width: number; heads: number; eps: number; index: number; frozen: Frozen }): nn.Layer {
  const name = (part: string) => `encoder.blocks.${index}.${part}`;
  const start = nn.truncatedNormal(), rescaled = nn.truncatedNormal(0.02, { divide: Math.sqrt(2 * (index + 1)) });
  const qkv = frozen(name("attn.qkv.weight"), [3 * width, width], start);
  const [qBias, vBias] = ["attn.q_bias", "attn.v_bias"].map((part) => frozen(name(part), [width], { kind: "zeros" }));
  const proj = affine(name("attn.proj"), width, width, rescaled, frozen);
  const fc1 = affine(name("mlp.fc1"), width, 4 * width, start, frozen), fc2 = affine(name("mlp.fc2"), 4 * width, width, rescaled, frozen);
  const [norm1, norm2] = ["norm1", "norm2"].map((part) => affineNorm(name(part), width, eps, frozen));
  const parameters = nn.collect({
    norm1, "attn.qkv.weight": qkv, "attn.q_bias": qBias, "attn.v_bias": vBias, "attn.proj": proj, norm2, "mlp.fc1": fc1, "mlp.fc2": fc2,
  });
  return {
    parameters: () => parameters,
    forward(x) {
      const bias = concat([qBias.value, zeros([width], x.dtype), vBias.value], 0);
      const [q, k, v] = split(linear(norm1.forward(x), qkv.value, bias), 2, [width, width, width]);
      const attended = add(x, proj.forward(attention({ q, k, v, heads })));
      return add(attended, fc2.forward(gelu(fc1.forward(norm2.forward(attended)))));
    },
  };
}

function affine(name: string, inputs: number, outputs: number, init: nn.Initializer, frozen: Frozen): nn.Layer {
  const weight = frozen(`${name}.weight`, [outputs, inputs], init), bias = frozen(`${name}.bias`, [outputs], { kind: "zeros" });
  return { parameters: () => nn.collect({ weight, bias }), forward: (x) => linear(x, weight.value, bias.value) };
}

function affineNorm(name: string, width: number, eps: number, frozen: Frozen): nn.Layer {
  const weight = frozen(`${name}.weight`, [width], { kind: "ones" }), bias = frozen(`${name}.bias`, [width], { kind: "zeros" });
  return { parameters: () => nn.collect({ weight, bias }), forward: (x) => layerNorm(x, weight.value, bias.value, { eps }) };
}
