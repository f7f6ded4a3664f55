import * as ops from "../ops/index.ts";
import type { Tensor } from "../tensor/index.ts";
import type { DropBranch } from "./drop-path.ts";
import { layerNorm, mlp, truncatedNormal } from "./layers.ts";
import { packedAttention } from "./packed-attention.ts";
import { type Module, Parameter, collect } from "./parameter.ts";

type Part = Parameters<DropBranch>[1];

export interface MultiwayBlockOptions {
  width: number;
  heads: number;
  hidden?: number;
  /** "image-text": a feed-forward expert per modality; "vision-language": one for all. */
  experts: "image-text" | "vision-language";
  layerScale?: number;
  eps?: number;
}

export interface MultiwayBlock extends Module {
  /** x (B, M, D), image tokens first -> (B, M, D). */
  forward(x: Tensor, o: MultiwayBlockInput): Tensor;
}

export interface MultiwayBlockInput {
  /** How many tokens are of the image; 0 or M for a page of one modality. */
  imageTokens: number;
  keyMask?: Tensor;
  positional?: Tensor;
  /** Drops samples of a branch before it is added, each expert's by itself: `dropBranches`. */
  drop?: DropBranch;
}

/**
 * Attention shared by both modalities, then feed-forward experts. Source: Bao et al. 2022 (VLMo).
 * Names: gamma_1, gamma_2, norm1.*, attn.*, and norm2_imag.*, mlp_imag.*, norm2_text.*, mlp_text.* or norm2_vl.*, mlp_vl.*.
 */
export function multiwayBlock({ width, heads, hidden = 4 * width, experts, layerScale = 0.1, eps = 1e-6 }: MultiwayBlockOptions): MultiwayBlock {
  const init = truncatedNormal();
  const gamma_1 = new Parameter([width], { kind: "constant", value: layerScale });
  const gamma_2 = new Parameter([width], { kind: "constant", value: layerScale });
  const norm1 = layerNorm({ width, eps });
  const attn = packedAttention({ width, heads, init });
  const expert = () => ({ norm: layerNorm({ width, eps }), feedForward: mlp({ width, hidden, init }) });
  type Expert = ReturnType<typeof expert>;
  const shared = { gamma_1, gamma_2, norm1, attn };
  const addBranch = (x: Tensor, branch: Tensor, gamma: Parameter, part: Part, drop: DropBranch = (all) => all) =>
    ops.add(x, drop(ops.mul(branch, gamma.value), part));
  const through = (x: Tensor, { norm, feedForward }: Expert, part: Part, drop?: DropBranch) =>
    addBranch(x, feedForward.forward(norm.forward(x)), gamma_2, part, drop);
  const attend = (x: Tensor, o: MultiwayBlockInput) => addBranch(x, attn.forward(norm1.forward(x), o), gamma_1, "attn", o.drop);

  if (experts === "vision-language") {
    const vl = expert();
    return {
      parameters: () => collect({ ...shared, norm2_vl: vl.norm, mlp_vl: vl.feedForward }),
      forward: (x, o) => through(attend(x, o), vl, "mlp_vl", o.drop),
    };
  }
  const imag = expert(), text = expert();
  return {
    parameters: () => collect({ ...shared, norm2_imag: imag.norm, mlp_imag: imag.feedForward, norm2_text: text.norm, mlp_text: text.feedForward }),
    forward(x, o) {
      const textTokens = x.shape[1] - o.imageTokens;
      x = attend(x, o);
      if (textTokens === 0) return through(x, imag, "mlp_imag", o.drop);
      if (o.imageTokens === 0) return through(x, text, "mlp_text", o.drop);
      const [image, words] = ops.split(x, 1, [o.imageTokens, textTokens]);
      return ops.concat([through(image, imag, "mlp_imag", o.drop), through(words, text, "mlp_text", o.drop)], 1);
    },
  };
}
