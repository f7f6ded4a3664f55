/**
 * What every tensor component promises, with its default options: it takes exactly its declared ports, gives exactly its declared
 * ports in the declared shapes and dtypes, names its parameters completely, and two of one model never share a name.
 */
import assert from "node:assert/strict";
import { fromArray, materialise, release, Scope, toPrecision, type Plugin, type Port, type Precision, type Tensor } from "../../../runtime/index.ts";
import { decoders } from "../../../plugins/decoder/index.ts";
import { fusions } from "../../../plugins/fusion/index.ts";
import { imageEncoders } from "../../../plugins/image-encoder/index.ts";
import { objectives } from "../../../plugins/objective/index.ts";
import { positions } from "../../../plugins/position/index.ts";
import { promptEncoders } from "../../../plugins/prompt-encoder/index.ts";
import { teachers } from "../../../plugins/teacher/index.ts";
import { textEncoders } from "../../../plugins/text-encoder/index.ts";
import { visualTokenizers } from "../../../plugins/visual-tokenizer/index.ts";
import { fill, fillWeight } from "./fill.ts";
import { build, context } from "./harness.ts";

/** A number for every symbolic dimension of the model: 64 patches and 8 text tokens make M = 73. */
const sizes: Record<string, number> = { B: 2, T: 8, M: 73, Q: 8, A: 8, G: 2, R: 2, K: 2, Nm: 3, Np: 4, Na: 5 };
/** Where the defaults are those of a released model, smaller ones. */
const smaller: Record<string, Record<string, unknown>> = { "teacher/clip": { image: 32, width: 16, layers: 1, heads: 2, targets: 8 } };
const shapeOf = ({ dims }: Port) => dims.map((dim) => (typeof dim === "number" ? dim : sizes[dim] ?? assert.fail(`no size for the dimension ${dim}`)));

/** Floats in [0, 1] (boxes, pixels and states alike), masks of ones, ids that every table has. */
function example(name: string, port: Port): Tensor {
  const shape = shapeOf(port);
  const size = shape.reduce((a, b) => a * b, 1);
  if (port.dtype === "u8") return fromArray(new Uint8Array(size).fill(1), shape);
  if (port.dtype === "i32") return fromArray(Int32Array.from({ length: size }, (_, i) => i % 2), shape);
  return fromArray(fill(name, shape, 0.5, 0.5), shape, "f32");
}

const counts = { pages: 2, mlm_tokens: 3, mntp_tokens: 3, lm_tokens: 14, mim_patches: 4, wpa_tokens: 16, answer_text_tokens: 5, answer_loc_tokens: 0, boxes: 2 };
/** An objective takes labels or an index, not both. */
const alternatives = new Set(["objective/mlm labels", "objective/mntp labels", "objective/answer labels"]);

const all: Plugin[] = [
  ...imageEncoders, ...textEncoders, ...positions, ...fusions, ...promptEncoders, ...decoders, ...objectives, ...teachers, ...visualTokenizers,
];
/** Of two that play one part in a model, and name their parameters after it, the second. */
const others = new Set(["fusion/concatenation", "fusion/co-attention", "objective/mim-codes", "teacher/clip", "teacher/mini-clip"]);

/** Losses, parameters that leave as they are, and what a visual tokenizer says (VT-1). */
const staysF32 = ({ kind }: Plugin, output: string): boolean =>
  kind === "objective" || kind === "visual-tokenizer" || (output === "embedding" && kind !== "prompt-encoder") || output === "logit_scale";

describe("ports of the model's components", () => {
  for (const plugin of all) {
    for (const which of ["all", "only the necessary"] as const) {
      it(`${plugin.id} with ${which} inputs gives its declared outputs`, async () => {
        const options = smaller[plugin.id] ?? {};
        const ports = plugin.ports(plugin.options.parse(options));
        const component = build(plugin, options);
        const scope = new Scope("ports");
        try {
          materialise(component.parameters(), { seed: 1, prefix: "" });
          const isIndexed = plugin.id === "objective/mlm" || plugin.id === "objective/mntp" || plugin.id === "objective/answer";
          const names = Object.keys(ports.in).filter((name) => !alternatives.has(`${plugin.id} ${name}`))
            .filter((name) => which === "all" || isIndexed || !ports.in[name].optional);
          const outputs = scope.enter(() => component.forward(
            Object.fromEntries(names.map((name) => [name, example(name, ports.in[name])])), context({ training: true, counts, sampleIds: [0, 1] })));
          assert.deepEqual(Object.keys(outputs).sort(), Object.keys(ports.out).sort());
          for (const [name, port] of Object.entries(ports.out)) {
            assert.deepEqual(outputs[name].shape, shapeOf(port), `shape of ${name}`);
            assert.equal(outputs[name].dtype, port.dtype, `dtype of ${name}`);
            const values = Array.from(await outputs[name].read() as ArrayLike<number>);
            assert.ok(values.every(Number.isFinite), `${name} has a value that is not finite`);
          }
        } finally {
          scope.close();
          release(component.parameters());
        }
      });
    }
  }

  for (const plugin of all) {
    it(`${plugin.id} in bf16 gives what it gives in f32, its activations in bf16`, async () => {
      const ports = plugin.ports(plugin.options.parse({})), component = build(plugin), scope = new Scope("bf16");
      try {
        materialise(component.parameters(), { seed: 1, prefix: "", load: (name, { shape }) => fillWeight(name, shape) });
        // Activations of other components come in bf16; what a loader gives, and tables of parameters, in f32.
        const arrives = (name: string, precision: Precision) => {
          const { gradient, dtype } = ports.in[name], tensor = example(name, ports.in[name]);
          return dtype === "f32" && gradient && name !== "embedding" ? toPrecision(tensor, precision) : tensor;
        };
        const [exact, rounded] = (["f32", "bf16"] as const).map((precision) => scope.enter(() => component.forward(
          Object.fromEntries(Object.keys(ports.in).filter((name) => !alternatives.has(`${plugin.id} ${name}`)).map((name) => [name, arrives(name, precision)])),
          context({ counts, precision, sampleIds: [0, 1] }))));
        for (const [name, { dtype }] of Object.entries(ports.out)) {
          assert.equal(rounded[name].dtype, dtype === "f32" && !staysF32(plugin, name) ? "bf16" : dtype, `dtype of ${name}`);
          const [got, expected] = [Array.from(await rounded[name].readNumbers()), Array.from(await exact[name].readNumbers())];
          const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
          const worst = expected.reduce((most, value, i) => Math.max(most, Math.abs(got[i] - value)), 0);
          assert.ok(worst <= 0.03 * largest, `${name} is off by ${worst}, its largest is ${largest}`);
        }
      } finally {
        scope.close();
        release(component.parameters());
      }
    });
  }

  it("names every parameter once in a model of one component per part", () => {
    const oneOfEach = all.filter(({ id }) => !others.has(id));
    const names = oneOfEach.flatMap((plugin) => Object.keys(build(plugin).parameters()));
    assert.deepEqual(names.filter((name, i) => names.indexOf(name) !== i), []);
    const roots = /^(vision|text|proj\.(vision|text)|lff|fusion|prompt|decoder|memory_proj|head\.(mlm|mim|wpa|box)|teacher|tokenizer)\./;
    assert.deepEqual(names.filter((name) => !roots.test(name)), []);
  });

  it("refuses options that do not fit each other", () => {
    const refused: [string, Record<string, unknown>, RegExp][] = [
      ["image-encoder/beit", { image: 100 }, /multiple of patch/], ["image-encoder/beit", { widht: 3 }, /widht/],
      ["text-encoder/llama", { kv_heads: 3 }, /multiple of kv_heads/], ["text-encoder/llama", { passes: 2, attention_dropout: 0.1 }, /needs a pooling/], ["text-encoder/llama", { passes: 2, pooling: "mean" }, /the two passes are the same/],
      ["text-encoder/llama", { s2: { ratio: 0.3 } }, /1\/2, 1\/3/], ["text-encoder/llama", { s2: { group: 3 } }, /multiple of 2/], ["text-encoder/llama", { attention: "s2", heads: 3, kv_heads: 3 }, /even/],
      ["text-encoder/llama", { lora: { frozen: [{}] } }, /name of its own/], ["text-encoder/llama", { rope_scaling: { type: "yarn", factor: 2 } }, /type/],
      ["fusion/multiway", { vision_language_layers: 4 }, /must not exceed layers/],
      ["decoder/llama", { heads: 3, kv_heads: 3 }, /multiple of heads/], ["prompt-encoder/bert", { heads: 3 }, /multiple of heads/],
      ["visual-tokenizer/vq-kd", { image: 100 }, /multiple of patch/], ["visual-tokenizer/vq-kd", { heads: 3 }, /multiple of heads/],
    ];
    for (const [id, options, message] of refused) {
      const plugin = all.find((candidate) => candidate.id === id)!;
      assert.throws(() => plugin.options.parse(options), message, id);
    }
  });
});
