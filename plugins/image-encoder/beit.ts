/**
 * What the page looks like, patch by patch: a BEiT v2 vision transformer with one relative position bias table for all layers.
 * Sources: Bao et al. 2021 (BEiT), Peng et al. 2022 (BEiT v2), Touvron et al. 2021 (layer scale).
 *
 * Masked patches are replaced by a learned token before the class token joins; there are no absolute positions.
 * Parameter names are those of the released checkpoints under `vision.`.
 */
import { z } from "zod";
import { add, concat, definePlugin, linear, maskRows, nn, patchify, port, reshape, toPrecision, zeros } from "../../runtime/index.ts";

export const beit = definePlugin({
  kind: "image-encoder", name: "beit", version: "1.0.0",
  about: "BEiT v2 vision transformer with a shared relative position bias (Peng et al. 2022).",
  options: z.strictObject({
    /** Side of the square image and of a patch, in pixels. */
    image: z.int().positive().default(128),
    patch: z.int().positive().default(16),
    width: z.int().positive().default(96),
    layers: z.int().positive().default(3),
    heads: z.int().positive().default(4),
    layer_scale: z.number().positive().default(0.1),
    eps: z.number().positive().default(1e-6),
  }).refine((o) => o.image % o.patch === 0, { error: "image must be a multiple of patch", path: ["patch"] })
    .refine((o) => o.width % o.heads === 0, { error: "width must be a multiple of heads", path: ["heads"] }),
  ports: ({ image, patch, width }) => {
    const patches = (image / patch) ** 2;
    return {
      in: {
        pixels: port(["B", 3, image, image], { gradient: false }),
        patch_mask: port(["B", patches], { dtype: "u8", optional: true }),   // 1 = masked
      },
      out: { states: port(["B", 1 + patches, width]) },                       // class token first
    };
  },
  create({ image, patch, width, layers, heads, layer_scale, eps }) {
    const side = image / patch;
    const grid = [side, side] as const;
    const columns = 3 * patch * patch;
    const start = nn.truncatedNormal();
    const clsToken = new nn.Parameter([1, 1, width], start);
    const maskToken = new nn.Parameter([1, 1, width], start);
    const convolution = { weight: new nn.Parameter([width, 3, patch, patch], start), bias: new nn.Parameter([width], { kind: "zeros" }) };
    const biasTable = nn.relativeBiasTable(grid, heads);
    const blocks = Array.from({ length: layers }, (_, i) => nn.beitBlock({ width, heads, layerScale: layer_scale, eps, index: i + 1 }));
    const norm = nn.layerNorm({ width, eps });
    const parameters = nn.collect({
      "vision.cls_token": clsToken, "vision.mask_token": maskToken,
      "vision.patch_embed.proj.weight": convolution.weight, "vision.patch_embed.proj.bias": convolution.bias,
      "vision.rel_pos_bias.relative_position_bias_table": biasTable, "vision.blocks": blocks, "vision.norm": norm,
    });

    return {
      parameters: () => parameters,
      // pixels (B, 3, S, S), patch_mask (B, P) -> states (B, 1 + P, D)
      forward: ({ pixels, patch_mask }, { precision }) => {
        const page = toPrecision(pixels, precision);
        // A convolution whose kernel is its stride is a linear map of patches.
        let patches = linear(patchify(page, patch), reshape(convolution.weight.value, [width, columns]), convolution.bias.value);
        if (patch_mask) patches = maskRows(patches, patch_mask, reshape(maskToken.value, [width]));
        const cls = add(zeros([page.shape[0], 1, width], page.dtype), clsToken.value);
        const states = blocks.reduce((x, block) => block.forward(x, { biasTable: biasTable.value, grid }), concat([cls, patches], 1));
        return { states: norm.forward(states) };
      },
    };
  },
});
