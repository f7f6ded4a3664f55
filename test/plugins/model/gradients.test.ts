/**
 * Whole components, backwards: the tape's gradients of every trainable parameter and of every input that wants one, against
 * central differences of the forward in f64. Finds what no op's own check can: a parameter left out, a tensor used twice.
 */
import assert from "node:assert/strict";
import { add, fromArray, mul, sum as sumOf, Scope, Tape, type Plugin, type Tensor, type TensorComponent } from "../../../runtime/index.ts";
import { llamaDecoder } from "../../../plugins/decoder/llama.ts";
import { coAttention } from "../../../plugins/fusion/co-attention.ts";
import { concatenation } from "../../../plugins/fusion/concatenation.ts";
import { multiway } from "../../../plugins/fusion/multiway.ts";
import { beit } from "../../../plugins/image-encoder/beit.ts";
import { causalLm } from "../../../plugins/objective/causal-lm.ts";
import { contrastive } from "../../../plugins/objective/contrastive.ts";
import { vqKdLoss } from "../../../plugins/objective/vq-kd.ts";
import { miniClip } from "../../../plugins/teacher/clip.ts";
import { answer } from "../../../plugins/objective/answer.ts";
import { mimCodes } from "../../../plugins/objective/mim-codes.ts";
import { mimTeacher } from "../../../plugins/objective/mim-teacher.ts";
import { mlm } from "../../../plugins/objective/mlm.ts";
import { mntp } from "../../../plugins/objective/mntp.ts";
import { simcse } from "../../../plugins/objective/simcse.ts";
import { wpa } from "../../../plugins/objective/wpa.ts";
import { fourier } from "../../../plugins/position/fourier.ts";
import { bert } from "../../../plugins/prompt-encoder/bert.ts";
import { llamaEncoder } from "../../../plugins/text-encoder/llama.ts";
import { fill } from "./fill.ts";
import { build, context, fillParameters, ids, mask, vector } from "./harness.ts";

const floats = (name: string, shape: number[], scale = 1, offset = 0): Tensor => fromArray(fill(name, shape, scale, offset), shape, "f64");
const counts = { pages: 2, mlm_tokens: 3, mntp_tokens: 3, lm_tokens: 4, mim_patches: 2, wpa_tokens: 5, answer_text_tokens: 3, answer_loc_tokens: 2, boxes: 2 };

interface Case {
  plugin: Plugin;
  options: Record<string, unknown>;
  /** Leaves in f64; those in `wants` get gradients too. */
  inputs: () => Record<string, Tensor>;
  wants: string[];
  /** Tells the cases of one plugin apart. */
  what?: string;
}

const llama = { width: 8, layers: 2, heads: 4, kv_heads: 2, hidden: 12 };
const sequenceInputs = () => ({
  image: floats("image", [2, 5, 6]), text: floats("text", [2, 3, 10]), text_mask: mask([[1, 1, 1], [1, 1, 0]]),
  image_position: floats("image position", [5, 8]), text_position: floats("text position", [2, 3, 8]),
});
const sequenceWants = ["image", "text", "image_position", "text_position"];

const cases: Case[] = [
  { plugin: beit, options: { image: 8, patch: 4, width: 8, layers: 2, heads: 2 }, wants: [],
    inputs: () => ({ pixels: floats("pixels", [2, 3, 8, 8]), patch_mask: mask([[0, 1, 0, 0], [1, 0, 0, 1]]) }) },
  { plugin: beit, wants: [], what: "all its options",
    options: { image: 8, patch: 4, width: 8, layers: 2, heads: 2, rel_pos_bias: "per_layer", abs_pos: true, layer_scale: null, drop_path: 0.5,
      cls_pt: { early_layers: 1, head_layers: 1, shared_head: false } },
    inputs: () => ({ pixels: floats("pixels", [2, 3, 8, 8]), patch_mask: mask([[0, 1, 0, 0], [1, 0, 0, 1]]) }) },
  { plugin: beit, wants: [], what: "a second branch that shares its norm", options: { image: 8, patch: 4, width: 8, layers: 2, heads: 2, cls_pt: { early_layers: 1 } },
    inputs: () => ({ pixels: floats("pixels", [2, 3, 8, 8]), patch_mask: mask([[0, 1, 0, 0], [1, 0, 0, 1]]) }) },
  { plugin: miniClip, wants: [], options: { image: 8, patch: 4, width: 8, layers: 1, heads: 2, targets: 6, text: { vocabulary: 9, context: 3, width: 4, layers: 1, heads: 2 } },
    inputs: () => ({ pixels: floats("pixels", [2, 3, 8, 8]), text_ids: ids([[1, 5, 7, 2], [3, 5, 0, 0]]), text_mask: mask([[1, 1, 1, 1], [1, 1, 0, 0]]) }) },
  { plugin: llamaEncoder, options: { ...llama, vocabulary: 9, head_dim: 2 }, wants: [],
    inputs: () => ({ text_ids: ids([[1, 5, 7, 2], [1, 5, 0, 0]]), text_mask: mask([[1, 1, 1, 1], [1, 1, 0, 0]]) }) },
  { plugin: llamaEncoder, wants: [], what: "causal attention in a window, stretched positions, dropout and a head of its own",
    options: { ...llama, vocabulary: 9, head_dim: 2, attention: "causal", window: 2, rope_scaling: { type: "linear", factor: 3 }, attention_dropout: 0.3, pooling: "weighted_mean", passes: 2, lm_head: "trained" },
    inputs: () => ({ text_ids: ids([[1, 5, 7, 2], [1, 5, 0, 0]]), text_mask: mask([[1, 1, 1, 1], [1, 1, 0, 0]]) }) },
  { plugin: llamaEncoder, wants: [], what: "shifted groups and padding, adapters on maps and on the table, norms beside them",
    options: { ...llama, vocabulary: 9, head_dim: 2, attention: "s2", s2: { causal: true, group: 4 }, pooling: "last",
      lora: { r: 2, alpha: 3, dropout: 0.2, rslora: true, targets: ["q_proj", "v_proj", "down_proj", "embed_tokens"], train: ["norm"] } },
    inputs: () => ({ text_ids: ids([[1, 5, 7, 2, 3], [1, 5, 0, 0, 0]]), text_mask: mask([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]) }) },
  { plugin: causalLm, options: { width: 6, vocabulary: 7 }, wants: ["states", "head"],
    inputs: () => ({ states: floats("states", [2, 4, 6]), head: floats("table", [7, 6]), labels: ids([[1, 5, 2, -100], [3, 0, -100, 6]]) }) },
  { plugin: mntp, options: { width: 6, vocabulary: 7 }, wants: ["states", "head"],
    inputs: () => ({ states: floats("states", [2, 4, 6]), head: floats("table", [7, 6]), mntp_index: vector([1, 3, 6]), mntp_targets: vector([3, 0, 6]) }) },
  { plugin: simcse, options: { width: 5, temperature: 0.2 }, wants: ["queries", "documents"],
    inputs: () => ({ queries: floats("queries", [3, 5]), documents: floats("documents", [3, 5]) }) },
  { plugin: fourier, options: { width: 8, features: 8, hidden: 6, grid: 2, coord_scale: 2 }, wants: [],
    inputs: () => ({ text_boxes: floats("boxes", [2, 3, 4], 0.5, 0.5), has_box: mask([[1, 1, 0], [0, 1, 1]]) }) },
  { plugin: multiway, options: { image_width: 6, text_width: 10, width: 8, grid: 2, layers: 2, heads: 2 }, inputs: sequenceInputs, wants: sequenceWants },
  { plugin: multiway, what: "drop path", options: { image_width: 6, text_width: 10, width: 8, grid: 2, layers: 2, heads: 2, drop_path: 0.5 }, inputs: sequenceInputs, wants: sequenceWants },
  { plugin: concatenation, what: "merged patches", options: { image_width: 3, text_width: 10, width: 8, grid: 1, merge: 2 }, wants: ["image"],
    inputs: () => ({ image: floats("image", [2, 5, 3]), text: floats("text", [2, 3, 10]), text_mask: mask([[1, 1, 1], [1, 1, 0]]) }) },
  { plugin: multiway, options: { image_width: 6, text_width: 10, width: 8, grid: 2, layers: 2, heads: 2, position_per_layer: true }, inputs: sequenceInputs, wants: sequenceWants, what: "positions in every layer" },
  { plugin: multiway, options: { text_width: 10, width: 8, grid: 2, layers: 2, heads: 2, modalities: "text", vision_language_layers: 2, position_per_layer: true }, wants: ["text", "text_position"], what: "text alone",
    inputs: () => ({ text: floats("text", [2, 3, 10]), text_mask: mask([[1, 1, 1], [1, 1, 0]]), text_position: floats("text position", [2, 3, 8]) }) },
  { plugin: coAttention, options: { image_width: 6, text_width: 10, width: 8, grid: 2, layers: 2, heads: 2 }, inputs: sequenceInputs, wants: sequenceWants },
  { plugin: concatenation, options: { image_width: 6, text_width: 10, width: 8, grid: 2 }, inputs: sequenceInputs, wants: sequenceWants },
  { plugin: bert, options: { vocabulary: 9, width: 8, layers: 2, heads: 2, hidden: 12, positions: 4, memory_width: 6 }, wants: [],
    inputs: () => ({ prompt_ids: ids([[1, 5, 7], [1, 5, 0]]), prompt_mask: mask([[1, 1, 1], [1, 1, 0]]),
      prompt_points: floats("points", [2, 2, 2], 0.5, 0.5), prompt_kinds: ids([[0, 1], [2, 4]]), prompt_points_mask: mask([[1, 1], [1, 1]]) }) },
  { plugin: bert, options: { vocabulary: 9, width: 8, layers: 1, heads: 2, hidden: 12, positions: 4, memory_width: 6, sam_pad: true }, wants: [], what: "boxes and SAM's padding",
    inputs: () => ({ prompt_ids: ids([[1, 5, 7], [1, 5, 0]]), prompt_mask: mask([[1, 1, 1], [1, 1, 0]]),
      prompt_points: floats("points", [2, 2, 2], 0.5, 0.5), prompt_kinds: ids([[0, 1], [1, 0]]), prompt_points_mask: mask([[1, 1], [1, 0]]),
      prompt_boxes: floats("boxes", [2, 1, 4], 0.5, 0.5), prompt_boxes_mask: mask([[0], [1]]) }) },
  { plugin: llamaDecoder, options: { ...llama, vocabulary: 9, memory_width: 6 }, wants: ["memory", "prompt"],
    inputs: () => ({ memory: floats("memory", [2, 3, 6]), memory_mask: mask([[1, 1, 1], [1, 0, 1]]), prompt: floats("prompt", [2, 6]),
      dec_ids: ids([[1, 5, 7], [1, 5, 0]]), dec_mask: mask([[1, 1, 1], [1, 1, 0]]) }) },
  { plugin: llamaDecoder, options: { ...llama, vocabulary: 9, memory_width: 6, window: 2 }, wants: ["memory", "prompt"], what: "a sliding window",
    inputs: () => ({ memory: floats("memory", [2, 3, 6]), memory_mask: mask([[1, 1, 1], [1, 0, 1]]), prompt: floats("prompt", [2, 6]),
      dec_ids: ids([[1, 5, 7], [1, 5, 0]]), dec_mask: mask([[1, 1, 1], [1, 1, 0]]) }) },
  { plugin: llamaDecoder, options: { ...llama, vocabulary: 9, memory_width: 8, max_prefix: 2, tied: false, rope_scaling: { type: "linear", factor: 2 }, lora: { r: 2, alpha: 3, dropout: 0, train: ["embed", "norm", "lm_head"] } },
    wants: ["memory", "prompt"], what: "learned queries, a head of its own and adapters",
    inputs: () => ({ memory: floats("memory", [2, 3, 8]), memory_mask: mask([[1, 1, 1], [1, 0, 1]]), prompt: floats("prompt", [2, 8]),
      dec_ids: ids([[1, 5, 7], [1, 5, 0]]), dec_mask: mask([[1, 1, 1], [1, 1, 0]]) }) },
  { plugin: llamaDecoder, options: { ...llama, vocabulary: 9, memory_width: 6, share_base_with_text: true, lora: { r: 2, alpha: 3, dropout: 0.1 } }, wants: ["memory", "base"], what: "the text encoder's weights",
    inputs: () => ({ memory: floats("memory", [2, 3, 6]), memory_mask: mask([[1, 1, 1], [1, 0, 1]]), base: floats("base", [9 * 8 + 2 * (8 * 2 * 12 + 3 * 8 * 12 + 16) + 8], 0.2, 0.1),
      dec_ids: ids([[1, 5, 7], [1, 5, 0]]), dec_mask: mask([[1, 1, 1], [1, 1, 0]]) }) },
  { plugin: llamaEncoder, options: { ...llama, vocabulary: 9, head_dim: 2, share_base: true }, wants: [], what: "its weights as an output",
    inputs: () => ({ text_ids: ids([[1, 5, 7, 2], [1, 5, 0, 0]]), text_mask: mask([[1, 1, 1, 1], [1, 1, 0, 0]]) }) },
  { plugin: mlm, options: { width: 6, text_width: 5, vocabulary: 7, grid: 2 }, wants: ["memory", "embedding"],
    inputs: () => ({ memory: floats("memory", [2, 9, 6]), embedding: floats("table", [7, 5]), mlm_index: vector([1, 2, 7]), mlm_targets: vector([3, 0, 6]) }) },
  { plugin: mimTeacher, options: { width: 6, targets: 5, grid: 2 }, wants: ["memory"],
    inputs: () => ({ memory: floats("memory", [2, 9, 6]), targets: floats("targets", [2, 4, 5]), mim_index: vector([0, 6]) }) },
  { plugin: mimCodes, options: { width: 6, codes: 5, grid: 2 }, wants: ["memory"],
    inputs: () => ({ memory: floats("memory", [2, 9, 6]), codes: ids([[4, 0, 1, 2], [3, 3, 2, 0]]), mim_index: vector([0, 6]) }) },
  { plugin: mimTeacher, options: { width: 6, targets: 5, grid: 2, merge: 2, loss: "mse", cls_pt: true, states: "vision" }, wants: ["memory", "cls_pt_states"], what: "squared difference, merged cells, two branches",
    inputs: () => ({ memory: floats("memory", [2, 5, 6]), cls_pt_states: floats("branch", [2, 5, 6]), targets: floats("targets", [2, 16, 5]), mim_index: vector([0, 6]) }) },
  { plugin: mimCodes, options: { width: 6, codes: 5, grid: 2, cls_pt: true, shared_head: false, states: "vision" }, wants: ["memory", "cls_pt_states"], what: "two branches with a head each",
    inputs: () => ({ memory: floats("memory", [2, 5, 6]), cls_pt_states: floats("branch", [2, 5, 6]), codes: ids([[4, 0, 1, 2], [3, 3, 2, 0]]), mim_index: vector([0, 6]) }) },
  { plugin: vqKdLoss, options: { patches: 3, dim: 4, targets: 5, codes: 6, beta: 0.7 }, wants: ["z", "rec"],
    inputs: () => ({ z: floats("z", [2, 3, 4]), z_q: floats("z_q", [2, 3, 4]), codes: ids([[0, 1, 5], [5, 5, 2]]), rec: floats("rec", [2, 3, 5]), targets: floats("targets", [2, 3, 5]) }) },
  { plugin: contrastive, options: { width: 5 }, wants: ["image", "text", "logit_scale"],
    inputs: () => ({ image: floats("image", [3, 5]), text: floats("text", [3, 5]), logit_scale: floats("scale", [1], 0.1, 1) }) },
  { plugin: contrastive, options: { source: "memory", width: 6, grid: 2 }, wants: ["memory"], what: "over the memory",
    inputs: () => ({ memory: floats("memory", [3, 9, 6]), text_mask: mask([[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]]) }) },
  { plugin: wpa, options: { width: 6, grid: 2 }, wants: ["memory"],
    inputs: () => ({ memory: floats("memory", [2, 9, 6]), labels: ids([[1, 0, -100, 1], [-100, -100, 0, 1]]) }) },
  { plugin: answer, options: { width: 6, vocabulary: 7, location_base: 2, location_bins: 2 }, wants: ["hidden", "embedding"],
    inputs: () => ({ hidden: floats("hidden", [2, 4, 6]), embedding: floats("table", [7, 6]), dec_index: vector([0, 1, 2, 4, 5]),
      dec_targets: vector([4, 2, 3, 6, 1]), box_targets: floats("boxes", [2, 4], 0.1, 0.4), box_index: vector([1, 6]) }) },
];

describe("INV-G1: gradients of whole components", () => {
  for (const { plugin, options, inputs, wants, what } of cases) {
    it(`${plugin.id}${what ? ` with ${what}` : ""}: every parameter and input agrees with central differences`, async () => {
      const component = build(plugin, options);
      fillParameters(component, "f64");
      const scope = new Scope("gradients");
      try {
        const given = scope.enter(inputs);
        const leaves: Record<string, Tensor> = Object.fromEntries([
          ...Object.entries(component.parameters()).filter(([, p]) => p.trainable).map(([name, p]) => [name, p.value] as const),
          ...wants.map((name) => [name, given[name]] as const),
        ]);
        const gradients = scope.enter(() => {
          const tape = new Tape();
          for (const name of wants) tape.watch(given[name]);
          const value = tape.record(() => scalarOf(component, given, plugin, options));
          return tape.backward([[value, fromArray([1], [1], "f64")]]);
        });
        for (const [name, leaf] of Object.entries(leaves)) {
          const gradient = gradients.get(leaf);
          assert.ok(gradient, `${name} gets no gradient`);
          const got = await gradient.read() as Float64Array;
          const values = (await leaf.read() as Float64Array).slice();
          for (const e of spread(leaf.size)) {
            const expected = await difference(component, given, plugin, options, leaf, values, e);
            const error = Math.abs(got[e] - expected) / Math.max(1, Math.abs(expected));
            assert.ok(error < 1e-7, `${name}[${e}]: tape ${got[e]}, central difference ${expected}`);
          }
        }
      } finally {
        scope.close();
        for (const parameter of Object.values(component.parameters())) parameter.release();
      }
    });
  }
});

/** All outputs that carry a gradient, weighted unevenly and summed: one number that depends on every element. */
function scalarOf(component: TensorComponent, inputs: Record<string, Tensor>, plugin: Plugin, options: Case["options"]): Tensor {
  const outputs = component.forward(inputs, context({ training: true, counts, sampleIds: [3, 4] }));
  const ports = plugin.ports(plugin.options.parse(options)).out;
  return Object.keys(ports).filter((name) => ports[name].gradient)
    .map((name) => sumOf(mul(outputs[name], floats(`weights of ${name}`, [...outputs[name].shape]))))
    .reduce((total, part) => add(total, part));
}

async function difference(component: TensorComponent, inputs: Record<string, Tensor>, plugin: Plugin, options: Case["options"], leaf: Tensor, values: Float64Array, element: number): Promise<number> {
  const step = 1e-5;
  const at = async (value: number) => {
    const moved = values.slice();
    moved[element] = value;
    leaf.write(moved);
    const scope = new Scope("difference");
    const result = await scope.enter(() => scalarOf(component, inputs, plugin, options)).item();
    scope.close();
    return result;
  };
  const [up, down] = [await at(values[element] + step), await at(values[element] - step)];
  leaf.write(values);
  return (up - down) / (2 * step);
}

/** A few elements over the whole tensor, the first and the last among them. */
const spread = (size: number): number[] => [...new Set([0, Math.floor(size / 3), Math.floor((2 * size) / 3), size - 1])];
