/**
 * The two networks of VQ-KD. The encoder takes a page to one vector per patch, the decoder takes those vectors' codes to a teacher's
 * features. Both are vision transformers with absolute positions, without relative bias, layer scale or mask token, `fc_norm` on their
 * patch tokens; then Linear, tanh, Linear. Source: Peng et al. 2022 (BEiT v2), section 2.2. Names and start are those of the original.
 */
import { add, concat, linear, nn, reshape, slice, tanh, widen, zeros, type ForwardContext, type Tensor } from "../../runtime/index.ts";

export interface TransformerOptions { patches: number; width: number; layers: number; heads: number; eps: number }

interface Network extends nn.Module {
  forward(x: Tensor, context: Pick<ForwardContext, "recompute">): Tensor;
}

/** pixels (B, 3, S, S) in [-1, 1] -> (B, P, D), of any length. */
export function vqKdEncoder({ patch, dim, ...shape }: TransformerOptions & { patch: number; dim: number }): Network {
  const projection = nn.patchEmbedding({ patch, width: shape.width, init: nn.truncatedNormal() });
  const transformer = patchTransformer(shape), head = taskLayer(shape.width, dim);
  const parameters = nn.collect({ "encoder.patch_embed.proj": projection, encoder: transformer, encode_task_layer: head });
  return { parameters: () => parameters, forward: (pixels, context) => head.forward(transformer.forward(projection.forward(pixels), context)) };
}

/** z_q (B, P, D) -> (B, P, Tw). */
export function vqKdDecoder({ dim, targets, ...shape }: TransformerOptions & { dim: number; targets: number }): Network {
  const { width } = shape;
  const weight = new nn.Parameter([width, dim, 1, 1], nn.truncatedNormal()), bias = new nn.Parameter([width], { kind: "zeros" });
  const transformer = patchTransformer(shape), head = taskLayer(width, targets);
  const parameters = nn.collect({
    "decoder.patch_embed.proj.weight": weight, "decoder.patch_embed.proj.bias": bias, decoder: transformer, decode_task_layer: head,
  });
  return {
    parameters: () => parameters,
    forward: (codes, context) => head.forward(transformer.forward(linear(codes, reshape(weight.value, [width, dim]), bias.value), context)),
  };
}

/** (B, P, D) -> (B, P, D). Names: cls_token, pos_embed, blocks.*, fc_norm.*. */
function patchTransformer({ patches, width, layers, heads, eps }: TransformerOptions): Network {
  const start = nn.truncatedNormal();
  const clsToken = new nn.Parameter([1, 1, width], start), positions = new nn.Parameter([1, 1 + patches, width], start);
  const blocks = Array.from({ length: layers }, (_, i) => nn.beitBlock({ width, heads, eps, index: i + 1 }));
  const norm = nn.layerNorm({ width, eps });
  return {
    parameters: () => nn.collect({ cls_token: clsToken, pos_embed: positions, blocks, fc_norm: norm }),
    forward(x, context) {
      const cls = add(zeros([x.shape[0], 1, width], x.dtype), clsToken.value);
      const states = blocks.reduce((tokens, block) => nn.throughBlock(context, () => block.forward(tokens)), add(concat([cls, x], 1), positions.value));
      return norm.forward(slice(states, 1, 1, patches));
    },
  };
}

/** Linear, tanh, Linear, never in less than f32: distances between codes are small. Names: 0.*, 2.*. */
function taskLayer(width: number, out: number): nn.Layer {
  const init = nn.truncatedNormal();
  const inner = nn.linear({ in: width, out: width, init }), outer = nn.linear({ in: width, out, init });
  return {
    parameters: () => nn.collect({ 0: inner, 2: outer }),
    forward: (x) => outer.forward(tanh(inner.forward(widen(x)))),
  };
}
