/**
 * The text side against numbers of an independent implementation of the formulas in float64, with the weights of fill.ts: masked
 * next-token prediction, S2-Attn inside the encoder, pooling, LoRA, SimCSE. golden.test.ts has Llama, BERT and the decoder.
 */
import assert from "node:assert/strict";
import { fromArray, linear, nn, type Tensor } from "../../../runtime/index.ts";
import { causalLm } from "../../../plugins/objective/causal-lm.ts";
import { mntp } from "../../../plugins/objective/mntp.ts";
import { simcse } from "../../../plugins/objective/simcse.ts";
import { llamaEncoder } from "../../../plugins/text-encoder/llama.ts";
import { fill } from "./fill.ts";
import { assertClose, build, compute, context, fillParameters, ids, mask, ones, precisions, sum, sumAbs, vector, type Precision } from "./harness.ts";

const options = { vocabulary: 23, width: 16, layers: 2, heads: 4, kv_heads: 2, head_dim: 4, hidden: 24 };
const text = [1, 5, 7, 2, 9, 11, 3, 4];
const hidden = text.map((id, i) => (i === 2 || i === 5 ? 22 : id));
const input = (name: string, shape: number[], dtype: Precision): Tensor => fromArray(fill(name, shape), shape, dtype);

/** G-LLAMA's weights: released names, `lm_head.weight` for the table of logits. */
function encoderOf(dtype: Precision, more: Record<string, unknown> = {}) {
  const encoder = build(llamaEncoder, { ...options, lm_head: "trained", ...more });
  fillParameters(encoder, dtype, { nameOf: (name) => (name === "text.lm_head.weight" ? "lm_head.weight" : `model.${name.slice("text.".length)}`) });
  return encoder;
}

for (const { dtype, tolerance } of precisions) {
  const close = (got: number, expected: number, what: string, terms = 1) => assertClose([got], [expected], dtype === "f32" ? tolerance * terms : tolerance, what);

  describe(`golden numbers of the text side in ${dtype}`, () => {
    it("G-LLAMA: the loss of a causal language model", async () => {
      const encoder = encoderOf(dtype, { attention: "causal" }), objective = build(causalLm, { vocabulary: 23, width: 16 });
      const { loss } = await compute(() => {
        const { states, head } = encoder.forward({ text_ids: ids([text]), text_mask: ones(1, 8) }, context());
        return objective.forward({ states, head, labels: ids([text]) }, context({ counts: { lm_tokens: 7 } }));
      }, encoder);
      close(loss[0], 3.1189071069, "next-token loss");
    });

    for (const [pooling, expected] of [["mean", [-0.5728561486, 0.7385181274, -2.0961778268]], ["weighted_mean", [-0.6341371340, 0.7362190140, -2.1147812767]],
      ["last", [-1.1436139782, 1.1371461074, -2.3767592440]], ["eos", [-1.1436139782, 1.1371461074, -2.3767592440]]] as const) {
      it(`G-LLAMA: pooled by ${pooling}, whatever padding follows`, async () => {
        const encoder = encoderOf(dtype, { pooling });
        const { plain, padded } = await compute(() => ({
          plain: encoder.forward({ text_ids: ids([text]), text_mask: ones(1, 8) }, context()).pooled,
          padded: encoder.forward({ text_ids: ids([[...text, 0, 9]]), text_mask: mask([[1, 1, 1, 1, 1, 1, 1, 1, 0, 0]]) }, context()).pooled,
        }), encoder);
        assertClose(plain.slice(0, 3), expected, tolerance, "pooled");
        assertClose(padded, plain, tolerance, "padded");
      });
    }

    it("pools the text after an instruction where pool_mask says so, and nothing to zeros", async () => {
      const results = await Promise.all((["mean", "weighted_mean", "last"] as const).map((pooling) => {
        const encoder = encoderOf(dtype, { pooling });
        return compute(() => encoder.forward({ text_ids: ids([text, text]), text_mask: ones(2, 8), pool_mask: mask([[0, 0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0, 0, 0]]) }, context()), encoder);
      }));
      const [five, six] = [5, 6].map((t) => results[0].states.slice(t * 16, t * 16 + 16));
      const expected = [five.map((x, c) => (x + six[c]) / 2), five.map((x, c) => (x + 2 * six[c]) / 3), six];
      results.forEach(({ pooled }, i) => assertClose(pooled, [...expected[i], ...new Array(16).fill(0)], tolerance, `pooling ${i}`));
    });

    it("G-MNTP: a hidden token is predicted from the state before it; read in place the loss is higher", async () => {
      const encoder = encoderOf(dtype), objective = build(mntp, { vocabulary: 23, width: 16 });
      const counts = { mntp_tokens: 2, mlm_tokens: 2 };
      const { byIndex, byLabels, accuracy } = await compute(() => {
        const { states, head } = encoder.forward({ text_ids: ids([hidden]), text_mask: ones(1, 8) }, context());
        const indexed = objective.forward({ states, head, mntp_index: vector([1, 4]), mntp_targets: vector([7, 11]) }, context({ counts }));
        return { byIndex: indexed.loss, byLabels: objective.forward({ states, head, labels: ids([[-100, -100, 7, -100, -100, 11, -100, -100]]) }, context({ counts })).loss, accuracy: indexed.accuracy };
      });
      close(byIndex[0], 2.9651071783, "loss by index");
      close(byLabels[0], 2.9651071783, "loss by labels");

      // In place, as masked language modelling would: in plain numbers.
      const { logits } = await compute(() => {
        const { states, head } = encoder.forward({ text_ids: ids([hidden]), text_mask: ones(1, 8) }, context());
        return { logits: linear(states, head) };
      }, encoder);
      const before = [[1, 7], [4, 11]].map(([t, id]) => Number(rankedFirst(logits.slice(t * 23, t * 23 + 23)) === id));
      assert.equal(accuracy[0], (before[0] + before[1]) / 2);
      const inPlace = [[2, 7], [5, 11]].map(([t, id]) => crossEntropyOf(logits.slice(t * 23, t * 23 + 23), id));
      close((inPlace[0] + inPlace[1]) / 2, 3.8767201060, "loss in place");
    });

    it("G-S2L: bidirectional groups of four inside the encoder while training, full attention elsewhere", async () => {
      const encoder = encoderOf(dtype, { attention: "s2", s2: { group: 4 } });
      const logits = (training: boolean) => compute(() => {
        const { states, head } = encoder.forward({ text_ids: ids([text]), text_mask: ones(1, 8) }, context({ training }));
        return { logits: linear(states, head) };
      });
      const grouped = (await logits(true)).logits;
      close(sum(grouped), 8.2486902844, "sum", 10);
      close(sumAbs(grouped), 74.8150133342, "sum of magnitudes", 10);
      close(sum((await logits(false)).logits), 13.0101653156, "full attention", 10);
      await compute(() => ({}), encoder);
    });

    it("G-LORA: beside the weight, merged and unmerged", async () => {
      const layer = nn.linear({ in: 6, out: 4, bias: false });
      const set = new nn.AdapterSet({ W: layer }).attach({ r: 2, alpha: 4 });
      const parameters = { parameters: () => layer.parameters(), forward: () => ({}) };
      fillParameters(parameters, dtype, { scale: 1, nameOf: (name) => `lora.${{ weight: "W", "lora_A.weight": "A", "lora_B.weight": "B" }[name]}` });
      const y = () => compute(() => ({ y: layer.forward(input("lora.x", [2, 6], dtype)), weight: layer.weight.value }));
      const beside = await y();
      close(sum(beside.y), 1.1929511562, "sum");
      close(sumAbs(beside.y), 9.5030612033, "sum of magnitudes", 10);
      set.merge("default");
      const merged = await y();
      assertClose(merged.y, beside.y, tolerance, "merged");
      assert.notDeepEqual(merged.weight, beside.weight);
      set.unmerge("default");
      const back = await y();
      assertClose(back.weight, beside.weight, dtype === "f64" ? 1e-15 : 1e-6, "weight after unmerge");
      assertClose(back.y, beside.y, tolerance, "unmerged");
      await compute(() => ({}), parameters);
    });

    it("G-SIMCSE: three texts and their other selves", async () => {
      const objective = build(simcse, { width: 5 });
      const { loss, accuracy } = await compute(() => objective.forward({ queries: input("simcse.z1", [3, 5], dtype), documents: input("simcse.z2", [3, 5], dtype) }, context()));
      close(loss[0], 4.0351571513, "loss", 10);
      const [queries, documents] = ["simcse.z1", "simcse.z2"].map((name) => [0, 1, 2].map((row) => [...fill(name, [3, 5])].slice(5 * row, 5 * row + 5)));
      const cosine = (a: number[], b: number[]): number => sum(a.map((x, i) => x * b[i])) / (Math.hypot(...a) * Math.hypot(...b));
      const right = queries.filter((query, i) => rankedFirst(documents.map((document) => cosine(query, document))) === i).length;
      close(accuracy[0], right / 3, "accuracy");
    });
  });
}

const rankedFirst = (values: readonly number[]): number => values.indexOf(Math.max(...values));

/** -log softmax(logits)[label], in plain numbers. */
function crossEntropyOf(logits: readonly number[], label: number): number {
  const peak = Math.max(...logits);
  return peak + Math.log(sum(logits.map((x) => Math.exp(x - peak)))) - logits[label];
}
