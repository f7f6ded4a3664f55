/** A PEFT adapter beside the weights: from a release into a checkpoint, through training, and out again. */
import assert from "node:assert/strict";
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { main } from "../../cluster/cli/run.ts";
import { llamaEncoder } from "../../plugins/text-encoder/llama.ts";
import { loadRecipe, materialise, openCheckpoint, openSafetensors, parameterShapes, readAdapter, writeSafetensors, type StoredTensor } from "../../runtime/index.ts";
import { build, compute, context, ids, ones } from "../plugins/model/harness.ts";
import { temporaryFolder } from "../process/octavo.ts";
import { miniRuns } from "../runtime/trainer/mini-run.ts";
import { f32 } from "../runtime/checkpoint/memory-source.ts";
import { fill } from "../plugins/model/fill.ts";

async function octavo(...args: string[]): Promise<{ code: number; err: string; out: string }> {
  let [out, err] = ["", ""];
  const code = await main(args, { out: (text) => (out += text), err: (text) => (err += text) });
  return { code, out, err };
}

describe("an adapter beside the weights it was made for", function () {
  this.timeout(120_000);
  const folder = temporaryFolder(), { run, remove } = miniRuns();
  after(() => (folder.remove(), remove()));
  const at = (...parts: string[]): string => join(folder.path, ...parts);
  const tensor = (name: string, ...shape: number[]): StoredTensor => f32(shape, Float32Array.from(fill(name, shape, 0.3)));
  const outer = "base_model.model.";
  const describeAdapter = (name: string, config: Record<string, unknown> = {}): void =>
    writeFileSync(at(name, "adapter_config.json"), JSON.stringify({ peft_type: "LORA", r: 2, lora_alpha: 6, lora_dropout: 0.1, base_model_name_or_path: "us/mini", ...config }));
  const linears = [["self_attn.q_proj", 96, 96], ["mlp.down_proj", 256, 96]] as const;

  before(async () => {
    const { result } = await run("mini-mntp", "train.steps=0");
    assert.equal((await octavo("export", result.checkpoint!, "--as", "llama", "--dialect", "inner", "--out", at("base"))).code, 0);
    const config = JSON.parse(readFileSync(at("base", "config.json"), "utf8")) as object;
    writeFileSync(at("base", "config.json"), JSON.stringify({ ...config, _name_or_path: "us/mini" }));
    mkdirSync(at("adapter"));
    writeSafetensors(at("adapter", "adapter_model.safetensors"), new Map([0, 1].flatMap((layer) => linears.flatMap(([path, from, to]) => {
      const key = `${outer}layers.${layer}.${path}.lora_`;
      return [[`${key}A.weight`, tensor(`${key}A`, 2, from)], [`${key}B.weight`, tensor(`${key}B`, to, 2)]] as const;
    }))));
    describeAdapter("adapter");
  });

  it("is attached by import, computes what the merged one computes, and goes out again bit for bit", async () => {
    for (const [flag, out] of [["--attach", "attached"], ["--adapter", "merged"]]) {
      const { code, err } = await octavo("import", at("base"), "--as", "text-encoder/llama", flag, at("adapter"), "--out", at(out));
      assert.equal(code, 0, err);
    }
    const recipe = loadRecipe(at("attached", "recipe.yaml")).components.text.options as { lora: Record<string, unknown> };
    assert.deepEqual(recipe.lora, { name: "default", r: 2, alpha: 6, dropout: 0.1, rslora: false, targets: ["q_proj", "down_proj"], train: [], frozen: [] });
    const states = async (name: string): Promise<number[]> => {
      const reader = openCheckpoint(at(name)), encoder = build(llamaEncoder, loadRecipe(at(name, "recipe.yaml")).components.text.options as Record<string, unknown>);
      materialise(encoder.parameters(), { seed: 1, prefix: "", load: (parameter) => reader.parameter(parameter)! });
      reader.close();
      return (await compute(() => ({ states: encoder.forward({ text_ids: ids([[1, 300, 400, 2]]), text_mask: ones(1, 4) }, context()).states }), encoder)).states;
    };
    const [beside, merged] = [await states("attached"), await states("merged")];
    assert.ok(Math.max(...beside.map((v, i) => Math.abs(v - merged[i]))) < 2e-4, "the same up to rounding");
    assert.notDeepEqual(beside, merged, "and yet not merged");

    assert.equal((await octavo("export", at("attached"), "--as", "peft", "--out", at("back"))).code, 0);
    const [given, back] = [readAdapter(at("adapter")), readAdapter(at("back"))];
    assert.deepEqual([back.config.r, back.config.lora_alpha, back.config.lora_dropout, back.config.target_modules], [2, 6, 0.1, ["q_proj", "down_proj"]]);
    assert.deepEqual([...back.modules.keys()].sort(), [...given.modules.keys()].sort());
    for (const [path, { a, b, scale }] of given.modules) {
      const other = back.modules.get(path)!;
      assert.deepEqual([other.scale, Buffer.compare(other.a.data, a.data), Buffer.compare(other.b.data, b.data)], [scale, 0, 0], path);
    }
  });

  it("learns where a recipe has its option lora: its values are the start, the base stays", async () => {
    const lora = "components.text.options.lora={r: 2, alpha: 6, dropout: 0.1, targets: [q_proj, down_proj]}";
    const [start, trained] = [await run("mini-mntp", "train.steps=0", lora, `train.from=${at("attached")}`), await run("mini-mntp", "train.steps=2", lora, `train.from=${at("attached")}`)];
    const [imported, before, after] = [at("attached"), start.result.checkpoint!, trained.result.checkpoint!].map((path) => openCheckpoint(path));
    for (const name of parameterShapes(imported.manifest).keys()) {
      assert.deepEqual(before.parameter(name), imported.parameter(name), name);
      assert.equal(Buffer.compare(Buffer.from(after.parameter(name)!.buffer), Buffer.from(imported.parameter(name)!.buffer)) !== 0, name.includes("lora_"), name);
    }
    for (const reader of [imported, before, after]) reader.close();
  });

  it("alone comes to the checkpoint of its base, beside everything else that holds", async () => {
    assert.equal((await octavo("import", at("base"), "--as", "text-encoder/llama", "--out", at("plain"))).code, 0);
    const { code, err } = await octavo("import", at("adapter"), "--as", "text-encoder/llama", "--onto", at("plain"), "--out", at("joined"));
    assert.equal(code, 0, err);
    const [joined, attached] = [openSafetensors(at("joined", "model.safetensors")), openSafetensors(at("attached", "model.safetensors"))];
    assert.deepEqual([...joined.names].sort(), [...attached.names].sort());
    for (const name of attached.names) assert.deepEqual(joined.read(name), attached.read(name), name);
    joined.close(), attached.close();
    assert.deepEqual(loadRecipe(at("joined", "recipe.yaml")).components.text.options, loadRecipe(at("attached", "recipe.yaml")).components.text.options);
  });

  it("with embeddings and norms trained whole (LongLoRA) brings them, and says that they train", async () => {
    cpSync(at("adapter"), at("long"), { recursive: true });
    const norms = ["norm.weight", ...[0, 1].flatMap((i) => [`layers.${i}.input_layernorm.weight`, `layers.${i}.post_attention_layernorm.weight`])];
    writeSafetensors(at("long", "trainable_params.safetensors"), new Map([["model.embed_tokens.weight", tensor("table", 2048, 96)], ...norms.map((name) => [`model.${name}`, tensor(name, 96)] as const)]));
    assert.equal((await octavo("import", at("base"), "--as", "text-encoder/llama", "--attach", at("long"), "--out", at("long-in"))).code, 0);
    assert.deepEqual((loadRecipe(at("long-in", "recipe.yaml")).components.text.options as { lora: { train: string[] } }).lora.train, ["embed", "norm"]);
    const reader = openCheckpoint(at("long-in"));
    assert.deepEqual(Array.from(reader.parameter("text.norm.weight")!), Array.from(new Float32Array(tensor("norm.weight", 96).data.slice().buffer)));
    reader.close();
  });

  it("is refused where it belongs to another base, where it cannot learn, and where there is no base: nothing is written", async () => {
    const variant = (name: string, config: Record<string, unknown>): string => {
      mkdirSync(at(name));
      copyFileSync(at("adapter", "adapter_model.safetensors"), at(name, "adapter_model.safetensors"));
      describeAdapter(name, config);
      return at(name);
    };
    const foreign = variant("foreign", { base_model_name_or_path: "them/large" }), uneven = variant("uneven", { alpha_pattern: { q_proj: 9 } });
    const wide = at("wide");
    mkdirSync(wide);
    const key = `${outer}layers.0.self_attn.q_proj.lora_`;
    writeSafetensors(join(wide, "adapter_model.safetensors"), new Map([[`${key}A.weight`, tensor("a", 2, 128)], [`${key}B.weight`, tensor("b", 128, 2)]]));
    describeAdapter("wide");
    const base = ["import", at("base"), "--as", "text-encoder/llama", "--out", at("x"), "--attach"], alone = (...more: string[]) => ["import", at("adapter"), "--as", "text-encoder/llama", "--out", at("x"), ...more];
    const refusals: [args: string[], what: RegExp][] = [
      [[...base, foreign], /does not belong to this base model:\n {2}it was trained on them\/large, this is us\/mini/],
      [["import", foreign, "--as", "text-encoder/llama", "--onto", at("plain"), "--out", at("x")], /it was trained on them\/large, this is us\/mini/],
      [[...base, wide], /layers\.0\.self_attn\.q_proj: the adapter is for \(128, 128\), the base has \(96, 96\)/],
      [[...base, uneven], /cannot go on learning: .*self_attn\.q_proj rank 2 and scale 4\.5.*Merge it into the weights instead \(--adapter\)/],
      [alone(), /is an adapter\. Name the checkpoint that holds its base with --onto/],
      [alone("--onto", at("plain"), "--partial"), /--partial is for imports of whole models/],
      [["import", at("adapter"), "--as", "decoder/llama", "--onto", at("plain"), "--out", at("x")], /holds text-encoder\/llama, not decoder\/llama/],
      [alone("--onto", at("joined")), /has an adapter already \(its option lora\)/],
    ];
    for (const [args, what] of refusals) {
      const { code, err } = await octavo(...args);
      assert.equal(code, 2, `${args.join(" ")}: ${err}`);
      assert.match(err, what);
      assert.ok(!existsSync(at("x")), args.join(" "));
    }
    assert.equal((await octavo(...base, foreign, "--any-base")).code, 0, "its shapes fit, and that was asked for");
  });
});
