/** BERT and MiniLM: Hugging Face's names, with or without `bert.`, old spellings of the norms put right. */
import { affine, type Family, fromTable, type Rule, same, settings } from "./family.ts";

const layer = "encoder.layer.{i}";
const rules: Rule[] = [
  ...same(["embeddings.word_embeddings.weight"], { resize: "vocabulary" }),
  ...same(["embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight"]),
  ...affine("embeddings.LayerNorm", "embeddings.LayerNorm"),
  ...["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense", "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"]
    .flatMap((name) => affine(`${layer}.${name}`, `${layer}.${name}`)),
];

export const bert: Family = {
  name: "bert",
  targets: { "prompt-encoder/bert": "prompt.bert." },
  dialects: [{
    name: "hugging-face", prefixes: ["", "bert."], rules,
    spellings: [[/LayerNorm\.gamma$/, "LayerNorm.weight"], [/LayerNorm\.beta$/, "LayerNorm.bias"]],
  }],
  ignored: [/position_ids$/, /^(bert\.)?pooler\.dense\./, /^cls\./],
  // MiniLM-L6 has 12 heads of 32, not 6 of 64, and the wrong number loads without an error
  mustBeTold: ["heads"],
  fromConfig: (config) => [
    ...settings(config, {
      vocabulary: "vocab_size", width: "hidden_size", layers: "num_hidden_layers", heads: "num_attention_heads", hidden: "intermediate_size", positions: "max_position_embeddings", eps: "layer_norm_eps",
    }),
    { option: "types", value: config.type_vocab_size ?? 2, neutral: 2, from: "config.json type_vocab_size" },
    { option: "activation", value: config.hidden_act ?? "gelu", neutral: "gelu", from: "config.json hidden_act" },
  ],
  fromShapes: (shape, layers) => fromTable({
    vocabulary: shape("embeddings.word_embeddings.weight")?.[0], width: shape("embeddings.word_embeddings.weight")?.[1],
    positions: shape("embeddings.position_embeddings.weight")?.[0], hidden: shape("encoder.layer.0.intermediate.dense.weight")?.[0], layers,
  }),
  toConfig: (o) => ({
    architectures: ["BertModel"], model_type: "bert", hidden_act: "gelu", vocab_size: o.vocabulary, hidden_size: o.width, num_hidden_layers: o.layers, num_attention_heads: o.heads,
    intermediate_size: o.hidden, max_position_embeddings: o.positions, type_vocab_size: 2, layer_norm_eps: o.eps, position_embedding_type: "absolute",
  }),
};
