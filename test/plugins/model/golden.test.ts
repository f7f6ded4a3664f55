/**
 * The components against numbers from the original module (VLMo) or from an independent implementation of the formulas (Llama, BERT,
 * Fourier features, decoder with soft prefix), all in float64 with the weights of fill.ts. golden-vision.test.ts has the others.
 */
import { fromArray, linear, materialise, release, type Tensor } from "../../../runtime/index.ts";
import { llamaDecoder } from "../../../plugins/decoder/llama.ts";
import { multiway } from "../../../plugins/fusion/multiway.ts";
import { fourier } from "../../../plugins/position/fourier.ts";
import { bert } from "../../../plugins/prompt-encoder/bert.ts";
import { pointEncoding } from "../../../plugins/prompt-encoder/points.ts";
import { llamaEncoder } from "../../../plugins/text-encoder/llama.ts";
import { fill, fillWeight } from "./fill.ts";
import { assertClose, build, compute, context, fillParameters, identity, ids, mask, ones, precisions, sum, sumAbs, type Precision } from "./harness.ts";

const weight = (name: string, shape: number[], dtype: Precision): Tensor => fromArray(fillWeight(name, shape), shape, dtype);
const input = (name: string, shape: number[], dtype: Precision): Tensor => fromArray(fill(name, shape), shape, dtype);
const without = (prefix: string) => (name: string) => name.slice(prefix.length);

for (const { dtype, tolerance } of precisions) {
  // In f32 a sum of hundreds of elements carries as many rounding errors.
  const close = (got: number, expected: number, what: string, terms = 1) =>
    assertClose([got], [expected], dtype === "f32" ? tolerance * terms : tolerance, what);

  describe(`golden numbers in ${dtype}`, () => {
    describe("G-LLAMA, text-encoder/llama: 23 tokens, width 16, 4 heads of 4, 2 key heads, 2 layers, untied head", () => {
      const text = [1, 5, 7, 2, 9, 11, 3, 4];
      const logits = (attention: string) => {
        const encoder = build(llamaEncoder, { vocabulary: 23, width: 16, layers: 2, heads: 4, kv_heads: 2, head_dim: 4, hidden: 24, attention });
        fillParameters(encoder, dtype, { nameOf: (name) => `model.${without("text.")(name)}` });
        return compute(() => {
          const { states } = encoder.forward({ text_ids: ids([text]), text_mask: ones(1, 8) }, context());
          return { states, logits: linear(states, weight("lm_head.weight", [23, 16], dtype)) };
        }, encoder);
      };

      it("gives the known causal logits and next-token loss", async () => {
        const { logits: got } = await logits("causal");
        close(sum(got), -0.0652154189, "sum", 10);
        close(sumAbs(got), 72.8180882487, "sum of magnitudes", 10);
        close(got[0], 0.2193065701, "first logit");
        const losses = text.slice(1).map((next, i) => crossEntropyOf(got.slice(i * 23, i * 23 + 23), next));
        close(sum(losses) / losses.length, 3.1189071069, "next-token loss");
      });

      it("gives the known bidirectional logits and mean state", async () => {
        const { logits: got, states } = await logits("bidirectional");
        close(sum(got), 13.0101653156, "sum", 10);
        close(sumAbs(got), 84.5694352091, "sum of magnitudes", 10);
        close(got[0], 0.0144161748, "first logit");
        const mean = [0, 1, 2].map((c) => sum(text.map((_, t) => states[t * 16 + c])) / 8);
        assertClose(mean, [-0.5728561486, 0.7385181274, -2.0961778268], tolerance, "mean state");
      });
    });

    describe("G-LFF, position/fourier: 8 features, 6 hidden, width 8", () => {
      it("gives the known positions of two boxes", async () => {
        const position = build(fourier, { width: 8, features: 8, hidden: 6, coord_scale: 1, grid: 1 });
        fillParameters(position, dtype, { scale: 1, nameOf: (name) => name.replace("lff.Wr.weight", "lff.Wr") });
        const { text, image } = await compute(() => position.forward({
          text_boxes: fromArray([0.1, 0.2, 0.3, 0.25, 0, 0, 1, 1], [1, 2, 4], dtype), has_box: mask([[1, 1]]) }, context()), position);
        assertClose(text.slice(0, 8), [-0.9428224072, 0.7923380483, -0.3359272191, -0.6168931109,
          -0.8822056601, 0.8285812453, -0.3432150736, -0.6509598636], Math.max(tolerance, 1e-7), "box (.1, .2, .3, .25)");
        close(text[8], -0.9880156515, "box (0, 0, 1, 1)");
        assertClose(image.slice(0, 8), text.slice(8), tolerance, "the class token's box is the page");
        assertClose(image.slice(8), text.slice(8), tolerance, "the only patch of a 1 x 1 grid is the page");
      });
    });

    describe("G-SAM, prompt-encoder/bert's points", () => {
      it("give SAM's encoding of (.25, .75) where the kind adds nothing, and no place to a padding point", async () => {
        const points = pointEncoding(8);
        const none = new Float64Array(8);
        materialise(points.parameters(), { seed: 0, prefix: "", dtype,
          load: (name, { shape }) => (name === "pe_gaussian" ? fill("sam.G", shape) : name === "not_a_point" ? none : new Float64Array(32)) });
        const { encoded } = await compute(() => ({ encoded: points.forward(fromArray([0.25, 0.75, 0.25, 0.75], [1, 2, 2], dtype), ids([[1, 4]])) }));
        release(points.parameters());
        assertClose(encoded.slice(0, 8), [-0.4111962962, 0.7018949384, -0.3516955300, -0.9213915496,
          0.9115468205, 0.7122804893, -0.9361144450, -0.3886355779], tolerance, "point");
        assertClose(encoded.slice(8), [...none], tolerance, "padding point");
      });
    });

    describe("fusion, prompt and decoder", () => {
      it("G-MW: fusion/multiway gives VLMo's states, and its sum over the real tokens", async () => {
        const { memory } = await fuse(dtype);
        close(sum(memory), 2.0743747474, "sum", 10);
        close(sumAbs(memory), 120.7539355303, "sum of magnitudes", 10);
        close(sum(memory.slice(0, 8 * 16)), 1.716145836, "sum of the 8 real tokens", 10);
      });

      it("G-BERT: prompt-encoder/bert gives the known masked mean", async () => {
        const { mean } = await promptMean(dtype);
        assertClose(mean.slice(0, 3), [-0.5936804257, -0.1047114585, 0.4877546377], tolerance, "masked mean");
      });

      for (const padded of [false, true]) {
        it(`G-E2E: decoder/llama writes the known logits over ${padded ? "a memory with two padded slots" : "eight memory slots"}`, async () => {
          const { memory } = await fuse(dtype);
          const { embedding } = await promptEmbedding(dtype);
          assertClose(embedding.slice(0, 3), [-0.3048986401, 0.1074156842, 0.0812323156], tolerance, "prompt embedding");
          const decoder = tinyDecoder(dtype);
          const rows = padded ? [memory.slice(0, 48), fill("junk", [16]), memory.slice(48, 128), fill("more junk", [16])].flatMap((part) => [...part]) : memory.slice(0, 128);
          const flags = padded ? [1, 1, 1, 0, 1, 1, 1, 1, 1, 0] : [1, 1, 1, 1, 1, 1, 1, 1];
          const { logits } = await compute(() => {
            const { hidden } = decoder.forward({
              memory: fromArray(rows, [1, flags.length, 16], dtype), memory_mask: mask([flags]),
              prompt: fromArray(embedding, [1, 16], dtype), dec_ids: ids([[1, 5, 7, 2]]), dec_mask: ones(1, 4),
            }, context());
            return { logits: linear(hidden, weight("lm_head.weight", [23, 16], dtype)) };
          }, decoder);
          close(sum(logits), 5.8179669547, "sum", 10);
          close(sumAbs(logits), 40.9095291261, "sum of magnitudes", 10);
          close(logits[0], -0.1900843359, "first logit");
        });
      }
    });
  });
}

/** VLMo of two layers, the first with two experts, over 5 image tokens and 4 text tokens, the last of them padding. */
function fuse(dtype: Precision) {
  const fusion = build(multiway, { image_width: 16, text_width: 16, width: 16, grid: 2, layers: 2, heads: 2, vision_language_layers: 1 });
  const given = {
    "proj.vision.weight": identity(16), "proj.text.weight": identity(16), "proj.vision.bias": new Float64Array(16),
    "proj.text.bias": new Float64Array(16), "fusion.type_embed.weight": new Float64Array(32),
  };
  fillParameters(fusion, dtype, { nameOf: without("fusion."), given });
  return compute(() => fusion.forward({
    image: input("mw.vision", [1, 5, 16], dtype), text: input("mw.text", [1, 4, 16], dtype), text_mask: mask([[1, 1, 1, 0]]),
  }, context()), fusion);
}

const bertOptions = { vocabulary: 17, width: 12, layers: 1, heads: 2, hidden: 24, positions: 16 };
const promptInputs = () => ({ prompt_ids: ids([[1, 5, 9, 2, 0]]), prompt_mask: mask([[1, 1, 1, 1, 0]]) });

/** BERT's masked mean: the projection is the identity. */
async function promptMean(dtype: Precision) {
  const prompt = build(bert, { ...bertOptions, memory_width: 12 });
  fillParameters(prompt, dtype, { nameOf: without("prompt.bert."), given: { "prompt.proj.weight": identity(12), "prompt.proj.bias": new Float64Array(12) } });
  const { embedding } = await compute(() => prompt.forward(promptInputs(), context()), prompt);
  return { mean: embedding };
}

async function promptEmbedding(dtype: Precision) {
  const prompt = build(bert, { ...bertOptions, memory_width: 16 });
  fillParameters(prompt, dtype, { nameOf: (name) => (name.startsWith("prompt.bert.") ? without("prompt.bert.")(name) : name) });
  return compute(() => prompt.forward(promptInputs(), context()), prompt);
}

function tinyDecoder(dtype: Precision) {
  const decoder = build(llamaDecoder, { memory_width: 16, vocabulary: 23, width: 16, layers: 2, heads: 4, kv_heads: 2, hidden: 24 });
  fillParameters(decoder, dtype, { nameOf: (name) => (name.startsWith("decoder.") ? `model.${without("decoder.")(name)}` : name) });
  return decoder;
}

/** -log softmax(logits)[label], in plain numbers. */
function crossEntropyOf(logits: readonly number[], label: number): number {
  const peak = Math.max(...logits);
  return peak + Math.log(sum(logits.map((x) => Math.exp(x - peak)))) - logits[label];
}
