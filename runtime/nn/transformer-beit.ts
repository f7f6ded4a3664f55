import * as ops from "../ops/index.ts";
import type { Tensor } from "../tensor/index.ts";
import type { DropBranch } from "./drop-path.ts";
import type { Grid } from "./table-resize.ts";
import { type Activation, layerNorm, mlp, truncatedNormal } from "./layers.ts";
import { type PackedAttentionInput, packedAttention } from "./packed-attention.ts";
import { type Module, Parameter, collect } from "./parameter.ts";
import { alike } from "./sequence-share.ts";

export interface BeitBlockOptions {
  width: number;
  heads: number;
  /** Default 4 * width. */
  hidden?: number;
  /** Start of gamma_1 and gamma_2; undefined = no layer scale. */
  layerScale?: number;
  eps?: number;
  activation?: Activation;
  /** The block has a relative position bias table of its own, for this grid of patches. */
  grid?: Grid;
  /** 1-based depth: proj and fc2 start divided by sqrt(2 * index). Undefined = no rescaling. */
  index?: number;
}

export interface BeitBlockInput extends PackedAttentionInput {
  /** Drops samples of a branch before it is added: `dropBranches`. */
  drop?: DropBranch;
}

export interface BeitBlock extends Module {
  /** x (B, N, D) -> (B, N, D). The bias table comes from outside: one for all blocks, or one each. */
  forward(x: Tensor, o?: BeitBlockInput): Tensor;
}

/**
 * x += drop(gamma_1 * attn(norm1(x))); x += drop(gamma_2 * mlp(norm2(x))). Source: Bao et al. 2021, Peng et al. 2022.
 * Names: gamma_1, gamma_2, norm1.*, attn.*, norm2.*, mlp.fc1.*, mlp.fc2.*, attn.relative_position_bias_table with a table of its own.
 */
export function beitBlock({ width, heads, hidden = 4 * width, layerScale, eps = 1e-6, activation, grid, index }: BeitBlockOptions): BeitBlock {
  const init = truncatedNormal();
  const rescaled = index === undefined ? init : truncatedNormal(0.02, { divide: Math.sqrt(2 * index) });
  const gamma = () => (layerScale === undefined ? undefined : new Parameter([width], { kind: "constant", value: layerScale }));
  const gamma_1 = gamma(), gamma_2 = gamma();
  const norm1 = layerNorm({ width, eps }), norm2 = layerNorm({ width, eps });
  const attn = packedAttention({ width, heads, init, projInit: rescaled });
  const feedForward = mlp({ width, hidden, activation, init, outInit: rescaled });
  const table = grid && relativeBiasTable(grid, heads);
  return {
    parameters: () => collect({ gamma_1, gamma_2, norm1, attn, norm2, mlp: feedForward, "attn.relative_position_bias_table": table }),
    forward(x, { drop = (branch: Tensor) => branch, ...o } = {}) {
      const seen = attn.forward(norm1.forward(x), table ? { ...o, biasTable: table.value, grid } : o);
      x = ops.add(x, drop(scaled(seen, gamma_1), "attn"));
      return ops.add(x, drop(scaled(feedForward.forward(norm2.forward(x)), gamma_2), "mlp"));
    },
  };
}

/** gamma * branch, or the branch itself without layer scale. */
const scaled = (branch: Tensor, gamma: Parameter | undefined): Tensor => (gamma ? ops.mul(branch, alike(gamma.value)) : branch);

/** The parameter behind BEiT's relative position bias: ((2h-1)(2w-1)+3, heads), starting at zero. */
export const relativeBiasTable = ([height, width]: Grid, heads: number): Parameter =>
  new Parameter([(2 * height - 1) * (2 * width - 1) + 3, heads], { kind: "zeros" });
