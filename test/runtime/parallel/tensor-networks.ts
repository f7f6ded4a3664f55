/** Networks for tests of tensor parallelism: what one process computes, and what every member of a tensor group does. */
import { z } from "zod";
import { builtins } from "../../../plugins/index.ts";
import { createRegistry, definePlugin, fromArray, type ForwardContext, mul, nn, port, reshape, sgd, sum, type Tensor, type TensorComponent } from "../../../runtime/index.ts";
import { type Group } from "../../../runtime/parallel/groups/collectives.ts";
import { joined, membersOf, shareOut } from "../../../runtime/parallel/sharing/tensor-parallel.ts";
import type { Edge, Graph, GraphNode } from "../../../runtime/pipeline/graph/graph.ts";
import { MicrobatchPass } from "../../../runtime/pipeline/run/microbatch.ts";
import { Philox } from "../../../runtime/tensor/philox.ts";
import { type HostArray, type Shape, sizeOf } from "../../../runtime/tensor/index.ts";

type DType = "f32" | "f64";
type Feed = { shape: Shape; fill: (random: Philox, index: number) => number; dtype?: "i32" | "u8" };
interface Part { use: string; options: Record<string, unknown>; in: Record<string, string> }
/** Components by name, in order; what they are given from outside, as `data.name`; the outputs that are compared. */
interface Network { parts: Record<string, Part>; data: Record<string, Feed>; outputs: string[] }

const numbers = (shape: Shape): Feed => ({ shape, fill: (random) => random.normal() });
const words = (shape: Shape, count: number): Feed => ({ shape, dtype: "i32", fill: (random) => Math.floor(random.uniform(0, count)) });
const real = (rows: number, length: number): Feed => ({ shape: [rows, length], dtype: "u8", fill: (_, i) => Number(i % length < length - (Math.floor(i / length) % 2)) });
const labels = (count: number, vocabulary: number): Feed => ({ shape: [count], dtype: "i32", fill: (random, i) => (i === 1 ? -100 : Math.floor(random.uniform(0, vocabulary))) });
const places = (count: number, among: number): Feed => ({ shape: [count], dtype: "i32", fill: (_, i) => (i * 3) % among });

/** Any output as a loss: the sum of its elements times fixed numbers. */
const weighted = definePlugin({
  kind: "objective", name: "weighted", version: "1.0.0", options: z.strictObject({}), tensor: () => ({}),
  ports: () => ({ in: { x: port(["..."]) }, out: { loss: port([1]) } }),
  create: () => ({ parameters: () => ({}), forward: ({ x }) => ({ loss: reshape(sum(mul(x, factors(x))), [1]) }) }),
});
const factors = (x: Tensor): Tensor => fromArray(Float64Array.from({ length: x.size }, (_, i) => Math.sin(i + 1) / x.shape[0]), x.shape, x.dtype);
const loss = (from: string): Part => ({ use: "objective/weighted", options: {}, in: { x: from } });

const [B, T] = [3, 5];
const texts = { text_ids: words([B, T], 40), text_mask: real(B, T) };
const textOptions = { vocabulary: 40, width: 24, layers: 2, heads: 4, kv_heads: 4, head_dim: 6, hidden: 32 };
const text = (more: Record<string, unknown> = {}): Part => ({ use: "text-encoder/llama", options: { ...textOptions, ...more }, in: { text_ids: "data.text_ids", text_mask: "data.text_mask" } });
const image = (more: Record<string, unknown> = {}, side = 8): Network => ({
  parts: { image: { use: "image-encoder/beit", options: { image: side, patch: 4, width: 16, layers: 2, heads: 4, ...more }, in: { pixels: "data.pixels", patch_mask: "data.patch_mask" } }, loss: loss("image.states") },
  data: { pixels: numbers([B, 3, side, side]), patch_mask: { shape: [B, (side / 4) ** 2], dtype: "u8", fill: (_, i) => Number(i % 3 === 0) } }, outputs: ["image.states"],
});
const fusion = (use: string, more: Record<string, unknown> = {}): Network => ({
  parts: {
    fusion: { use, options: { image_width: 8, text_width: 12, width: 16, grid: 2, layers: 2, heads: 4, ...more }, in: { image: "data.image", text: "data.text", text_mask: "data.text_mask", text_position: "data.place" } },
    loss: loss("fusion.memory"),
  },
  data: { image: numbers([B, 5, 8]), text: numbers([B, T, 12]), text_mask: real(B, T), place: numbers([B, T, 16]) }, outputs: ["fusion.memory"],
});

export const networks: Record<string, Network> = {
  "text-encoder/llama": { parts: { text: text(), loss: loss("text.states") }, data: texts, outputs: ["text.states"] },
  "text-encoder/llama, grouped queries": { parts: { text: text({ heads: 8, kv_heads: 4, attention: "causal" }), loss: loss("text.states") }, data: texts, outputs: ["text.states"] },
  "text-encoder/llama, adapters everywhere and dropout": {
    parts: {
      text: text({ attention_dropout: 0.3, lora: { r: 3, alpha: 6, dropout: 0.4, targets: ["q_proj", "o_proj", "down_proj", "up_proj", "embed_tokens"], train: ["embed", "norm"] } }),
      loss: loss("text.states"), table: loss("text.embedding"),
    },
    data: texts, outputs: ["text.states", "text.embedding"],
  },
  "image-encoder/beit": image(),
  "image-encoder/beit, drop path and a table per block": image({ rel_pos_bias: "per_layer", drop_path: 0.5, cls_pt: { early_layers: 1, head_layers: 1 } }),
  "fusion/multiway": fusion("fusion/multiway", { drop_path: 0.3 }),
  "fusion/multiway, positions in every layer": fusion("fusion/multiway", { position_per_layer: true }),
  "fusion/co-attention": fusion("fusion/co-attention"),
  "prompt-encoder/bert": {
    parts: { prompt: { use: "prompt-encoder/bert", options: { vocabulary: 40, width: 16, layers: 2, heads: 4, hidden: 32, memory_width: 8 }, in: { prompt_ids: "data.text_ids", prompt_mask: "data.text_mask" } }, loss: loss("prompt.embedding") },
    data: texts, outputs: ["prompt.embedding"],
  },
  "objective/mlm on the shared table": {
    parts: {
      text: text(),
      mlm: { use: "objective/mlm", options: { width: 24, text_width: 24, vocabulary: 40, grid: 1 }, in: { memory: "text.states", embedding: "text.embedding", mlm_index: "data.index", mlm_targets: "data.targets" } },
    },
    data: { ...texts, index: places(7, B * (T - 2)), targets: labels(7, 40) }, outputs: ["mlm.loss", "mlm.accuracy"],
  },
  "objective/mlm where a microbatch has no masked token": {
    parts: {
      text: text(), loss: loss("text.states"),
      mlm: { use: "objective/mlm", options: { width: 24, text_width: 24, vocabulary: 40, grid: 1 }, in: { memory: "text.states", embedding: "text.embedding", mlm_index: "data.index", mlm_targets: "data.targets" } },
    },
    data: { ...texts, index: places(0, 1), targets: labels(0, 40) }, outputs: ["mlm.loss", "mlm.accuracy"],
  },
  "objective/causal-lm with a head of its own": {
    parts: {
      text: text({ attention: "causal", lm_head: "trained" }),
      lm: { use: "objective/causal-lm", options: { width: 24, vocabulary: 40 }, in: { states: "text.states", head: "text.head", labels: "data.text_ids" } },
    },
    data: texts, outputs: ["lm.loss"],
  },
  "decoder/llama and objective/answer": {
    parts: {
      decoder: { use: "decoder/llama", options: { memory_width: 12, vocabulary: 40, width: 32, layers: 2, heads: 4, kv_heads: 4, hidden: 48 }, in: { memory: "data.memory", memory_mask: "data.memory_mask", dec_ids: "data.text_ids", dec_mask: "data.text_mask" } },
      answer: {
        use: "objective/answer", options: { width: 32, vocabulary: 40, location_base: 30, location_bins: 10 },
        in: { hidden: "decoder.hidden", embedding: "decoder.embedding", labels: "data.answers", box_targets: "data.boxes", box_index: "data.box_index" },
      },
    },
    data: {
      ...texts, memory: numbers([B, 4, 12]), memory_mask: real(B, 4), answers: words([B, T], 40), box_index: places(2, B * T),
      boxes: { shape: [2, 4], fill: (random) => random.uniform(0.2, 0.8) },
    },
    outputs: ["answer.loss", "answer.accuracy"],
  },
};

/** Enough tokens for memory to be theirs. */
export const largePage = "image-encoder/beit, 65 tokens";
networks[largePage] = image({}, 32);

export interface Told { network: string; dtype: DType; steps: number; recompute?: boolean; sharesTokens?: boolean }
export interface Found {
  /** Of every step. */
  losses: number[];
  /** After the first step, by name: outputs, and gradients, whole. */
  outputs: Record<string, HostArray>;
  gradients: Record<string, HostArray>;
  /** After the last step, whole. */
  values: Record<string, HostArray>;
  /** Names of what is shared out, and numbers held here. */
  shared: string[];
  held: number;
  /** Bytes remembered between forward and backward of the last step. */
  remembered: number;
}

/** Gradient descent on one batch. With a group, what its members do together. */
export async function learn(group: Group | undefined, { network, dtype, steps, recompute = false, sharesTokens = false }: Told): Promise<Found> {
  const { parts, data, outputs } = networks[network], { graph, parameters } = build(parts, recompute);
  if (group) for (const node of graph.nodes) nodeShares(node, group, sharesTokens);
  nn.materialise(parameters, { seed: 5, prefix: "", dtype });
  const rule = sgd({ momentum: 0 }), random = new Philox(9, 1), inputs = Object.fromEntries(Object.entries(data).map(([name, feed]) => [name, filled(feed, random)]));
  const found: Found = { losses: [], outputs: {}, gradients: {}, values: {}, shared: Object.keys(parameters).filter((name) => parameters[name].split), held: nn.countParameters(parameters), remembered: 0 };
  const context: ForwardContext = { training: true, step: 0, seed: 4, counts: counts, sampleIds: [11, 12, 13], precision: "f32" };
  for (let step = 0; step < steps; step++) {
    const pass = new MicrobatchPass(graph, graph.nodes, { ...context, step }, `step ${step}`);
    try {
      pass.forward(Object.fromEntries(Object.entries(data).map(([name, feed]) => [`data.${name}`, fromArray(inputs[name], feed.shape, feed.dtype ?? dtype)])));
      found.remembered = pass.scope.memory().bytesInUse;
      const gradients = pass.backward({}).parameters;
      found.losses.push((await Promise.all(pass.scalars().filter(([name]) => !name.includes(".")).map(([, tensor]) => tensor.item()))).reduce((a, b) => a + b, 0));
      if (step === 0) {
        for (const key of outputs) found.outputs[key] = await pass.value(...(key.split(".") as [string, string])).read();
        for (const [name, gradient] of gradients) found.gradients[name] = await wholeOf(parameters[name], gradient, group);
      }
      for (const [name, gradient] of gradients) rule.step(parameters[name], gradient, { step: step + 1, learningRate: 0.002, gradScale: 1 });
    } finally {
      pass.close();
    }
  }
  for (const [name, parameter] of Object.entries(parameters)) found.values[name] = await wholeOf(parameter, parameter.value, group);
  rule.dispose();
  nn.release(parameters);
  return found;
}

const counts = { mlm_tokens: 6, lm_tokens: 12, answer_text_tokens: 9, answer_loc_tokens: 6, boxes: 2 };

const wholeOf = async (parameter: nn.Parameter, tensor: Tensor, group: Group | undefined): Promise<HostArray> => (group ? (await joined(parameter, tensor, group)).values : tensor.read());

function nodeShares(node: GraphNode, group: Group, sharesTokens: boolean): void {
  const plan = node.plugin.tensor!(node.options);
  if ("refused" in plan) throw new Error(plan.refused.because);
  node.members = membersOf({ rank: group.rank, size: group.size, sharesTokens, group: () => group });
  shareOut(node.parameters, plan, node.members);
}

function filled({ shape, fill, dtype }: Feed, random: Philox): HostArray {
  const values = Array.from({ length: sizeOf(shape) }, (_, i) => fill(random, i));
  return dtype === "i32" ? Int32Array.from(values) : dtype === "u8" ? Uint8Array.from(values) : Float64Array.from(values);
}

function build(parts: Record<string, Part>, recompute: boolean): { graph: Graph; parameters: nn.Parameters } {
  const registry = createRegistry([...builtins, weighted]), host = { seed: 1, resolvePath: (path: string) => path, build: (): never => { throw new Error("builds nothing"); } };
  const nodes = Object.entries(parts).map(([name, part]): GraphNode => {
    const plugin = registry.resolve(part.use), options = plugin.options.parse(part.options), component = plugin.create(options, host) as TensorComponent;
    return { name, use: part.use, kind: plugin.kind, plugin, options, ports: plugin.ports(options), inputs: part.in, component, parameters: component.parameters(), trainable: true, frozen: false };
  });
  const edges = nodes.flatMap(({ name, inputs, ports }) => Object.entries(inputs).map(([to, from]): Edge => {
    const [component, output] = from.split(".");
    return { from: [component, output], to: [name, to], dtype: "f32", dims: ports.in[to].dims, gradient: component !== "data" };
  }));
  return { graph: { nodes, edges, recompute } as unknown as Graph, parameters: Object.assign({}, ...nodes.map((node) => node.parameters)) };
}
