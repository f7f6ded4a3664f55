import assert from "node:assert/strict";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { main } from "../../cluster/cli/run.ts";
import { openCheckpoint, openSafetensors, openTensors, readNumbers, writeSafetensors, type StoredTensor } from "../../runtime/index.ts";
import { temporaryFolder } from "../process/octavo.ts";

async function octavo(...args: string[]): Promise<{ code: number; out: string; err: string; events: Record<string, unknown>[] }> {
  let [out, err] = ["", ""];
  const code = await main(args, { out: (text) => (out += text), err: (text) => (err += text) });
  return { code, out, err, events: args.includes("--json") ? out.trimEnd().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>) : [] };
}
const fixture = (name: string): string => fileURLToPath(new URL(`../runtime/checkpoint/fixtures/${name}`, import.meta.url));
const f32 = (shape: number[], value: (k: number) => number): StoredTensor =>
  ({ dtype: "F32", shape, data: new Uint8Array(Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, k) => value(k)).buffer) });

describe("octavo inspect, import, export", () => {
  const folder = temporaryFolder();
  after(() => folder.remove());
  const at = (...parts: string[]): string => join(folder.path, ...parts);

  it("inspect tells names, shapes and what they look like, without reading data", async () => {
    const { code, events } = await octavo("inspect", fixture("beit.pth"), "--json");
    assert.equal(code, 0);
    assert.deepEqual(events[0], { event: "tensor", name: "cls_token", dtype: "F32", shape: [1, 1, 4], bytes: 16 });
    const { event, format, guess, count, parameters } = events.at(-2)!;
    assert.deepEqual([event, format, count, guess], ["inspection", "torch", 25, { family: "beit", dialect: "unilm", understood: 25, plugins: ["image-encoder/beit"] }]);
    // cls, mask 4 each; conv 4 * 3 * 2 * 2 + 4; table 12 * 2; block 12 d² + 14 d; norm 2 d; head 5 d + 5; index 5 * 5
    assert.equal(parameters, 8 + 52 + 24 + (12 * 16 + 14 * 4) + 8 + 25 + 25);
    assert.match((await octavo("inspect", fixture("beit.pth"))).out, /cls_token +F32 +\(1, 1, 4\)[^]*looks like beit \(unilm names: 25 of 25 understood\), for image-encoder\/beit/);
  });

  it("import makes a checkpoint, export gives the released tensors back bit for bit", async () => {
    const imported = await octavo("import", fixture("beit.pth"), "--as", "image-encoder/beit", "--out", at("vision"), "--json");
    assert.equal(imported.code, 0, imported.out);
    const report = imported.events.at(-2)!;
    assert.deepEqual([report.event, report.taken, report.unused], ["import", 22, ["lm_head.weight", "lm_head.bias"]]);
    assert.deepEqual(readdirSync(at("vision")).sort(), ["manifest.json", "model.safetensors", "recipe.yaml"]);
    const exported = await octavo("export", at("vision"), "--as", "beit", "--dialect", "unilm", "--out", at("unilm"), "--max-shard-bytes", "600", "--json");
    assert.equal(exported.code, 0, exported.out);
    assert.ok((exported.events.at(-2)!.files as string[]).length > 2, "several files");
    const [original, back] = [openTensors(fixture("beit.pth")), openTensors(at("unilm"))];
    assert.equal(back.format, "sharded safetensors");
    for (const name of back.names) assert.deepEqual(readNumbers(back, name), readNumbers(original, name), name);
    assert.equal(back.names.length, 22);
    original.close(), back.close();
    const face = await octavo("export", at("vision"), "--as", "beit", "--out", at("face"));
    assert.equal(face.code, 0, face.err);
    assert.equal((JSON.parse(readFileSync(at("face", "config.json"), "utf8")) as { layer_norm_eps: number }).layer_norm_eps, 1e-6);
    const again = await octavo("import", at("face"), "--as", "image-encoder/beit", "--out", at("again"), "--json");
    assert.equal(again.code, 0, again.out);
    const [first, second] = [openSafetensors(at("vision", "model.safetensors")), openSafetensors(at("again", "model.safetensors"))];
    assert.deepEqual([...second.names].sort(), [...first.names].sort());
    for (const name of first.names) assert.deepEqual(second.read(name), first.read(name), name);
    first.close(), second.close();
  });

  it("export narrows to bf16 and says so in config.json; importing that keeps bf16 on disk and loads as f32", async () => {
    assert.equal((await octavo("export", at("vision"), "--as", "beit", "--out", at("narrow"), "--dtype", "bf16")).code, 0);
    assert.equal((await octavo("import", at("narrow"), "--as", "image-encoder/beit", "--out", at("narrow-in"))).code, 0);
    const narrow = openSafetensors(at("narrow-in", "model.safetensors"));
    assert.ok(narrow.names.every((name) => narrow.entry(name)!.dtype === "BF16"));
    narrow.close();
    const [loaded, original] = [openCheckpoint(at("narrow-in")), openCheckpoint(at("vision"))];
    // small whole numbers have bf16 forms: nothing is lost
    assert.deepEqual(loaded.parameter("vision.cls_token"), original.parameter("vision.cls_token"));
    loaded.close(), original.close();
  });

  it("--onto keeps the other components", async () => {
    const bert = new Map<string, StoredTensor>();
    const put = (name: string, ...shape: number[]) => bert.set(name, f32(shape, (k) => k + bert.size));
    put("embeddings.word_embeddings.weight", 6, 4), put("embeddings.position_embeddings.weight", 5, 4), put("embeddings.token_type_embeddings.weight", 2, 4);
    put("embeddings.LayerNorm.gamma", 4), put("embeddings.LayerNorm.beta", 4);
    for (const part of ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"]) put(`encoder.layer.0.${part}.weight`, 4, 4), put(`encoder.layer.0.${part}.bias`, 4);
    for (const part of ["attention.output.LayerNorm", "output.LayerNorm"]) put(`encoder.layer.0.${part}.weight`, 4), put(`encoder.layer.0.${part}.bias`, 4);
    put("encoder.layer.0.intermediate.dense.weight", 8, 4), put("encoder.layer.0.intermediate.dense.bias", 8), put("encoder.layer.0.output.dense.weight", 4, 8), put("encoder.layer.0.output.dense.bias", 4);
    mkdirSync(at("bert"));
    writeSafetensors(at("bert", "model.safetensors"), bert);
    const untold = await octavo("import", at("bert"), "--as", "prompt-encoder/bert", "--out", at("both"), "--onto", at("vision"));
    assert.deepEqual([untold.code, existsSync(at("both"))], [2, false]);
    assert.match(untold.err, /heads is not told by any shape, and a wrong number would load without an error.*--set heads=/);
    const both = await octavo("import", at("bert"), "--as", "prompt-encoder/bert", "--out", at("both"), "--onto", at("vision"), "--set", "heads=2", "--json");
    assert.equal(both.code, 0, both.out);
    assert.ok((both.events.at(-2)!.fresh as string[]).includes("prompt.proj.weight"));
    const file = openSafetensors(at("both", "model.safetensors"));
    assert.ok(["vision.cls_token", "prompt.bert.embeddings.LayerNorm.weight"].every((name) => file.names.includes(name)));
    file.close();
    const deeper = new Map([...bert].flatMap(([name, tensor]) => [[name, tensor] as const, ...(name.includes(".0.") ? [[name.replace(".0.", ".1."), tensor] as const] : [])]));
    mkdirSync(at("deeper"));
    writeSafetensors(at("deeper", "model.safetensors"), deeper);
    assert.equal((await octavo("import", at("deeper"), "--as", "prompt-encoder/bert", "--out", at("deep"), "--set", "heads=2")).code, 0);
    assert.equal((await octavo("import", at("bert"), "--as", "prompt-encoder/bert", "--out", at("shallow"), "--onto", at("deep"), "--set", "heads=2")).code, 0);
    const shallow = openSafetensors(at("shallow", "model.safetensors"));
    assert.deepEqual(shallow.names.filter((name) => name.startsWith("prompt.bert.encoder.layer.1.")), [], "nothing of the former component stays");
    shallow.close();
    const recipe = readFileSync(at("both", "recipe.yaml"), "utf8");
    assert.match(recipe, /vision:\n {4}use: image-encoder\/beit[^]*prompt:\n {4}use: prompt-encoder\/bert/);
  });

  it("says everything that is wrong before anything is written, and overwrites nothing", async () => {
    const refusals: [args: string[], what: RegExp][] = [
      [["import", fixture("evil.pth"), "--as", "image-encoder/beit", "--out", at("x")], /it names posix\.system.*Nothing in it was executed/],
      [["import", fixture("beit.pth"), "--as", "image-encoder/beit", "--out", at("x"), "--set", "layers=2"], /missing: vision\.blocks\.1\.gamma_1[^]*missing: vision\.blocks\.1\.mlp\.fc2\.bias[^]*--partial/],
      [["import", fixture("beit.pth"), "--as", "image-encoder/beit", "--out", at("x"), "--set", "width=6"], /mis-shaped: vision\.cls_token is \(1, 1, 6\) here and \(1, 1, 4\) in cls_token/],
      [["import", fixture("beit.pth"), "--as", "image-encoder/biet", "--out", at("x")], /Did you mean "image-encoder\/beit"/],
      [["import", fixture("beit.pth"), "--as", "objective/mlm", "--out", at("x")], /no released checkpoints are known for it/],
      [["import", fixture("beit.pth"), "--as", "image-encoder/beit", "--out", at("x"), "--set", "hedas=2"], /Did you mean "heads"/],
      [["import", fixture("beit.pth"), "--as", "image-encoder/beit", "--out", at("vision")], /exists already, and nothing is overwritten/],
      [["import", at("nowhere"), "--as", "image-encoder/beit", "--out", at("x")], /no such file or folder/],
      [["export", at("vision"), "--as", "llama", "--out", at("x")], /no component of text-encoder\/llama or decoder\/llama is in its recipe/],
      [["export", at("vision"), "--as", "biet", "--out", at("x")], /--as expected one of llama, beit/],
      [["export", at("vision"), "--as", "beit", "--dialect", "unilim", "--out", at("x")], /Did you mean "unilm"/],
      [["inspect", folder.path], /holds no file of weights/],
      [["export", at("vision"), "--as", "peft", "--dtype", "bf16", "--dialect", "inner", "--out", at("x")], /--dialect and --dtype: of no use to --as peft: an adapter is written as it is stored/],
      [["export", at("vision"), "--as", "peft", "--max-shard-bytes", "5", "--out", at("x")], /--max-shard-bytes: of no use to --as peft/],
      [["export", at("vision"), "--as", "beit", "--alpha", "5", "--out", at("x")], /--alpha: of no use to --as beit: only an adapter has an alpha/],
    ];
    for (const [args, what] of refusals) {
      const { code, err } = await octavo(...args);
      assert.equal(code, 2, `${args.join(" ")}: ${err}`);
      assert.match(err, what);
      assert.ok(!existsSync(at("x")), args.join(" "));
    }
    assert.deepEqual(readdirSync(folder.path).filter((name) => name.includes("partial")), []);
  });

  it("a folder is a checkpoint for what is in it, not for a file called latest", async () => {
    mkdirSync(at("downloaded"));
    cpSync(at("vision", "model.safetensors"), at("downloaded", "model.safetensors"));
    writeFileSync(at("downloaded", "latest"), "global_step_100"); // as other trainers leave one
    assert.equal((await octavo("inspect", at("downloaded"), "--json")).events.at(-2)!.format, "safetensors");
  });

  it("a file that is not what the manifest says is refused by export, and nothing is left open by what fails", async () => {
    cpSync(at("vision"), at("changed"), { recursive: true });
    const manifest = JSON.parse(readFileSync(at("changed", "manifest.json"), "utf8")) as { tensors: { name: string; shape: number[] }[] };
    manifest.tensors.find(({ name }) => name === "vision.cls_token")!.shape = [4];
    writeFileSync(at("changed", "manifest.json"), JSON.stringify(manifest));
    const open = readdirSync("/proc/self/fd").length;
    const { code, err } = await octavo("export", at("changed"), "--as", "beit", "--out", at("x"));
    assert.deepEqual([code, existsSync(at("x"))], [2, false], err);
    assert.match(err, /model\.safetensors: "vision\.cls_token" is F32 \(1, 1, 4\), the manifest says F32 \(4\)/);
    assert.equal((await octavo("import", fixture("beit.pth"), "--as", "image-encoder/beit", "--out", at("x"), "--onto", at("nowhere"))).code, 2);
    assert.equal(readdirSync("/proc/self/fd").length, open);
  });

  it("--partial goes on, and lists what it left out", async () => {
    const { code, out } = await octavo("import", fixture("beit.pth"), "--as", "image-encoder/beit", "--out", at("partial"), "--set", "layers=2", "--partial");
    assert.equal(code, 0);
    assert.match(out, /missing:\n {2}vision\.blocks\.1\.gamma_1/);
  });

  it("merges adapters in order while importing, and refuses one of another base", async () => {
    const shapes = { "embed_tokens.weight": [5, 4], "norm.weight": [4], "layers.0.self_attn.q_proj.weight": [4, 4], "layers.0.self_attn.k_proj.weight": [2, 4], "layers.0.self_attn.v_proj.weight": [2, 4],
      "layers.0.self_attn.o_proj.weight": [4, 4], "layers.0.mlp.gate_proj.weight": [3, 4], "layers.0.mlp.up_proj.weight": [3, 4], "layers.0.mlp.down_proj.weight": [4, 3],
      "layers.0.input_layernorm.weight": [4], "layers.0.post_attention_layernorm.weight": [4] };
    mkdirSync(at("llama")), mkdirSync(at("adapter"));
    writeSafetensors(at("llama", "model.safetensors"), new Map(Object.entries(shapes).map(([name, shape]) => [`model.${name}`, f32(shape, (k) => k)])));
    writeFileSync(at("llama", "config.json"), JSON.stringify({ _name_or_path: "us/tiny", hidden_size: 4, num_attention_heads: 2, num_key_value_heads: 1, num_hidden_layers: 1, intermediate_size: 3, vocab_size: 5, rms_norm_eps: 1e-5, rope_theta: 10000 }));
    const key = "base_model.model.model.layers.0.self_attn.k_proj.lora_";
    writeSafetensors(at("adapter", "adapter_model.safetensors"), new Map([[`${key}A.weight`, f32([1, 4], (k) => k)], [`${key}B.weight`, f32([2, 1], (k) => 1 + k)]]));
    const describe = (base: string) => writeFileSync(at("adapter", "adapter_config.json"), JSON.stringify({ peft_type: "LORA", r: 1, lora_alpha: 2, base_model_name_or_path: base }));
    describe("others/large");
    const args = ["import", at("llama"), "--as", "text-encoder/llama", "--adapter", at("adapter"), "--adapter", at("adapter"), "--out", at("merged")];
    const wrong = await octavo(...args);
    assert.deepEqual([wrong.code, existsSync(at("merged"))], [2, false]);
    assert.match(wrong.err, /does not belong to this base model:\n {2}it was trained on others\/large, this is us\/tiny/);
    describe("us/tiny");
    assert.equal((await octavo("inspect", at("adapter"), "--json")).events.at(-2)!.format, "peft adapter");
    const { code, err } = await octavo(...args);
    assert.equal(code, 0, err);
    const merged = openCheckpoint(at("merged"));
    // k + 2 times (alpha / r = 2) * B (1, 2) * A (0 1 2 3)
    assert.deepEqual(Array.from(merged.parameter("text.layers.0.self_attn.k_proj.weight")!), [0, 5, 10, 15, 4, 13, 22, 31]);
    assert.deepEqual(Array.from(merged.parameter("text.layers.0.self_attn.v_proj.weight")!), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert.deepEqual(merged.manifest.imported!.adapters, [at("adapter"), at("adapter")]);
    merged.close();
  });

  it("takes away what a killed import of the same checkpoint left, and nothing of a living one", async () => {
    const dead = at(".fresh.partial-99999999"), living = at(`.fresh.partial-${process.ppid}`);
    mkdirSync(dead), mkdirSync(living);
    writeFileSync(join(dead, "model.safetensors"), "half");
    assert.equal((await octavo("import", fixture("beit.pth"), "--as", "image-encoder/beit", "--out", at("fresh"))).code, 0);
    assert.deepEqual([existsSync(dead), existsSync(living)], [false, true]);
    cpSync(at("fresh"), at("copy"), { recursive: true });
    assert.equal((await octavo("inspect", at("copy"))).code, 0, "a checkpoint may be moved");
  });
});
