import { existsSync } from "node:fs";
import { join } from "node:path";
import { RuntimeError } from "../errors.ts";
import { writeRelease, type WriteOptions } from "./release.ts";
import { openSafetensors, type WritableTensor } from "./safetensors.ts";
import { readStored, type StoredTensor, type TensorSource, toFloat32 } from "./stored.ts";
import { openTensors, readSidecar } from "./tensor-files.ts";
import { openTorchFile } from "./torch-file.ts";

/**
 * LoRA adapters as PEFT writes them: adapter_config.json, adapter_model.safetensors (or .bin, read through the tensor-only reader), and
 * beside them LongLoRA's trainable_params and LLM2Vec's llm2vec_config.json.
 * AD-1: paths are ours: `base_model.model.`, one `model.` and the adapter's label are taken off (an LLM2Vec adapter has one `model.` fewer
 * than one of a causal model). AD-2: alpha / r is in `scale` and nowhere else. AD-3: what we cannot compute is refused, not left out.
 * Source: Hu et al. 2021 (LoRA), Kalajdzievski 2023 (rsLoRA), the PEFT file format.
 */
export interface AdapterConfig extends Record<string, unknown> {
  r: number;
  lora_alpha: number;
  lora_dropout: number;
  use_rslora: boolean;
  target_modules: string | string[] | null;
  rank_pattern: Record<string, number>;
  alpha_pattern: Record<string, number>;
  base_model_name_or_path: string | null;
  task_type: string | null;
}

/** y = x W' + scale * dropout(x) A' B'. Of an embedding: A (r, V), B (D, r). */
export interface AdapterModule { path: string; kind: "linear" | "embedding"; a: StoredTensor; b: StoredTensor; rank: number; scale: number }

export interface Adapter {
  config: AdapterConfig;
  /** By path: `layers.0.self_attn.q_proj`. */
  modules: ReadonlyMap<string, AdapterModule>;
  /** Whole tensors that take the place of the base's: saved modules, LongLoRA's embeddings and norms. By name: `embed_tokens.weight`. */
  replaced: ReadonlyMap<string, StoredTensor>;
  /** llm2vec_config.json, where there is one. */
  llm2vec?: Record<string, unknown>;
  warnings: string[];
}

const known = ["peft_type", "task_type", "base_model_name_or_path", "r", "lora_alpha", "lora_dropout", "target_modules", "bias", "fan_in_fan_out", "use_rslora", "use_dora", "modules_to_save",
  "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "init_lora_weights", "inference_mode", "auto_mapping", "revision", "peft_version", "exclude_modules",
  "megatron_config", "megatron_core", "loftq_config", "corda_config", "eva_config"];
/** Switched on, these change what is computed, in ways that are not built here. */
const unbuilt = ["use_dora", "fan_in_fan_out", "lora_bias", "layer_replication", "use_qalora", "trainable_token_indices", "target_parameters", "alora_invocation_tokens", "arrow_config"];

/** A folder with an adapter. Throws ERR_CHECKPOINT for another kind of adapter, unknown keys of tensors, halves of pairs, ranks that disagree. */
export function readAdapter(folder: string): Adapter {
  const raw = readSidecar(folder, "adapter_config.json");
  if (!raw) throw refusal(folder, "there is no adapter_config.json");
  const config = checkedConfig(folder, raw);
  const source = openTensors(folder);
  try {
    const { halves, replaced } = sortKeys(source);
    const modules = new Map([...halves].map(([path, pair]) => [path, moduleOf(folder, path, pair, config)]));
    for (const [name, tensor] of trainableParams(folder)) replaced.set(name, tensor);
    const warnings = Object.keys(raw).filter((key) => !known.includes(key) && !unbuilt.includes(key)).map((key) => `adapter_config.json: "${key}" is not known here and was ignored`);
    return { config, modules, replaced, llm2vec: readSidecar(folder, "llm2vec_config.json"), warnings };
  } finally {
    source.close();
  }
}

function checkedConfig(folder: string, raw: Record<string, unknown>): AdapterConfig {
  if (raw.peft_type !== "LORA") throw refusal(folder, `it is of type ${JSON.stringify(raw.peft_type)}, and only LORA is read`);
  if ((raw.bias ?? "none") !== "none") throw refusal(folder, `it trained biases (bias: ${JSON.stringify(raw.bias)}), which have no place here`);
  for (const feature of unbuilt) if (isOn(raw[feature])) throw refusal(folder, `it needs ${feature}, which is not built here`);
  const config = {
    ...raw, r: raw.r ?? 8, lora_alpha: raw.lora_alpha ?? 8, lora_dropout: raw.lora_dropout ?? 0, use_rslora: raw.use_rslora ?? false,
    target_modules: raw.target_modules ?? null, rank_pattern: raw.rank_pattern ?? {}, alpha_pattern: raw.alpha_pattern ?? {},
    base_model_name_or_path: raw.base_model_name_or_path ?? null, task_type: raw.task_type ?? null,
  } as AdapterConfig;
  if (!Number.isInteger(config.r) || config.r < 1 || !Number.isFinite(config.lora_alpha)) throw refusal(folder, `r is ${config.r} and lora_alpha ${config.lora_alpha}`);
  return config;
}

const isOn = (value: unknown): boolean => Boolean(value) && !(typeof value === "object" && Object.keys(value as object).length === 0);

interface Halves { a?: StoredTensor; b?: StoredTensor; kind: AdapterModule["kind"] }

function sortKeys(source: TensorSource): { halves: Map<string, Halves>; replaced: Map<string, StoredTensor> } {
  const halves = new Map<string, Halves>(), replaced = new Map<string, StoredTensor>(), strange: string[] = [];
  for (const key of source.names) {
    const name = pathOf(key);
    const lora = name && /^(.+)\.lora_(?:(A|B)(?:\.[^.]+)?\.weight|embedding_(A|B)(?:\.[^.]+)?)$/.exec(name);
    if (name === undefined || /lora_(?!A|B|embedding_)/.test(name)) strange.push(key);
    else if (lora) {
      const half = halves.get(lora[1]) ?? { kind: lora[2] ? "linear" : "embedding" };
      halves.set(lora[1], { ...half, [(lora[2] ?? lora[3]).toLowerCase()]: readStored(source, key) });
    } else if (/\.lora_/.test(name)) strange.push(key);
    else replaced.set(name.replace(/\.modules_to_save(\.[^.]+)?(?=\.(weight|bias)$)/, ""), readStored(source, key));
  }
  if (strange.length > 0) throw refusal(source.path, `it holds what no LoRA adapter does: ${strange.slice(0, 5).join(", ")}${strange.length > 5 ? ` and ${strange.length - 5} more` : ""}`);
  return { halves, replaced };
}

/** AD-1; undefined for a key that is none of an adapter's. */
function pathOf(key: string): string | undefined {
  const outer = "base_model.model.";
  return key.startsWith(outer) ? key.slice(outer.length).replace(/^model\./, "") : undefined;
}

function moduleOf(folder: string, path: string, { a, b, kind }: Halves, config: AdapterConfig): AdapterModule {
  if (!a || !b) throw refusal(folder, `${path} has ${a ? "A without B" : "B without A"}`);
  const rank = byPattern(config.rank_pattern, path) ?? config.r, alpha = byPattern(config.alpha_pattern, path) ?? config.lora_alpha;
  if (a.shape.length !== 2 || b.shape.length !== 2 || a.shape[0] !== rank || b.shape[1] !== rank) {
    throw refusal(folder, `${path} has A (${a.shape.join(", ")}) and B (${b.shape.join(", ")}); adapter_config.json says rank ${rank}`);
  }
  return { path, kind, a, b, rank, scale: alpha / (config.use_rslora ? Math.sqrt(rank) : rank) };
}

/** PEFT's rule: a key fits a whole path or its end after a dot, as a regular expression. */
function byPattern(patterns: Record<string, number>, path: string): number | undefined {
  return Object.entries(patterns).find(([pattern]) => {
    try {
      const whole = new RegExp(`^(.*\\.)?(${pattern})$`);
      return ["", "model."].some((prefix) => whole.test(prefix + path));
    } catch (cause) {
      throw new RuntimeError("ERR_CHECKPOINT", `adapter_config.json: the pattern ${JSON.stringify(pattern)} is no regular expression.`, { pattern }, { cause });
    }
  })?.[1];
}

/** LongLoRA's embeddings and norms, saved whole: names of the causal model, without `base_model.model.`. */
function trainableParams(folder: string): Map<string, StoredTensor> {
  const file = ["trainable_params.safetensors", "trainable_params.bin"].map((name) => join(folder, name)).find(existsSync);
  if (file === undefined) return new Map();
  const source = file.endsWith(".bin") ? openTorchFile(file) : openSafetensors(file);
  try {
    return new Map(source.names.map((name) => [name.replace(/^(base_model\.model\.)?(model\.)?/, ""), readStored(source, name)]));
  } finally {
    source.close();
  }
}

/**
 * Does an adapter belong to a base? `shapeOf`: by name within the component (`layers.0.self_attn.q_proj.weight`). `baseName`: what the
 * base calls itself, where it does. Throws ERR_CHECKPOINT listing every path that does not fit.
 */
export function requireFit(adapter: Adapter, shapeOf: (name: string) => readonly number[] | undefined, baseName?: string): void {
  const problems: string[] = [];
  const theirs = adapter.config.base_model_name_or_path;
  if (baseName && theirs && lastPart(baseName) !== lastPart(theirs)) problems.push(`it was trained on ${theirs}, this is ${baseName}`);
  for (const { path, kind, a, b } of adapter.modules.values()) {
    const shape = shapeOf(`${path}.weight`);
    const wanted = kind === "linear" ? [b.shape[0], a.shape[1]] : [a.shape[1], b.shape[0]];
    if (!shape) problems.push(`${path}: the base has no such weight`);
    else if (shape.join() !== wanted.join()) problems.push(`${path}: the adapter is for (${wanted.join(", ")}), the base has (${shape.join(", ")})`);
  }
  for (const [name, tensor] of adapter.replaced) {
    const shape = shapeOf(name);
    if (!shape || shape.join() !== tensor.shape.join()) problems.push(`${name}: the adapter has (${tensor.shape.join(", ")}), the base ${shape ? `(${shape.join(", ")})` : "no such weight"}`);
  }
  if (problems.length > 0) throw new RuntimeError("ERR_CHECKPOINT", `the adapter does not belong to this base model:${problems.map((line) => `\n  ${line}`).join("")}`, { problems });
}

const lastPart = (name: string): string => name.replace(/\/+$/, "").split("/").at(-1)!.toLowerCase();

/** Whether an adapter has a say in a tensor of the base, by name within the component. */
export const touches = (adapter: Adapter, name: string): boolean => adapter.replaced.has(name) || adapter.modules.has(name.replace(/\.weight$/, ""));

/** weight (out, in) row-major, changed in place: W += scale * B A, each element's sum in f64 and rounded once. Of an embedding: W += scale * (B A)'. */
export function mergeModule(weight: Float32Array, { kind, a, b, rank, scale }: AdapterModule): void {
  const [left, right] = kind === "linear" ? [toFloat32(b), toFloat32(a)] : [transposed(toFloat32(a), rank), transposed(toFloat32(b), b.shape[0])];
  const columns = right.length / rank, rows = left.length / rank;
  const sums = new Float64Array(columns);
  for (let row = 0; row < rows; row++) {
    sums.fill(0);
    for (let k = 0; k < rank; k++) {
      const factor = left[row * rank + k] * scale;
      for (let c = 0; c < columns; c++) sums[c] += factor * right[k * columns + c];
    }
    for (let c = 0; c < columns; c++) weight[row * columns + c] += sums[c];
  }
}

/** (rows, N) -> (N, rows) */
function transposed(values: Float32Array, rows: number): Float32Array {
  const columns = values.length / rows;
  return Float32Array.from(values, (_, k) => values[(k % rows) * columns + Math.floor(k / rows)]);
}

export interface AdapterRelease extends WriteOptions {
  /** Keys as a causal model's wrapper has them, or a bare inner model's (LLM2Vec). Default: causal. */
  wrapper?: "causal" | "inner";
}

/**
 * Writes what `readAdapter` reads. Whole tensors of the base go into the adapter's file where `modules_to_save` names them, else into
 * `trainable_params.safetensors`, as LongLoRA keeps them.
 */
export async function writeAdapter(target: string, adapter: Adapter, { wrapper = "causal", ...o }: AdapterRelease = {}): Promise<string[]> {
  const outer = "base_model.model.", inner = wrapper === "causal" ? "model." : "";
  const full = (name: string): string => (name.startsWith("lm_head.") ? name : inner + name);
  const saved = (adapter.config.modules_to_save ?? []) as string[];
  const tensors = new Map<string, StoredTensor>(), trained = new Map<string, StoredTensor>();
  for (const { path, kind, a, b } of adapter.modules.values()) {
    tensors.set(`${outer}${inner}${path}.${kind === "linear" ? "lora_A.weight" : "lora_embedding_A"}`, a);
    tensors.set(`${outer}${inner}${path}.${kind === "linear" ? "lora_B.weight" : "lora_embedding_B"}`, b);
  }
  for (const [name, tensor] of adapter.replaced) {
    if (saved.includes(name.split(".").at(-2) ?? "")) tensors.set(outer + full(name), tensor);
    else trained.set(full(name), tensor);
  }
  const files = await writeRelease(target, {
    ...o, name: "adapter_model", tensors: writable(tensors), ...(trained.size > 0 && { beside: { "trainable_params.safetensors": writable(trained) } }), maxShardBytes: Infinity,
    files: {
      "adapter_config.json": JSON.stringify({ bias: "none", fan_in_fan_out: false, use_dora: false, inference_mode: true, init_lora_weights: true, modules_to_save: null, layers_to_transform: null, layers_pattern: null, ...adapter.config, peft_type: "LORA" }, undefined, 2),
      ...(adapter.llm2vec && { "llm2vec_config.json": JSON.stringify(adapter.llm2vec, undefined, 2) }),
    },
  });
  return trained.size > 0 ? [...files, "trainable_params.safetensors"] : files;
}

const writable = (tensors: ReadonlyMap<string, StoredTensor>): Map<string, WritableTensor> =>
  new Map([...tensors].map(([name, { dtype, shape, data }]) => [name, { dtype, shape, pieces: () => [data] }]));

export interface AdapterOfOptions {
  /** No shape tells it. */
  alpha: number;
  dropout?: number;
  useRslora?: boolean;
  base?: string;
  causal?: boolean;
  /** Which of several; the one called "default" has no label. */
  name?: string;
  /** Parameters with one of these in their names trained beside it (LongLoRA's `embed`, `norm`): they go along whole. */
  train?: readonly string[];
}

/**
 * The adapter that a component's parameters hold: `<prefix><path>.lora_A.weight` (r, in) and `lora_B.weight` (out, r) beside the weights,
 * `lora_A.<name>.weight` of one with a name. Throws ERR_CHECKPOINT when there is none.
 */
export function adapterOf(source: TensorSource, prefix: string, { name: wanted = "default", train = [], ...o }: AdapterOfOptions): Adapter {
  const halves = new Map<string, Halves>(), replaced = new Map<string, StoredTensor>();
  for (const name of source.names.filter((each) => each.startsWith(prefix))) {
    const lora = /^(.+)\.lora_(?:(A|B)(?:\.(?<map>[^.]+))?\.weight|embedding_(A|B)(?:\.(?<table>[^.]+))?)$/.exec(name.slice(prefix.length));
    if (!lora) {
      if (train.some((part) => name.includes(part))) replaced.set(name.slice(prefix.length), readStored(source, name));
      continue;
    }
    const kind = lora[2] ? "linear" : "embedding";
    if ((lora.groups!.map ?? lora.groups!.table ?? "default") !== wanted) continue;
    halves.set(lora[1], { ...(halves.get(lora[1]) ?? { kind }), [(lora[2] ?? lora[4]).toLowerCase()]: readStored(source, name) });
  }
  if (halves.size === 0) throw refusal(source.path, `no parameter that begins with "${prefix}" is half of a LoRA pair${wanted === "default" ? "" : ` called "${wanted}"`}`);
  const ranks = new Map([...halves].map(([path, { a }]) => [path, a?.shape[0] ?? 0]));
  const [r] = ranks.values();
  const config: AdapterConfig = {
    peft_type: "LORA", task_type: o.causal ? "CAUSAL_LM" : null, base_model_name_or_path: o.base ?? null, r, lora_alpha: o.alpha, lora_dropout: o.dropout ?? 0,
    use_rslora: o.useRslora ?? false, target_modules: [...new Set([...halves.keys()].map((path) => path.split(".").at(-1)!))],
    rank_pattern: Object.fromEntries([...ranks].filter(([, rank]) => rank !== r).map(([path, rank]) => [path.replaceAll(".", "\\."), rank])), alpha_pattern: {},
  };
  return { config, modules: new Map([...halves].map(([path, pair]) => [path, moduleOf(source.path, path, pair, config)])), replaced, warnings: [] };
}

const refusal = (path: string, what: string): RuntimeError => new RuntimeError("ERR_CHECKPOINT", `${path}: not an adapter that can be used: ${what}.`, { path, what });
