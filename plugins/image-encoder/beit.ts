/**
 * What the page looks like, patch by patch: a BEiT v2 vision transformer. Masked patches are replaced by a learned token before
 * positions and the class token join. Sources: Bao et al. 2021 (BEiT), Peng et al. 2022 (BEiT v2), Touvron et al. 2021 (layer scale),
 * Huang et al. 2016 (drop path).
 *
 * BE-1: with `cls_pt` a second branch reads the page once more, from the patches after an early block and the class token after the
 *       last: a few blocks of its own, then the same final norm. It is there for pre-training only: without the option its parameters
 *       are gone and everything else is as it was (Peng et al. 2022, section 2.3).
 * BE-2: what drop path drops depends on seed, step, sample and block alone; one block alone drops nothing.
 *
 * Parameter names are those of the released checkpoints under `vision.`.
 */
import { z } from "zod";
import { add, concat, definePlugin, maskRows, nn, port, reshape, slice, toPrecision, zeros, type ForwardContext, type Tensor } from "../../runtime/index.ts";

const options = z.strictObject({
  /** Side of the square image and of a patch, in pixels. */
  image: z.int().positive().default(128),
  patch: z.int().positive().default(16),
  width: z.int().positive().default(96),
  layers: z.int().positive().default(3),
  heads: z.int().positive().default(4),
  /** One relative position bias table for all blocks (pre-training), one per block (fine-tuned checkpoints), or none. */
  rel_pos_bias: z.enum(["shared", "per_layer", "none"]).default("shared"),
  /** Learned absolute positions, as well or instead. */
  abs_pos: z.boolean().default(false),
  /** What gamma_1 and gamma_2 start at; null: no layer scale. */
  layer_scale: z.number().positive().nullable().default(0.1),
  /** Rate of the last block; it rises evenly from 0 for the first. */
  drop_path: z.number().min(0).lt(1).default(0),
  /** The second branch of pre-training (BE-1); `shared_head: false` gives it a norm of its own. */
  cls_pt: z.strictObject({
    early_layers: z.int().positive().default(2),
    head_layers: z.int().positive().default(1),
    shared_head: z.boolean().default(true),
  }).optional(),
  eps: z.number().positive().default(1e-6),
}).refine((o) => o.image % o.patch === 0, { error: "image must be a multiple of patch", path: ["patch"] })
  .refine((o) => o.width % o.heads === 0, { error: "width must be a multiple of heads", path: ["heads"] })
  .refine((o) => (o.cls_pt?.early_layers ?? 1) <= o.layers, { error: "early_layers must not exceed layers", path: ["cls_pt", "early_layers"] });

export const beit = definePlugin({
  kind: "image-encoder", name: "beit", version: "1.1.0",
  about: "BEiT v2 vision transformer with relative position bias (Peng et al. 2022).",
  options,
  ports: ({ image, patch, width, cls_pt }) => {
    const patches = (image / patch) ** 2;
    return {
      in: {
        pixels: port(["B", 3, image, image], { gradient: false }),
        patch_mask: port(["B", patches], { dtype: "u8", optional: true }),   // 1 = masked
      },
      out: {
        states: port(["B", 1 + patches, width]),                              // class token first
        ...(cls_pt && { cls_pt_states: port(["B", 1 + patches, width]) }),    // of the second branch
      },
    };
  },
  tensor: ({ heads, width, rel_pos_bias, cls_pt }) => {
    const blocks = ["vision.blocks.*", ...(cls_pt ? ["vision.cls_pt_layers.*"] : [])], each = (...parts: string[]) => blocks.flatMap((block) => parts.map((part) => `${block}.${part}`));
    const tables = { none: [], shared: ["vision.rel_pos_bias.relative_position_bias_table"], per_layer: each("attn.relative_position_bias_table") }[rel_pos_bias];
    return {
      column: each("attn.qkv", "mlp.fc1"), row: each("attn.proj", "mlp.fc2"), packed: Object.fromEntries(each("attn.qkv").map((path) => [path, 3])),
      along: { ...Object.fromEntries(each("attn.q_bias", "attn.v_bias").map((path) => [path, 0])), ...Object.fromEntries(tables.map((path) => [path, 1])) },
      divides: { heads, hidden: 4 * width },
    };
  },
  create(o) {
    const { image, patch, width, heads, eps, cls_pt } = o;
    const grid = [image / patch, image / patch] as const;
    const patches = grid[0] * grid[1];
    const start = nn.truncatedNormal();
    const [clsToken, maskToken] = [new nn.Parameter([1, 1, width], start), new nn.Parameter([1, 1, width], start)];
    const projection = nn.patchEmbedding({ patch, width, init: start });
    const positions = o.abs_pos ? new nn.Parameter([1, 1 + patches, width], start) : undefined;
    const biasTable = o.rel_pos_bias === "shared" ? nn.relativeBiasTable(grid, heads) : undefined;
    const stack = blockStack(o, grid, biasTable);
    const norm = nn.layerNorm({ width, eps });
    const branchNorm = cls_pt && !cls_pt.shared_head ? nn.layerNorm({ width, eps }) : undefined;
    const parameters = nn.collect({
      "vision.cls_token": clsToken, "vision.mask_token": maskToken, "vision.patch_embed.proj": projection, "vision.pos_embed": positions,
      "vision.rel_pos_bias.relative_position_bias_table": biasTable, "vision.blocks": stack.blocks, "vision.norm": norm,
      "vision.cls_pt_layers": stack.branch, "vision.cls_pt_norm": branchNorm,
    });

    /** pixels (B, 3, S, S) -> (B, 1 + P, D) */
    const embed = (pixels: Tensor, mask: Tensor | undefined): Tensor => {
      let patchStates = projection.forward(pixels);
      if (mask) patchStates = maskRows(patchStates, mask, reshape(maskToken.value, [width]));
      const cls = add(zeros([pixels.shape[0], 1, width], patchStates.dtype), clsToken.value);
      const tokens = concat([cls, patchStates], 1);
      return positions ? add(tokens, positions.value) : tokens;
    };

    return {
      parameters: () => parameters,
      // pixels (B, 3, S, S), patch_mask (B, P) -> states (B, 1 + P, D), cls_pt_states alike
      forward: ({ pixels, patch_mask }, context): Record<string, Tensor> => {
        const { early, last } = stack.run(embed(toPrecision(pixels, context.precision), patch_mask), context);
        const states = norm.forward(last);
        if (!early) return { states };
        const mixed = concat([slice(last, 1, 0, 1), slice(early, 1, 1, patches)], 1);
        return { states, cls_pt_states: (branchNorm ?? norm).forward(stack.runBranch(mixed, context)) };
      },
    };
  },
});

/** The blocks of the encoder and of the second branch, each with its rate of drop path. The branch goes on counting where it begins. */
function blockStack({ width, layers, heads, rel_pos_bias, layer_scale, drop_path, cls_pt, eps }: z.output<typeof options>,
  grid: nn.Grid, biasTable: nn.Parameter | undefined) {
  const earlyLayers = cls_pt?.early_layers ?? layers, branchLayers = cls_pt?.head_layers ?? 0;
  const block = (index: number) => nn.beitBlock({
    width, heads, layerScale: layer_scale ?? undefined, eps, index, grid: rel_pos_bias === "per_layer" ? grid : undefined,
  });
  const blocks = Array.from({ length: layers }, (_, i) => block(i + 1));
  const branch = Array.from({ length: branchLayers }, (_, j) => block(earlyLayers + j + 1));
  const rates = nn.dropPathRates(drop_path, layers);
  const branchRates = nn.dropPathRates(drop_path, Math.max(layers, earlyLayers + branchLayers)).slice(earlyLayers);

  const through = (each: nn.BeitBlock, x: Tensor, name: string, rate: number, context: ForwardContext) => nn.throughBlock(context, () => each.forward(x, {
    biasTable: biasTable?.value, grid: biasTable && grid, drop: nn.dropBranches(name, rate, context),
  }));
  return {
    blocks,
    branch,
    /** The states after the last block, and where there is a second branch after the early one. */
    run(tokens: Tensor, context: ForwardContext): { early?: Tensor; last: Tensor } {
      const [last, early] = nn.throughStack(context, tokens, (x) => {
        const after: Tensor[] = [];
        for (const [i, each] of blocks.entries()) after.push(through(each, after[i - 1] ?? x, `vision.blocks.${i}`, rates[i], context));
        return branchLayers > 0 ? [after[layers - 1], after[earlyLayers - 1]] : [after[layers - 1]];
      });
      return { early, last };
    },
    runBranch: (tokens: Tensor, context: ForwardContext): Tensor => nn.throughStack(context, tokens, (x) =>
      branch.reduce((states, each, j) => through(each, states, `vision.cls_pt_layers.${j}`, branchRates[j], context), x)),
  };
}
