import assert from "node:assert/strict";
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { adapterOf, mergeModule, openSafetensors, readAdapter, requireFit, writeAdapter, writeSafetensors, type Adapter, type StoredTensor } from "../../../runtime/index.ts";
import { fill } from "../../plugins/model/fill.ts";
import { temporaryFolder } from "../../process/octavo.ts";
import { llamaDecoder } from "../../../plugins/decoder/llama.ts";
import { llamaEncoder } from "../../../plugins/text-encoder/llama.ts";
import { build } from "../../plugins/model/harness.ts";
import { f32, memorySource, refused } from "./memory-source.ts";

const outer = "base_model.model.";

describe("a PEFT adapter", () => {
  const folder = temporaryFolder();
  after(() => folder.remove());
  let made = 0;
  const adapterFolder = (tensors: Record<string, StoredTensor>, config: Record<string, unknown> = {}): string => {
    const path = join(folder.path, `adapter-${made++}`);
    mkdirSync(path);
    writeFileSync(join(path, "adapter_config.json"), JSON.stringify({ peft_type: "LORA", r: 2, lora_alpha: 4, ...config }));
    writeSafetensors(join(path, "adapter_model.safetensors"), new Map(Object.entries(tensors)));
    return path;
  };
  const zeros = (...shape: number[]) => f32(shape, new Array(shape.reduce((a, b) => a * b, 1)).fill(0));
  const query = (o: { prefix?: string; label?: string; r?: number; path?: string } = {}) => {
    const key = `${o.prefix ?? `${outer}model.`}${o.path ?? "layers.0.self_attn.q_proj"}.lora_`, label = o.label ?? "";
    return { [`${key}A${label}.weight`]: zeros(o.r ?? 2, 6), [`${key}B${label}.weight`]: zeros(4, o.r ?? 2) };
  };

  it("merged equals unmerged: the golden numbers of LoRA", () => {
    // x (2, 6), W (4, 6), A (2, 6), B (4, 2) by the fill rule at scale 1, alpha 4, r 2: sum 1.1929511562, sum of absolutes 9.5030612033 (float64, the formula)
    const [x, weight, a, b] = ([["lora.x", [2, 6]], ["lora.W", [4, 6]], ["lora.A", [2, 6]], ["lora.B", [4, 2]]] as [string, number[]][]).map(([name, shape]) => fill(name, shape, 1));
    const merged = Float32Array.from(weight);
    mergeModule(merged, { path: "q", kind: "linear", a: f32([2, 6], a), b: f32([4, 2], b), rank: 2, scale: 4 / 2 });
    const y = [0, 1].flatMap((row) => [0, 1, 2, 3].map((out) => [0, 1, 2, 3, 4, 5].reduce((sum, k) => sum + x[row * 6 + k] * merged[out * 6 + k], 0)));
    assert.ok(Math.abs(y.reduce((sum, v) => sum + v, 0) - 1.1929511562) < 2e-5);
    assert.ok(Math.abs(y.reduce((sum, v) => sum + Math.abs(v), 0) - 9.5030612033) < 2e-5);
  });

  it("of an embedding adds the product the other way round", () => {
    // A (1, 3) over words, B (2, 1) over width: W[v][d] += scale B[d] A[v]
    const table = new Float32Array(6);
    mergeModule(table, { path: "embed_tokens", kind: "embedding", a: f32([1, 3], [1, 2, 3]), b: f32([2, 1], [10, 100]), rank: 1, scale: 2 });
    assert.deepEqual(Array.from(table), [20, 200, 40, 400, 60, 600]);
  });

  it("is found by path whatever wrapped it: causal model, inner model, with or without a label", () => {
    for (const tensors of [query(), query({ prefix: outer }), query({ label: ".default" })]) {
      const { modules } = readAdapter(adapterFolder(tensors));
      assert.deepEqual([...modules.keys()], ["layers.0.self_attn.q_proj"]);
      assert.deepEqual([...modules.values()].map(({ rank, scale, kind }) => [rank, scale, kind]), [[2, 2, "linear"]]);
    }
  });

  it("scales by alpha / r, by alpha / sqrt(r), and by the patterns of its modules", () => {
    const scale = (adapter: Adapter) => [...adapter.modules.values()].map((module) => module.scale);
    assert.deepEqual(scale(readAdapter(adapterFolder(query(), { use_rslora: true }))), [4 / Math.sqrt(2)]);
    assert.deepEqual(scale(readAdapter(adapterFolder(query({ r: 8 }), { r: 2, rank_pattern: { q_proj: 8 }, alpha_pattern: { "layers.0.self_attn.q_proj": 16 } }))), [2]);
    assert.deepEqual(scale(readAdapter(adapterFolder(query({ r: 8 }), { r: 2, rank_pattern: { "model\\.layers\\.\\d\\.self_attn\\.q_proj": 8 } }))), [0.5]);
    assert.deepEqual(scale(readAdapter(adapterFolder(query({ r: 8 }), { r: undefined, lora_alpha: undefined }))), [1], "defaults are 8 and 8");
  });

  it("in the older .bin form is read without running it", () => {
    const path = adapterFolder({}), old = join(folder.path, "old");
    mkdirSync(old);
    copyFileSync(join(path, "adapter_config.json"), join(old, "adapter_config.json"));
    copyFileSync(fileURLToPath(new URL("fixtures/adapter_model.bin", import.meta.url)), join(old, "adapter_model.bin"));
    const { modules } = readAdapter(old);
    assert.deepEqual([...modules.values()].map(({ path: at, a, b }) => [at, a.shape, b.shape]), [["layers.0.self_attn.q_proj", [2, 8], [8, 2]]]);
  });

  it("that asks for what is not built is refused, with its name", () => {
    const refusals: [Record<string, StoredTensor>, Record<string, unknown>, RegExp][] = [
      [query(), { use_dora: true }, /needs use_dora/], [query(), { bias: "all" }, /trained biases/], [query(), { peft_type: "IA3" }, /type "IA3"/],
      [query(), { layer_replication: [[0, 2]] }, /needs layer_replication/], [query(), { fan_in_fan_out: true }, /needs fan_in_fan_out/],
      [query({ r: 3 }), {}, /A \(3, 6\) and B \(4, 3\); adapter_config\.json says rank 2/],
      [{ [`${outer}model.x.lora_A.weight`]: zeros(2, 6) }, {}, /x has A without B/],
      [{ ...query(), "layers.0.strange": zeros(1) }, {}, /holds what no LoRA adapter does: layers\.0\.strange/],
      [{ ...query(), [`${outer}model.layers.0.self_attn.q_proj.lora_magnitude_vector`]: zeros(4) }, {}, /lora_magnitude_vector/],
    ];
    for (const [tensors, config, what] of refusals) assert.throws(() => readAdapter(adapterFolder(tensors, config)), refused(what));
    const odd = readAdapter(adapterFolder(query(), { something_later: 3, layer_replication: null, loftq_config: {} }));
    assert.deepEqual(odd.warnings, ['adapter_config.json: "something_later" is not known here and was ignored']);
  });

  it("for another base model is refused: by name, by shapes, by paths, all listed", () => {
    const shapes: Record<string, number[]> = { "layers.0.self_attn.q_proj.weight": [4, 6], "embed_tokens.weight": [9, 6] };
    const shapeOf = (name: string) => shapes[name];
    const adapter = readAdapter(adapterFolder(query(), { base_model_name_or_path: "meta-llama/Llama-2-7b-hf" }));
    requireFit(adapter, shapeOf), requireFit(adapter, shapeOf, "/models/llama-2-7b-hf/");
    assert.throws(() => requireFit(adapter, shapeOf, "mistralai/Mistral-7B-v0.1"), refused(/trained on meta-llama\/Llama-2-7b-hf, this is mistralai\/Mistral-7B-v0\.1/));
    assert.throws(() => requireFit(adapter, () => [8, 6]), refused(/q_proj: the adapter is for \(4, 6\), the base has \(8, 6\)/));
    assert.throws(() => requireFit(readAdapter(adapterFolder(query({ path: "layers.7.self_attn.q_proj" }))), shapeOf), refused(/layers\.7\.self_attn\.q_proj: the base has no such weight/));
    const table = readAdapter(adapterFolder({ ...query(), [`${outer}model.embed_tokens.weight`]: zeros(10, 6) }));
    assert.throws(() => requireFit(table, shapeOf), refused(/embed_tokens\.weight: the adapter has \(10, 6\), the base \(9, 6\)/));
  });

  it("is written as it was read, with LongLoRA's tensors and LLM2Vec's settings beside it", async () => {
    const path = adapterFolder({
      ...query(), [`${outer}model.embed_tokens.lora_embedding_A`]: f32([2, 3], [1, 2, 3, 4, 5, 6]), [`${outer}model.embed_tokens.lora_embedding_B`]: zeros(4, 2),
      [`${outer}lm_head.modules_to_save.default.weight`]: f32([1, 2], [7, 8]),
    }, { modules_to_save: ["lm_head"], target_modules: ["q_proj", "embed_tokens"], lora_dropout: 0.05 });
    writeSafetensors(join(path, "trainable_params.safetensors"), new Map([["model.norm.weight", f32([2], [3, 4])]]));
    writeFileSync(join(path, "llm2vec_config.json"), JSON.stringify({ pooling_mode: "mean", max_length: 512 }));
    const adapter = readAdapter(path);
    assert.deepEqual([...adapter.replaced.keys()], ["lm_head.weight", "norm.weight"]);
    for (const wrapper of ["causal", "inner"] as const) {
      const target = join(folder.path, `written-${wrapper}`);
      await writeAdapter(target, adapter, { wrapper });
      const again = readAdapter(target);
      assert.deepEqual([again.modules, again.replaced, again.llm2vec], [adapter.modules, adapter.replaced, adapter.llm2vec]);
      assert.deepEqual([again.config.r, again.config.lora_dropout, again.config.target_modules], [2, 0.05, ["q_proj", "embed_tokens"]]);
      const file = openSafetensors(join(target, "adapter_model.safetensors"));
      assert.ok(file.names.includes(`${outer}${wrapper === "causal" ? "model." : ""}layers.0.self_attn.q_proj.lora_A.weight`), file.names.join());
      assert.ok(file.names.includes(`${outer}lm_head.weight`));
      file.close();
      assert.ok(existsSync(join(target, "trainable_params.safetensors")));
    }
  });

  it("is gathered from the parameters of a component that learned one", () => {
    const parameters = new Map([
      ["text.layers.0.self_attn.q_proj.weight", zeros(4, 6)], ["text.layers.0.self_attn.q_proj.lora_A.weight", zeros(2, 6)], ["text.layers.0.self_attn.q_proj.lora_B.weight", zeros(4, 2)],
      ["text.layers.0.mlp.up_proj.lora_A.weight", zeros(3, 6)], ["text.layers.0.mlp.up_proj.lora_B.weight", zeros(5, 3)],
      ["text.layers.0.self_attn.v_proj.lora_A.mntp.weight", zeros(2, 6)], ["text.layers.0.self_attn.v_proj.lora_B.mntp.weight", zeros(4, 2)], ["text.norm.weight", zeros(6)],
    ]);
    const { config, modules } = adapterOf(memorySource(parameters), "text.", { alpha: 4 });
    assert.deepEqual([config.r, config.target_modules, [...modules.values()].map(({ rank, scale }) => [rank, scale])], [2, ["q_proj", "up_proj"], [[2, 2], [3, 4 / 3]]]);
    const named = adapterOf(memorySource(parameters), "text.", { alpha: 2, name: "mntp", train: ["norm"] });
    assert.deepEqual([[...named.modules.keys()], [...named.replaced.keys()]], [["layers.0.self_attn.v_proj"], ["norm.weight"]]);
    assert.throws(() => adapterOf(memorySource(parameters), "text.", { alpha: 2, name: "simcse" }), refused(/LoRA pair called "simcse"/));
    assert.throws(() => adapterOf(memorySource(parameters), "decoder.", { alpha: 4 }), refused(/no parameter that begins with "decoder\."/));
  });

  for (const [plugin, prefix, wrapper] of [[llamaEncoder, "text.", "inner"], [llamaDecoder, "decoder.", "causal"]] as const) {
    it(`${plugin.id} with adapters writes PEFT's names, and reads back what it wrote`, async () => {
      const lora = { r: 2, alpha: 8, dropout: 0.1, rslora: true, targets: ["q_proj", "down_proj", "embed_tokens"], train: ["norm"] };
      const parameters = build(plugin, { vocabulary: 8, width: 8, heads: 2, kv_heads: 1, head_dim: 4, hidden: 6, layers: 1, lora }).parameters();
      const source = memorySource(new Map(Object.entries(parameters).map(([name, { shape }]) => [name, f32([...shape], [...fill(name, shape)])])));
      const written = adapterOf(source, prefix, { alpha: 8, dropout: 0.1, useRslora: true, train: lora.train });
      const out = join(folder.path, `written-${made++}`);
      await writeAdapter(out, written, { wrapper });
      const file = openSafetensors(join(out, "adapter_model.safetensors")), inner = `base_model.model.${wrapper === "causal" ? "model." : ""}`;
      assert.deepEqual([...file.names].sort(), [`${inner}embed_tokens.lora_embedding_A`, `${inner}embed_tokens.lora_embedding_B`,
        ...["mlp.down_proj", "self_attn.q_proj"].flatMap((path) => ["A", "B"].map((half) => `${inner}layers.0.${path}.lora_${half}.weight`))]);
      file.close();
      const read = readAdapter(out);
      assert.deepEqual([read.config.r, read.config.lora_alpha, read.config.use_rslora, [...read.modules.values()][0].scale], [2, 8, true, 8 / Math.SQRT2]);
      assert.deepEqual([...read.replaced.keys()].sort(), ["layers.0.input_layernorm.weight", "layers.0.post_attention_layernorm.weight", "norm.weight"]);
      for (const [path, { a, b }] of written.modules) assert.deepEqual([read.modules.get(path)!.a, read.modules.get(path)!.b].map(({ data }) => Buffer.from(data).toString("hex")), [a, b].map(({ data }) => Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("hex")), path);
    });
  }
});
