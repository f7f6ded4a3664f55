import assert from "node:assert/strict";
import { countParameters, type Plugin } from "../../../runtime/index.ts";
import { llamaDecoder } from "../../../plugins/decoder/llama.ts";
import { concatenation } from "../../../plugins/fusion/concatenation.ts";
import { multiway } from "../../../plugins/fusion/multiway.ts";
import { beit } from "../../../plugins/image-encoder/beit.ts";
import { answer } from "../../../plugins/objective/answer.ts";
import { mimCodes } from "../../../plugins/objective/mim-codes.ts";
import { mimTeacher } from "../../../plugins/objective/mim-teacher.ts";
import { mlm } from "../../../plugins/objective/mlm.ts";
import { wpa } from "../../../plugins/objective/wpa.ts";
import { fourier } from "../../../plugins/position/fourier.ts";
import { bert } from "../../../plugins/prompt-encoder/bert.ts";
import { stubClip } from "../../../plugins/teacher/stub-clip.ts";
import { llamaEncoder } from "../../../plugins/text-encoder/llama.ts";
import { build } from "./harness.ts";

const trained = (plugin: Plugin, options = {}, prefix = "") => countParameters(Object.fromEntries(
  Object.entries(build(plugin, options).parameters()).filter(([name, parameter]) => parameter.trainable && name.startsWith(prefix))));

// Counts written out from the formulas beside them, d width, f feed-forward, L layers, V vocabulary.
describe("parameter counts of the tiny preset", () => {
  it("image-encoder/beit has 410,928: 2d + (3p²+1)d + L(12d²+14d) + ((2g-1)²+3)h + 2d", () => assert.equal(trained(beit), 410_928));
  it("text-encoder/llama has 501,408: Vd + L(dk(2H+2KV) + 3df + 2d) + d", () => assert.equal(trained(llamaEncoder), 501_408));
  it("position/fourier has 3,824", () => assert.equal(trained(fourier), 3_824));
  it("fusion/multiway has 18,624 in its projections and 484,992 in its blocks", () => {
    assert.equal(trained(multiway, {}, "proj."), 18_624);
    assert.equal(trained(multiway, {}, "fusion."), 484_992);
  });
  it("fusion/concatenation keeps the projections, the type embedding and the norm", () =>
    assert.equal(trained(concatenation), 18_624 + 2 * 96 + 2 * 96));
  it("prompt-encoder/bert has 241,952", () => assert.equal(trained(bert), 241_952));
  it("decoder/llama has 828,416 with its memory projection", () => assert.equal(trained(llamaDecoder), 828_416));
  it("the heads have dense + norm + bias, d Tw + Tw, d² + 2d + 1, and DETR's three layers", () => {
    assert.equal(trained(mlm), 96 * 96 + 96 + 2 * 96 + 2048);
    assert.equal(trained(mimTeacher), 96 * 64 + 64);
    assert.equal(trained(mimCodes), 96 * 256 + 256);
    assert.equal(trained(wpa), 96 * 96 + 96 + 96 + 1);
    assert.equal(trained(answer), 2 * (128 * 128 + 128) + 128 * 4 + 4);
  });
  it("teacher/stub-clip has nothing to train", () => assert.equal(trained(stubClip), 0));
});

describe("parameter counts of larger presets", () => {
  it("the small preset's blocks", () => {
    assert.equal(trained(beit, { image: 256, width: 256, layers: 8, heads: 8 }), 6_525_728);
    assert.equal(trained(llamaEncoder, { vocabulary: 8192, width: 256, layers: 8, heads: 8, kv_heads: 4, head_dim: 32, hidden: 704 }), 7_999_744);
    assert.equal(trained(fourier, { width: 256, features: 256 }), 12_960);
    assert.equal(trained(multiway, { image_width: 256, text_width: 256, width: 256, layers: 6, heads: 8, vision_language_layers: 2 }, "fusion."), 6_845_440);
    assert.equal(trained(bert, { vocabulary: 8192, width: 192, layers: 3, heads: 6, hidden: 768, positions: 128, memory_width: 256 }), 2_983_168);
    assert.equal(trained(llamaDecoder, { memory_width: 256, vocabulary: 8192, width: 256, layers: 8, heads: 8, kv_heads: 4, hidden: 704 }), 8_065_536);
  });
});

describe("which parameters decay", () => {
  const decaying = (plugin: Plugin) => {
    const parameters = build(plugin).parameters();
    for (const [name, parameter] of Object.entries(parameters)) parameter.name = name;
    return Object.entries(parameters).filter(([, parameter]) => parameter.decay).map(([name]) => name);
  };

  it("weights do; tokens, norms, biases, layer scales, tables and frequencies do not", () => {
    const decayed = [beit, llamaEncoder, fourier, multiway, bert, llamaDecoder, mlm, mimTeacher, mimCodes, wpa, answer].flatMap(decaying);
    for (const name of decayed) {
      assert.match(name, /weight$|relative_position_bias_table$/);
      assert.doesNotMatch(name, /norm|LayerNorm|embed_tokens|type_embed|embeddings|Wr|token$|head\.mlm\.ln/, `${name} decays`);
    }
    assert.equal(decaying(beit).length, 1 + 1 + 3 * 4, "patch embedding, bias table, four matrices per block");
    assert.equal(decaying(llamaDecoder).length, 1 + 3 * 7, "memory projection, seven matrices per layer");
  });
});
