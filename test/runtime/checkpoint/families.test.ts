import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { bert } from "../../../plugins/prompt-encoder/bert.ts";
import { beit } from "../../../plugins/image-encoder/beit.ts";
import { clip } from "../../../plugins/teacher/clip.ts";
import { llamaDecoder } from "../../../plugins/decoder/llama.ts";
import { llamaEncoder } from "../../../plugins/text-encoder/llama.ts";
import { multiway } from "../../../plugins/fusion/multiway.ts";
import { vqKd } from "../../../plugins/visual-tokenizer/vq-kd.ts";
import { type Plugin, families, importProblems, mapNames, openTensors, planExport, planImport, readNumbers, recognise, type StoredTensor } from "../../../runtime/index.ts";
import { resizeRelativeBias } from "../../../runtime/nn/index.ts";
import { f32, filled, memorySource, numbers, refused, written } from "./memory-source.ts";

const fixture = (name: string): string => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));
const use = (plugin: Plugin): string => `${plugin.kind}/${plugin.name}`;

/** Small, with every size different from its neighbours. */
const small: { plugin: Plugin; options: Record<string, unknown>; /** Not told by a release: the user says it. */ given?: Record<string, unknown> }[] = [
  { plugin: llamaEncoder, options: { vocabulary: 11, width: 8, layers: 2, heads: 4, kv_heads: 2, head_dim: 6, hidden: 10 } },
  { plugin: llamaDecoder, options: { vocabulary: 11, width: 8, layers: 2, heads: 4, kv_heads: 2, head_dim: 6, hidden: 10, memory_width: 5 } },
  { plugin: beit, options: { image: 12, patch: 4, width: 8, layers: 2, heads: 2 } },
  { plugin: beit, options: { image: 12, patch: 4, width: 8, layers: 2, heads: 2, rel_pos_bias: "per_layer", abs_pos: true, layer_scale: 1e-5 } },
  { plugin: beit, options: { image: 12, patch: 4, width: 8, layers: 2, heads: 2, layer_scale: null } },
  { plugin: beit, options: { image: 12, patch: 4, width: 8, layers: 2, heads: 2, cls_pt: { early_layers: 1, head_layers: 2 } }, given: { cls_pt: { early_layers: 1, head_layers: 2 } } },
  { plugin: clip, options: { image: 12, patch: 4, width: 8, layers: 2, heads: 2, targets: 6, text: { vocabulary: 9, context: 5, width: 4, layers: 3, heads: 2 } }, given: { text: {} } },
  { plugin: bert, options: { vocabulary: 11, width: 8, layers: 2, heads: 2, hidden: 10, positions: 7, memory_width: 5 } },
  { plugin: vqKd, options: { image: 12, patch: 4, width: 8, layers: 2, heads: 2, codes: 9, dim: 4 }, given: { heads: 2 } },
  { plugin: vqKd, options: { image: 12, patch: 4, width: 8, layers: 2, heads: 2, codes: 9, dim: 4, train: true, decoder_layers: 1, targets: 6 }, given: { heads: 2, train: true } },
  { plugin: multiway, options: { width: 8, layers: 3, heads: 2, vision_language_layers: 1 }, given: { heads: 2, vision_language_layers: 1 } },
];

describe("families of checkpoints", () => {
  for (const { plugin, options, given = {} } of small) {
    const family = families.find(({ targets }) => use(plugin) in targets)!;
    for (const dialect of family.dialects) {
      it(`${use(plugin)} ${JSON.stringify(options)}: what is exported as ${family.name} (${dialect.name}) is imported again, bit for bit`, () => {
        const ours = filled(plugin, options);
        const complete = plugin.options.parse(options) as Record<string, unknown>;
        const exported = planExport({ source: memorySource(ours), use: use(plugin), options: complete, dialect: dialect.name });
        const theirs = memorySource(written(exported.tensors));
        assert.equal(recognise(theirs.names)?.family.name, family.name, "its own names are recognised");
        const border = Object.fromEntries(Object.entries(complete).filter(([key]) => ["memory_width", "image_width", "text_width"].includes(key)));
        const plan = planImport({ source: theirs, plugin, config: exported.config, options: { ...border, ...given } });
        assert.equal(importProblems(plan), undefined);
        assert.deepEqual([plan.missing, plan.misshapen, plan.unexpected, plan.unused, plan.resized], [[], [], [], [], []]);
        const prefix = family.targets[use(plugin)];
        const covered = [...ours.keys()].filter((name) => name.startsWith(prefix) && !exported.left.includes(name));
        assert.deepEqual([...plan.tensors.keys()].sort(), covered.sort());
        assert.deepEqual(plan.fresh.sort(), [...ours.keys()].filter((name) => !covered.includes(name)).sort());
        for (const [name, tensor] of written(plan.tensors)) assert.deepEqual(tensor, ours.get(name), name);
        for (const key of ["width", "layers", "heads", "kv_heads", "head_dim", "hidden", "vocabulary", "image", "patch", "positions", "text", "targets", "rel_pos_bias"]) assert.deepEqual(plan.options[key], complete[key], key);
      });
    }
  }

  it("no two of our names are one of theirs, and no two of theirs one of ours, in any table", () => {
    for (const family of families) for (const dialect of family.dialects) {
      const ours = dialect.rules.map((rule) => rule.ours), theirs = dialect.rules.flatMap((rule) => rule.theirs);
      assert.equal(new Set(ours).size, ours.length, `${family.name} ${dialect.name}`);
      assert.equal(new Set(theirs).size, theirs.length, `${family.name} ${dialect.name}`);
    }
  });

  /** Our name of a name of theirs. */
  const oursOf = (family: string, dialect: string, prefix: string, theirs: string): string | undefined => {
    const table = families.find(({ name }) => name === family)!;
    return [...mapNames([theirs], table, table.dialects.find(({ name }) => name === dialect)!, prefix).ours.keys()][0];
  };
  it("name what the released checkpoints name", () => {
    const wb = (theirs: string, ours: string): [string, string][] => ["weight", "bias"].map((part) => [`${theirs}.${part}`, `${ours}.${part}`]);
    const [beitLayer, beitBlock] = ["beit.encoder.layer.5", "blocks.5"], table = "relative_position_bias_table";
    const tables: [family: string, dialect: string, prefix: string, pairs: [theirs: string, ours: string][]][] = [
      ["llama", "hugging-face", "model.", [
        ["model.embed_tokens.weight", "embed_tokens.weight"], ["model.norm.weight", "norm.weight"], ["lm_head.weight", "lm_head.weight"],
        ...["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "input_layernorm", "post_attention_layernorm"]
          .map((name): [string, string] => [`model.layers.31.${name}.weight`, `layers.31.${name}.weight`]),
      ]],
      ["llama", "hugging-face", "", [["layers.7.mlp.gate_proj.weight", "layers.7.mlp.gate_proj.weight"]]],
      ["llama", "meta", "", [
        ["tok_embeddings.weight", "embed_tokens.weight"], ["norm.weight", "norm.weight"], ["output.weight", "lm_head.weight"],
        ...Object.entries({ "attention.wq": "self_attn.q_proj", "attention.wk": "self_attn.k_proj", "attention.wv": "self_attn.v_proj", "attention.wo": "self_attn.o_proj", "feed_forward.w1": "mlp.gate_proj",
          "feed_forward.w3": "mlp.up_proj", "feed_forward.w2": "mlp.down_proj", attention_norm: "input_layernorm", ffn_norm: "post_attention_layernorm" })
          .map(([theirs, ours]): [string, string] => [`layers.3.${theirs}.weight`, `layers.3.${ours}.weight`]),
      ]],
      ["beit", "unilm", "", ["cls_token", "mask_token", "pos_embed", `rel_pos_bias.${table}`, `blocks.11.attn.${table}`, "blocks.11.attn.qkv.weight", "blocks.11.attn.q_bias", "blocks.11.gamma_1",
        "cls_pt_layers.1.mlp.fc2.bias", "lm_head.weight", "norm.bias", "fc_norm.weight"].map((name) => [name, name])],
      ["beit", "hugging-face", "beit.", [
        ["beit.embeddings.cls_token", "cls_token"], ["beit.embeddings.mask_token", "mask_token"], ...wb("beit.embeddings.patch_embeddings.projection", "patch_embed.proj"),
        ["beit.embeddings.position_embeddings", "pos_embed"], [`beit.encoder.relative_position_bias.${table}`, `rel_pos_bias.${table}`],
        [`${beitLayer}.attention.attention.relative_position_bias.${table}`, `${beitBlock}.attn.${table}`], ...wb(`${beitLayer}.layernorm_before`, `${beitBlock}.norm1`),
        ...wb(`${beitLayer}.layernorm_after`, `${beitBlock}.norm2`), [`${beitLayer}.attention.attention.query.weight`, `${beitBlock}.attn.qkv.weight`],
        [`${beitLayer}.attention.attention.query.bias`, `${beitBlock}.attn.q_bias`], [`${beitLayer}.attention.attention.value.bias`, `${beitBlock}.attn.v_bias`],
        ...wb(`${beitLayer}.attention.output.dense`, `${beitBlock}.attn.proj`), [`${beitLayer}.lambda_1`, `${beitBlock}.gamma_1`], [`${beitLayer}.lambda_2`, `${beitBlock}.gamma_2`],
        ...wb(`${beitLayer}.intermediate.dense`, `${beitBlock}.mlp.fc1`), ...wb(`${beitLayer}.output.dense`, `${beitBlock}.mlp.fc2`),
        ...wb("layernorm", "norm"), ...wb("beit.pooler.layernorm", "fc_norm"), ...wb("lm_head", "lm_head"), ...wb("classifier", "head"),
      ]],
      ["clip", "hugging-face", "", [
        ["vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight"], ["vision_model.embeddings.class_embedding", "visual.class_embedding"],
        ["vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"], ...wb("vision_model.pre_layrnorm", "visual.ln_pre"), ...wb("vision_model.post_layernorm", "visual.ln_post"),
        ["visual_projection.weight", "visual.proj"], ["text_projection.weight", "text_projection"], ["logit_scale", "logit_scale"], ...wb("text_model.final_layer_norm", "ln_final"),
        ["text_model.embeddings.token_embedding.weight", "token_embedding.weight"], ["text_model.embeddings.position_embedding.weight", "positional_embedding"],
        ...[["vision_model", "visual."], ["text_model", ""]].flatMap(([theirs, ours]) => Object.entries({ layer_norm1: "ln_1", layer_norm2: "ln_2", "self_attn.out_proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj" })
          .flatMap(([from, to]) => wb(`${theirs}.encoder.layers.4.${from}`, `${ours}transformer.resblocks.4.${to}`))),
        ["vision_model.encoder.layers.4.self_attn.q_proj.bias", "visual.transformer.resblocks.4.attn.in_proj_bias"],
      ]],
      ["clip", "openai", "", ["visual.conv1.weight", "visual.proj", "visual.transformer.resblocks.0.attn.in_proj_bias", "transformer.resblocks.0.ln_1.weight", "logit_scale"].map((name) => [name, name])],
      ["bert", "hugging-face", "bert.", [
        ...["word", "position", "token_type"].map((name): [string, string] => [`bert.embeddings.${name}_embeddings.weight`, `embeddings.${name}_embeddings.weight`]),
        ["bert.embeddings.LayerNorm.gamma", "embeddings.LayerNorm.weight"], ["bert.embeddings.LayerNorm.beta", "embeddings.LayerNorm.bias"],
        ...["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense", "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"]
          .flatMap((name) => wb(`bert.encoder.layer.2.${name}`, `encoder.layer.2.${name}`)),
        ["bert.encoder.layer.2.attention.output.LayerNorm.gamma", "encoder.layer.2.attention.output.LayerNorm.weight"],
      ]],
      ["vq-kd", "unilm", "", ["encoder.cls_token", "encoder.pos_embed", "encoder.fc_norm.weight", "encode_task_layer.0.bias", "encode_task_layer.2.weight", "decode_task_layer.2.weight", "decoder.blocks.0.attn.q_bias", "quantize.embedding.weight"].map((name) => [name, name])],
      ["vlmo", "vlmo", "transformer.", ["blocks.3.mlp_imag.fc1.weight", "blocks.3.norm2_text.bias", "blocks.9.mlp_vl.fc2.weight", "blocks.0.gamma_2", "norm.weight"].map((name) => [`transformer.${name}`, name])],
    ];
    for (const [family, dialect, prefix, pairs] of tables) for (const [theirs, ours] of pairs) assert.equal(oursOf(family, dialect, prefix, theirs), ours, `${family} ${dialect}: ${theirs}`);
  });

  it("leave out what carries nothing", () => {
    for (const name of ["blocks.0.attn.relative_position_index", "rel_pos_bias.relative_position_index", "text_model.embeddings.position_ids", "model.layers.0.self_attn.rotary_emb.inv_freq", "bert.pooler.dense.weight", "quantize.embedding.initted", "teacher.visual.proj"]) {
      assert.ok(families.some((family) => family.ignored.some((pattern) => pattern.test(name))), name);
    }
  });
});

describe("data that changes place", () => {
  it("three weights become one of rows, transposed projections turn", () => {
    const rows = (first: number) => f32([2, 2], [first, first + 1, first + 2, first + 3]);
    const ours = new Map<string, StoredTensor>([
      ["teacher.visual.transformer.resblocks.0.attn.in_proj_weight", f32([6, 2], [1, 2, 3, 4, 11, 12, 13, 14, 21, 22, 23, 24])],
      ["teacher.visual.proj", f32([2, 3], [1, 2, 3, 4, 5, 6])],
    ]);
    const packed = new Map([["vision.blocks.1.attn.qkv.weight", ours.get("teacher.visual.transformer.resblocks.0.attn.in_proj_weight")!]]);
    assert.deepEqual(written(planExport({ source: memorySource(packed), use: "image-encoder/beit", options: {} }).tensors),
      new Map(["query", "key", "value"].map((part, i) => [`beit.encoder.layer.1.attention.attention.${part}.weight`, rows(1 + 10 * i)])));
    const theirs = written(planExport({ source: memorySource(ours), use: "teacher/clip", options: {}, dialect: "hugging-face" }).tensors);
    assert.deepEqual(theirs, new Map([
      ...["q", "k", "v"].map((part, i) => [`vision_model.encoder.layers.0.self_attn.${part}_proj.weight`, rows(1 + 10 * i)] as const),
      ["visual_projection.weight", f32([3, 2], [1, 4, 2, 5, 3, 6])],
    ]));
  });

  it("Meta's rotary rows, pairs (2i, 2i+1) of each head, become halves (i, i + K/2)", () => {
    // two heads of 6: rows 0 1 2 3 4 5 are pairs (0 1)(2 3)(4 5), and go to 0 3 1 4 2 5 (reshape (K/2, 2) -> (2, K/2) of each head)
    const options = { vocabulary: 5, width: 4, layers: 1, heads: 2, kv_heads: 1, head_dim: 6, hidden: 3 };
    const ours = filled(llamaEncoder, options);
    const meta = written(planExport({ source: memorySource(ours), use: "text-encoder/llama", options, dialect: "meta" }).tensors);
    const row = (tensor: StoredTensor, r: number) => numbers(tensor).slice(4 * r, 4 * r + 4);
    const [theirs, mine] = [meta.get("layers.0.attention.wq.weight")!, ours.get("text.layers.0.self_attn.q_proj.weight")!];
    for (const head of [0, 6]) for (const i of [0, 1, 2]) for (const half of [0, 1]) assert.deepEqual(row(theirs, head + 2 * i + half), row(mine, head + 3 * half + i));
    const plan = planImport({ source: memorySource(meta), plugin: llamaEncoder, config: { dim: 4, n_layers: 1, n_heads: 2, n_kv_heads: 1, head_dim: 6, norm_eps: 1e-5, rope_theta: 500000, vocab_size: 5 } });
    assert.deepEqual([plan.dialect, plan.options.rope_theta, plan.options.hidden], ["meta", 500000, 3]);
    for (const [name, tensor] of written(plan.tensors)) assert.deepEqual(tensor, ours.get(name), name);
  });
});

describe("an import", () => {
  it("of an original .pth finds sizes in shapes and tells what it did not need", () => {
    const source = openTensors(fixture("beit.pth"));
    const plan = planImport({ source, plugin: beit });
    assert.deepEqual(["image", "patch", "width", "layers", "heads"].map((key) => plan.options[key]), [4, 2, 4, 1, 2]);
    assert.deepEqual([plan.missing, plan.misshapen, plan.unexpected, plan.unsupported, plan.fresh], [[], [], [], [], []]);
    assert.deepEqual(plan.unused, ["lm_head.weight", "lm_head.bias"]);
    assert.deepEqual(plan.ignored, ["rel_pos_bias.relative_position_index"]);
    assert.deepEqual(numbers(written(plan.tensors).get("vision.blocks.0.attn.qkv.weight")!), Array.from(readNumbers(source, "blocks.0.attn.qkv.weight")));
    source.close();
  });

  it("makes a relative bias table fit another grid, and says how", () => {
    const source = openTensors(fixture("beit.pth"));
    const plan = planImport({ source, plugin: beit, options: { image: 8 } });
    const table = "vision.rel_pos_bias.relative_position_bias_table";
    assert.deepEqual(plan.resized, [{ name: table, from: [12, 2], to: [52, 2], how: "bilinear, grid 2 to 4" }]);
    const expected = resizeRelativeBias(readNumbers(source, "rel_pos_bias.relative_position_bias_table"), { from: [2, 2], to: [4, 4], heads: 2 });
    assert.deepEqual(numbers(written(plan.tensors).get(table)!), Array.from(Float32Array.from(expected)));
    source.close();
  });

  const options = { vocabulary: 4, width: 4, layers: 1, heads: 2, kv_heads: 1, head_dim: 2, hidden: 3 };
  const config = { vocab_size: 4, hidden_size: 4, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1, intermediate_size: 3, rms_norm_eps: 1e-6, rope_theta: 500000, tie_word_embeddings: true };
  const release = (change: (tensors: Map<string, StoredTensor>) => void = () => {}) => {
    const tensors = written(planExport({ source: memorySource(filled(llamaEncoder, options)), use: "text-encoder/llama", options }).tensors);
    change(tensors);
    return memorySource(tensors);
  };

  it("lists every missing, mis-shaped, unexpected and unused name", () => {
    const source = release((tensors) => {
      tensors.delete("model.norm.weight");
      tensors.delete("model.layers.0.self_attn.q_proj.weight");
      tensors.set("model.layers.0.mlp.up_proj.weight", f32([2, 4], new Array(8).fill(0)));
      tensors.set("model.layers.0.mlp.extra.weight", f32([1], [0]));
      tensors.set("lm_head.weight", f32([4, 4], new Array(16).fill(0)));
    });
    const plan = planImport({ source, plugin: llamaEncoder, config });
    assert.deepEqual(plan.missing, ["text.layers.0.self_attn.q_proj.weight", "text.norm.weight"]);
    assert.deepEqual(plan.misshapen, [{ name: "text.layers.0.mlp.up_proj.weight", expected: [3, 4], found: [2, 4], from: ["model.layers.0.mlp.up_proj.weight"] }]);
    assert.deepEqual([plan.unexpected, plan.unused], [["model.layers.0.mlp.extra.weight"], ["lm_head.weight"]]);
    assert.match(importProblems(plan)!, /missing: text\.norm\.weight[^]*mis-shaped: text\.layers\.0\.mlp\.up_proj\.weight is \(3, 4\) here and \(2, 4\) in model/);
  });

  it("takes eps and theta from config.json, not from defaults", () => {
    const plan = planImport({ source: release(), plugin: llamaEncoder, config });
    assert.deepEqual([plan.options.eps, plan.options.rope_theta, plan.options.head_dim], [1e-6, 500000, 2]);
  });

  it("will not guess the number of heads", () => {
    assert.throws(() => planImport({ source: release(), plugin: llamaEncoder }), refused(/heads and kv_heads are not told by any shape/));
  });

  it("names what the source computes with and the component cannot", () => {
    const strange = planImport({ source: release(), plugin: llamaEncoder, config: { ...config, attention_bias: true } });
    assert.deepEqual(strange.unsupported, [{ option: "attention_bias", value: true, neutral: false, from: "config.json attention_bias" }]);
    assert.match(importProblems(strange)!, /not supported: config\.json attention_bias says attention_bias = true/);
  });

  it("gives new words the mean of the old ones, and drops none", () => {
    const grown = planImport({ source: release(), plugin: llamaEncoder, config, options: { vocabulary: 6 } });
    const table = numbers(written(grown.tensors).get("text.embed_tokens.weight")!);
    const old = numbers(filled(llamaEncoder, options).get("text.embed_tokens.weight")!);
    const mean = [0, 1, 2, 3].map((d) => (old[d] + old[4 + d] + old[8 + d] + old[12 + d]) / 4);
    assert.deepEqual(table, [...old, ...mean, ...mean]);
    assert.deepEqual(planImport({ source: release(), plugin: llamaEncoder, config, options: { vocabulary: 3 } }).misshapen.map(({ name }) => name), ["text.embed_tokens.weight"]);
  });

  it("uses fc_norm where a fine-tuned BEiT has no norm", () => {
    const tensors = written(planExport({ source: memorySource(filled(beit, small[2].options)), use: "image-encoder/beit", options: small[2].options, dialect: "unilm" }).tensors);
    for (const part of ["weight", "bias"]) {
      tensors.set(`fc_norm.${part}`, tensors.get(`norm.${part}`)!);
      tensors.delete(`norm.${part}`);
    }
    tensors.delete("mask_token");
    const plan = planImport({ source: memorySource(tensors), plugin: beit });
    assert.deepEqual([plan.missing, plan.unused, plan.fresh], [[], [], ["vision.mask_token"]]);
    assert.deepEqual(written(plan.tensors).get("vision.norm.bias"), tensors.get("fc_norm.bias"));
  });

  it("of another family's weights is refused", () => {
    assert.throws(() => planImport({ source: memorySource(new Map([["some.thing", f32([1], [1])]])), plugin: beit }), refused(/none of its 1 names is one of beit's \(some\.thing/));
  });
});
