import assert from "node:assert/strict";
import { materialise, release, type Plugin } from "../../../runtime/index.ts";
import { llamaDecoder } from "../../../plugins/decoder/llama.ts";
import { multiway } from "../../../plugins/fusion/multiway.ts";
import { beit } from "../../../plugins/image-encoder/beit.ts";
import { fourier } from "../../../plugins/position/fourier.ts";
import { miniClip } from "../../../plugins/teacher/clip.ts";
import { llamaEncoder } from "../../../plugins/text-encoder/llama.ts";
import { vqKd } from "../../../plugins/visual-tokenizer/vq-kd.ts";
import { build, sum } from "./harness.ts";

/** The starting values of one component's parameters. */
async function start(plugin: Plugin, options = {}): Promise<Record<string, number[]>> {
  const parameters = build(plugin, options).parameters();
  materialise(parameters, { seed: 1, prefix: "" });
  const values: Record<string, number[]> = {};
  for (const [name, parameter] of Object.entries(parameters)) values[name] = Array.from(await parameter.value.read() as Float32Array);
  release(parameters);
  return values;
}

const largest = (values: number[]) => values.reduce((max, x) => Math.max(max, Math.abs(x)), 0);
const rms = (values: number[]) => Math.sqrt(sum(values.map((x) => x * x)) / values.length);
const near = (got: number, expected: number, relative: number, what: string) =>
  assert.ok(Math.abs(got / expected - 1) < relative, `${what} is ${got}, expected about ${expected}`);
const only = (values: number[], value: number, what: string) => assert.ok(values.every((x) => x === Math.fround(value)), `${what} is not ${value} everywhere`);

describe("how parameters start", () => {
  it("image-encoder/beit: cut at one deviation, the last matrices of block l divided by sqrt(2l)", async () => {
    const values = await start(beit);
    for (const name of ["cls_token", "mask_token", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.2.mlp.fc1.weight"]) {
      assert.ok(largest(values[`vision.${name}`]) <= 0.02, name);
      // A normal cut at one deviation has 0.5396 of its deviation: sqrt(1 - 2 phi(1) / (2 Phi(1) - 1)).
      near(rms(values[`vision.${name}`]), 0.02 * 0.5396, 0.2, name);
    }
    for (const block of [0, 1, 2]) {
      for (const name of ["attn.proj.weight", "mlp.fc2.weight"]) {
        near(largest(values[`vision.blocks.${block}.${name}`]), 0.02 / Math.sqrt(2 * (block + 1)), 0.01, `block ${block} ${name}`);
      }
      only(values[`vision.blocks.${block}.gamma_1`], 0.1, "gamma_1");
      only(values[`vision.blocks.${block}.attn.q_bias`], 0, "q_bias");
    }
    only(values["vision.rel_pos_bias.relative_position_bias_table"], 0, "bias table");
    only(values["vision.norm.weight"], 1, "norm weight");
  });

  it("image-encoder/beit: the second branch goes on counting blocks where it begins", async () => {
    const values = await start(beit, { cls_pt: { early_layers: 1, head_layers: 2 }, layer_scale: 1e-5, abs_pos: true });
    for (const [j, depth] of [[0, 2], [1, 3]]) {
      near(largest(values[`vision.cls_pt_layers.${j}.attn.proj.weight`]), 0.02 / Math.sqrt(2 * depth), 0.01, `branch block ${j}`);
      only(values[`vision.cls_pt_layers.${j}.gamma_2`], 1e-5, "gamma_2");
    }
    assert.ok(largest(values["vision.pos_embed"]) <= 0.02);
  });

  it("visual-tokenizer/vq-kd: both transformers as BEiT's, codes of unit length, nothing used yet", async () => {
    const values = await start(vqKd, { train: true });
    for (const part of ["encoder", "decoder"]) near(largest(values[`tokenizer.${part}.blocks.0.mlp.fc2.weight`]), 0.02 / Math.sqrt(2), 0.01, part);
    near(rms(values["tokenizer.quantize.embedding.weight"]), 16 ** -0.5, 1e-6, "code");
    only(values["tokenizer.quantize.cluster_size"], 0, "cluster_size");
  });

  it("teacher/mini-clip: deviations by width and depth, the scale at ln(1 / 0.07)", async () => {
    const values = await start(miniClip);
    near(rms(values["teacher.visual.transformer.resblocks.1.attn.in_proj_weight"]), 64 ** -0.5, 0.02, "in_proj");
    near(rms(values["teacher.visual.transformer.resblocks.1.mlp.c_proj.weight"]), 64 ** -0.5 / Math.sqrt(2 * 2), 0.02, "c_proj");
    near(rms(values["teacher.token_embedding.weight"]), 0.02, 0.02, "tokens");
    near(rms(values["teacher.positional_embedding"]), 0.01, 0.02, "positions");
    only(values["teacher.logit_scale"], Math.log(1 / 0.07), "logit_scale");
  });

  it("text-encoder/llama: normal with 0.02, norms one", async () => {
    const values = await start(llamaEncoder);
    near(rms(values["text.embed_tokens.weight"]), 0.02, 0.02, "table");
    near(rms(values["text.layers.1.mlp.down_proj.weight"]), 0.02, 0.05, "down_proj");
    only(values["text.norm.weight"], 1, "norm");
  });

  it("fusion/multiway: cut normal without depth rescaling, layer scales 0.1", async () => {
    const values = await start(multiway);
    for (const block of [0, 1]) near(largest(values[`fusion.blocks.${block}.mlp_text.fc2.weight`]), 0.02, 0.01, `block ${block}`);
    only(values["fusion.blocks.2.gamma_2"], 0.1, "gamma_2");
    near(largest(values["proj.text.weight"]), 0.02, 0.01, "proj.text");
  });

  it("position/fourier: frequencies of deviation 1 / gamma, no box at zero", async () => {
    const values = await start(fourier);
    near(rms(values["lff.Wr.weight"]), 1, 0.3, "Wr");
    only(values["lff.no_box"], 0, "no_box");
  });

  it("decoder/llama: the memory projection makes prefixes of the table's scale from normalised memory", async () => {
    const values = await start(llamaDecoder);
    near(rms(values["memory_proj.weight"]) * Math.sqrt(96), rms(values["decoder.embed_tokens.weight"]), 0.05, "prefix scale");
    only(values["memory_proj.bias"], 0, "bias");
  });
});
