/**
 * CLIP's two towers: one reads an image, one reads text, and both end in one space. Source: Radford et al. 2021; names and start of
 * its release.
 */
import {
  add, argmax, cast, clamp, concat, fromArray, gatherRows, matmul, nn, reshape, slice, sum, toPrecision, zeros, type Precision, type Tensor,
} from "../../runtime/index.ts";

export interface TowerOptions { width: number; layers: number; heads: number; targets: number; start?: nn.Start }

const eps = 1e-5;

export interface VisionTower extends nn.Module {
  /** pixels (B, 3, S, S), in CLIP's own normalisation -> (B, 1 + P, Tw): ln_post and the projection of every token, class token first. */
  forward(pixels: Tensor): Tensor;
}

/** Names: conv1.weight, class_embedding, positional_embedding, ln_pre.*, transformer.resblocks.*, ln_post.*, proj (D, Tw). */
export function visionTower({ image, patch, width, layers, heads, targets, start = normals }: TowerOptions & { image: number; patch: number }): VisionTower {
  const patches = (image / patch) ** 2, perWidth = width ** -0.5;
  const weight = (name: string, shape: number[], std: number) => new nn.Parameter(shape, start(name, shape, std));
  const convolutionShape = [width, 3, patch, patch];
  const convolution = nn.patchEmbedding({ patch, width, bias: false, init: start("conv1.weight", convolutionShape, (3 * patch * patch) ** -0.5) });
  const classEmbedding = weight("class_embedding", [width], perWidth);
  const positions = weight("positional_embedding", [patches + 1, width], perWidth);
  const blocks = resblocks({ width, layers, heads, start });
  const [before, after] = [nn.layerNorm({ width, eps }), nn.layerNorm({ width, eps })];
  const projection = weight("proj", [width, targets], perWidth);
  return {
    parameters: () => nn.collect({
      conv1: convolution, class_embedding: classEmbedding, positional_embedding: positions, ln_pre: before, ln_post: after,
      proj: projection, "transformer.resblocks": blocks,
    }),
    forward(pixels) {
      const embedded = convolution.forward(pixels);
      const cls = add(zeros([pixels.shape[0], 1, width], embedded.dtype), classEmbedding.value);
      const tokens = before.forward(add(concat([cls, embedded], 1), positions.value));
      return project(after.forward(blocks.reduce((x, block) => block.forward(x), tokens)), projection.value);
    },
  };
}

export interface TextTower extends nn.Module {
  /**
   * ids i32 (B, N) -> (B, Tw). Without a mask a text is read at its highest id, the end of text of CLIP's vocabulary; with one (u8
   * (B, N), 1 = real) at its last real token. Text beyond `context` is not read.
   */
  forward(ids: Tensor, o: { mask?: Tensor; precision: Precision }): Tensor;
}

/** Names: token_embedding.weight, positional_embedding, transformer.resblocks.*, ln_final.*, text_projection (D, Tw). */
export function textTower({ vocabulary, context, width, layers, heads, targets, start = normals }: TowerOptions & { vocabulary: number; context: number }): TextTower {
  const weight = (name: string, shape: number[], std: number) => new nn.Parameter(shape, start(name, shape, std));
  const tokens = nn.embedding({ count: vocabulary, width, init: start("token_embedding.weight", [vocabulary, width], 0.02) });
  const positions = weight("positional_embedding", [context, width], 0.01);
  const blocks = resblocks({ width, layers, heads, start });
  const norm = nn.layerNorm({ width, eps });
  const projection = weight("text_projection", [width, targets], width ** -0.5);
  return {
    parameters: () => nn.collect({
      token_embedding: tokens, positional_embedding: positions, "transformer.resblocks": blocks, ln_final: norm, text_projection: projection,
    }),
    forward(allIds, { mask: allMask, precision }) {
      const [batch, length] = [allIds.shape[0], Math.min(allIds.shape[1], context)];
      const ids = slice(allIds, 1, 0, length), mask = allMask && slice(allMask, 1, 0, length);
      const embedded = toPrecision(add(tokens.forward(ids), slice(positions.value, 0, 0, length)), precision);
      const states = blocks.reduce((x, block) => block.forward(x, { causal: true, keyMask: mask }), embedded);
      const ends = endsOf(ids, mask);
      return project(norm.forward(gatherRows(reshape(states, [batch * length, width]), ends)), projection.value);
    },
  };
}

/** Flat positions b * N + n (B) of each text's last token. Whole numbers in f32, exact below 2^24. A text without tokens ends at its first place. */
function endsOf(ids: Tensor, mask: Tensor | undefined): Tensor {
  const [batch, length] = ids.shape;
  const rows = Float32Array.from({ length: batch }, (_, b) => b * length + (mask ? -1 : 0));
  const within = mask ? clamp(sum(cast(mask, "f32"), 1), 1, Infinity) : cast(argmax(cast(ids, "f32"), 1), "f32");
  return cast(add(within, fromArray(rows, [batch])), "i32");
}

const normals: nn.Start = (_name, _shape, std) => nn.normal(std);

const resblocks = ({ start, ...o }: { width: number; layers: number; heads: number; start: nn.Start }): nn.ClipBlock[] =>
  Array.from({ length: o.layers }, (_, i) => nn.clipBlock({ ...o, eps, start: (name, shape, std) => start(`transformer.resblocks.${i}.${name}`, shape, std) }));

/** x (..., D) times projection (D, Tw). */
function project(x: Tensor, projection: Tensor): Tensor {
  const leading = x.shape.slice(0, -1), [width, targets] = projection.shape;
  return reshape(matmul(reshape(x, [-1, width]), projection), [...leading, targets]);
}
