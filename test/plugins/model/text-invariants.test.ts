/** What must hold on the text side whatever the weights: positions, padding in every mode, dropout of the two passes, shared weights, adapters. */
import assert from "node:assert/strict";
import { add, fromArray, mul, nn, reshape, rope, RuntimeError, Scope, sum as sumOf, Tape, type GenerativeDecoder, type Tensor, type TensorComponent } from "../../../runtime/index.ts";
import { llamaDecoder } from "../../../plugins/decoder/llama.ts";
import { llamaEncoder } from "../../../plugins/text-encoder/llama.ts";
import { fill } from "./fill.ts";
import { assertClose, build, compute, context, fillParameters, ids, mask, ones } from "./harness.ts";

const exact = 1e-12;
const options = { vocabulary: 23, width: 16, layers: 2, heads: 4, kv_heads: 2, head_dim: 4, hidden: 24 };
const input = (name: string, shape: number[]): Tensor => fromArray(fill(name, shape), shape, "f64");
type Adapted = TensorComponent & { adapters: nn.AdapterSet };

async function encode(tokens: number[], o: { real?: number; options?: Record<string, unknown>; context?: Parameters<typeof context>[0] } = {}) {
  const encoder = build<Adapted>(llamaEncoder, { ...options, ...o.options });
  fillParameters(encoder, "f64");
  return compute(() => encoder.forward({ text_ids: ids([tokens]), text_mask: mask([tokens.map((_, i) => Number(i < (o.real ?? tokens.length)))]) },
    context({ sampleIds: [5], ...o.context })), encoder);
}
const difference = (a: number[], b: number[]) => a.map((x, i) => Math.abs(x - b[i]));

describe("rotary positions", () => {
  const frequencies = (factor?: number) => nn.ropeFrequencies64({ headDim: 8, theta: 1e4, ...(factor && { scaling: { type: "linear", factor } }) });
  const turned = async (name: string, at: number[], factor?: number) => (await compute(() => ({
    y: rope(input(name, [1, at.length, 8]), ids([at]), fromArray(frequencies(factor), [4], "f64"), { heads: 1 }) }))).y;

  it("INV-R1: keep the length of every pair", async () => {
    const [before, after] = [fill("x", [1, 2, 8]), await turned("x", [3, 1000])];
    for (let t = 0; t < 2; t++) for (let i = 0; i < 4; i++) {
      const length = (x: ArrayLike<number>) => Math.hypot(x[t * 8 + i], x[t * 8 + i + 4]);
      assertClose([length(after)], [length(before)], exact, `token ${t}, pair ${i}`);
    }
  });

  it("INV-R2: the product of a query and a key depends on their distance alone", async () => {
    const product = async (p: number, s: number) => {
      const [q, k] = [await turned("q", [p]), await turned("k", [s])];
      return q.reduce((total, x, i) => total + x * k[i], 0);
    };
    assertClose([await product(104, 101), await product(1003, 1000)], [await product(3, 0), await product(3, 0)], 1e-11, "product");
    assert.ok(Math.abs(await product(4, 0) - await product(3, 0)) > 1e-3);
  });

  it("INV-R3: a constant added to all positions changes no state, bidirectional or causal", async () => {
    for (const causal of [false, true]) {
      const layer = nn.llamaLayer({ width: 16, heads: 4, kvHeads: 2, hidden: 24 }), component = { parameters: () => layer.parameters(), forward: () => ({}) };
      fillParameters(component, "f64");
      const run = (first: number) => compute(() => ({ y: layer.forward(input("x", [1, 5, 16]), {
        positions: ids([[0, 1, 2, 3, 4].map((p) => p + first)]), invFreq: fromArray(nn.ropeFrequencies64({ headDim: 4, theta: 1e4 }), [2], "f64"), causal }) }));
      const [here, there] = [await run(0), await run(37)];
      assertClose(there.y, here.y, exact, "states");
      await compute(() => ({}), component);
    }
  });

  it("INV-R4: a linear factor f at position f p is no factor at p", async () => {
    assertClose(await turned("x", [12, 20], 4), await turned("x", [3, 5]), exact, "turned");
  });

  it("every scaling reaches the encoder; dynamic only beyond the length it knows", async () => {
    const text = [1, 5, 7, 2, 9, 11];
    const plain = (await encode(text)).states;
    const scaled = async (rope_scaling: unknown) => Math.max(...difference((await encode(text, { options: { rope_scaling } })).states, plain));
    assert.ok(await scaled({ type: "linear", factor: 2 }) > 1e-4);
    assert.ok(await scaled({ type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8 }) > 1e-6);
    assert.ok(await scaled({ type: "dynamic", factor: 2, original_max_position_embeddings: 5 }) > 1e-6);
    assert.equal(await scaled({ type: "dynamic", factor: 2, original_max_position_embeddings: 6 }), 0);
  });
});

describe("text-encoder/llama in its modes", () => {
  const training = { training: true };
  for (const [what, more] of [["bidirectional", {}], ["causal, in a window of 3", { attention: "causal", window: 3 }], ["in groups of 4", { attention: "s2", s2: { group: 4 } }],
    ["in causal groups", { attention: "s2", s2: { group: 4, causal: true } }]] as const) {
    it(`INV-A3, TE-1: ${what}, neither content nor amount of padding alters a real state`, async () => {
      const text = [1, 5, 7, 2, 9, 11];
      const bare = (await encode(text, { options: more, context: training })).states;
      for (const padding of [[0], [9, 3], [0, 0, 0, 0, 0, 4]]) {
        const { states } = await encode([...text, ...padding], { real: 6, options: more, context: training });
        assertClose(states.slice(0, 96), bare, exact, `padding ${padding}`);
      }
    });
  }

  it("pads texts that no group divides: their states are those of a text that was padded by hand", async () => {
    const s2 = { attention: "s2", s2: { ratio: 0.5 } }; // 6 tokens become 8, in groups of 4
    const [short, long] = [await encode([1, 5, 7, 2, 9, 11], { options: s2, context: training }), await encode([1, 5, 7, 2, 9, 11, 0, 0], { real: 6, options: s2, context: training })];
    assert.equal(short.states.length, 96);
    assertClose(long.states.slice(0, 96), short.states, exact, "states");
  });

  it("a window lets a token see as many tokens as it is wide, and none that come later; encoders ignore it", async () => {
    const reach = async (more: Record<string, unknown>) => {
      const [a, b] = [await encode([1, 5, 7, 2, 9], { options: { layers: 1, ...more } }), await encode([1, 6, 7, 2, 9], { options: { layers: 1, ...more } })];
      return [0, 1, 2, 3, 4].filter((t) => Math.max(...difference(a.states, b.states).slice(t * 16, t * 16 + 16)) > 0);
    };
    assert.deepEqual(await reach({ attention: "causal", window: 2 }), [1, 2]);
    assert.deepEqual(await reach({ attention: "causal" }), [1, 2, 3, 4]);
    assert.deepEqual(await reach({ window: 2 }), [0, 1, 2, 3, 4]);
  });

  it("INV-S4: causal split groups never look ahead; TE-2: outside of training groups attend in full", async () => {
    const change = async (s2: Record<string, unknown>, o: { training: boolean }) => {
      const run = (last: number) => encode([1, 5, 7, 2, 9, 11, 3, last], { options: { attention: "s2", s2: { group: 4, ...s2 } }, context: o });
      return Math.max(...difference((await run(4)).states, (await run(8)).states).slice(0, 112));
    };
    assert.equal(await change({ causal: true }, training), 0);
    assert.ok(await change({ causal: true, wrap: "roll" }, training) > 1e-4, "roll looks ahead");
    const [grouped, full] = [await encode([1, 5, 7, 2, 9, 11, 3, 4], { options: { attention: "s2", s2: { group: 4 } } }), await encode([1, 5, 7, 2, 9, 11, 3, 4])];
    assert.deepEqual(grouped.states, full.states);
  });

  it("two passes drop different weights, each the same again in the same step, none outside of training", async () => {
    const two = { pooling: "mean", passes: 2, attention_dropout: 0.3 };
    const run = (step: number, isTraining = true) => encode([1, 5, 7, 2, 9], { options: two, context: { training: isTraining, step } });
    const first = await run(3);
    assert.ok(Math.max(...difference(first.pooled, first.pooled_again)) > 1e-3);
    assert.deepEqual(await run(3), first);
    assert.notDeepEqual((await run(4)).pooled, first.pooled);
    const still = await run(3, false);
    assert.deepEqual(still.pooled, still.pooled_again);
  });

  it("with adapters the base of encoder and decoder is frozen, but for names that shall train", () => {
    for (const [plugin, prefix] of [[llamaEncoder, "text."], [llamaDecoder, "decoder."]] as const) {
      const component = build<Adapted>(plugin, { lora: { r: 8, alpha: 16, targets: ["q_proj", "k_proj", "v_proj", "o_proj"], train: ["embed", "norm"] } });
      const language = Object.entries(component.parameters()).filter(([name]) => name.startsWith(prefix));
      for (const [name, { trainable }] of language) assert.equal(trainable, /lora_|embed|norm/.test(name), name);
    }
  });

  it("INV-L1: an adapter merged into the component's weights gives what it gave beside them", async () => {
    const encoder = build<Adapted>(llamaEncoder, { ...options, lora: { r: 2, alpha: 4, targets: ["q_proj", "down_proj", "embed_tokens"], frozen: [{ name: "mntp", r: 2, alpha: 2 }] } });
    fillParameters(encoder, "f64", { given: Object.fromEntries(Object.entries(encoder.parameters()).filter(([name]) => /lora_B|embedding_B/.test(name)).map(([name, { size }]) => [name, new Float64Array(size)])) });
    const run = () => compute(() => encoder.forward({ text_ids: ids([[1, 5, 7]]), text_mask: ones(1, 3) }, context()));
    const fresh = await run();
    encoder.adapters.activate();
    assert.deepEqual(await run(), fresh, "fresh adapters are no adapters");
    encoder.adapters.activate("default", "mntp");
    for (const [name, { value, shape }] of Object.entries(encoder.parameters())) if (/lora_B|embedding_B/.test(name)) value.write(fill(name, shape, 0.2));
    const beside = await run();
    assert.notDeepEqual(beside, fresh);
    for (const name of ["mntp", "default"]) encoder.adapters.merge(name);
    const merged = await run();
    for (const name of ["mntp", "default"]) encoder.adapters.unmerge(name);
    const back = await run();
    for (const output of ["states", "embedding"]) {
      assertClose(merged[output], beside[output], exact, `${output}, merged`);
      assertClose(back[output], beside[output], exact, `${output}, unmerged`);
    }
    await compute(() => ({}), encoder);
  });
});

describe("decoder/llama with adapters", () => {
  it("DE-4: tokens generated after adapters were switched off or merged are those of the weights as they are then, compiled too", async () => {
    const [compiled, eager] = [true, false].map((compile) => {
      const decoder = build<GenerativeDecoder & Adapted>(llamaDecoder, { memory_width: 6, vocabulary: 11, width: 8, layers: 1, heads: 2, kv_heads: 1, hidden: 12, lora: { r: 2, alpha: 8 }, compile });
      fillParameters(decoder, "f64");
      return decoder;
    });
    const generate = async (decoder: GenerativeDecoder): Promise<number[][]> => {
      const given = { memory: input("memory", [1, 3, 6]), memory_mask: ones(1, 3) }, state = decoder.begin(given, context());
      for (const tensor of Object.values(given)) tensor.dispose();
      const logits: number[][] = [];
      for (let token = 0; token < 8; token++) {
        const next = decoder.next(state, Int32Array.of(1 + token));
        logits.push(Array.from(await next.readNumbers()));
        next.dispose();
      }
      decoder.end(state);
      return logits;
    };
    const seen: number[][][] = [];
    for (const change of [() => {}, (set: nn.AdapterSet) => set.activate(), (set: nn.AdapterSet) => (set.activate("default"), set.merge("default"))]) {
      for (const { adapters } of [compiled, eager]) change(adapters);
      seen.push(await generate(compiled));
      assert.deepEqual(seen.at(-1), await generate(eager));
    }
    assert.notDeepEqual(seen[1], seen[0]);
    seen[2].forEach((row, i) => assertClose(row, seen[0][i], exact, `merged, token ${i}`));
    await compute(() => ({}), compiled, eager);
  });
});

describe("share_base_with_text", () => {
  const sizes = { vocabulary: 11, width: 8, layers: 2, heads: 4, kv_heads: 2, hidden: 12 };
  const inputs = () => ({ memory: input("memory", [1, 3, 6]), memory_mask: ones(1, 3), dec_ids: ids([[1, 5, 7]]), dec_mask: ones(1, 3) });
  const weighted = ({ hidden, embedding }: Record<string, Tensor>) => add(
    reshape(sumOf(mul(hidden, input("weights of hidden", [1, 3, 8]))), [1]), reshape(sumOf(mul(embedding, input("weights of the table", [11, 8]))), [1]));

  it("DE-6 gives what a decoder with these weights gives, and their gradients to the text encoder", async () => {
    const text = build(llamaEncoder, { ...sizes, head_dim: 2, share_base: true });
    const [own, borrowing] = [false, true].map((share_base_with_text) => build(llamaDecoder, { ...sizes, memory_width: 6, share_base_with_text }));
    const asText = (name: string) => name.replace(/^decoder\./, "text.");
    for (const component of [text, own, borrowing]) fillParameters(component, "f64", { nameOf: asText });
    assert.deepEqual(Object.keys(borrowing.parameters()), ["memory_proj.weight", "memory_proj.bias"]);
    const scope = new Scope("shared base");
    const read = async (tensor: Tensor) => Array.from(await tensor.read() as Float64Array);
    try {
      const [a, b] = [new Tape(), new Tape()];
      const one = scope.enter(() => fromArray([1], [1], "f64"));
      const [alone, shared] = scope.enter(() => [
        a.record(() => weighted(own.forward(inputs(), context()))),
        b.record(() => {
          const { base } = text.forward({ text_ids: ids([[1]]), text_mask: ones(1, 1) }, context());
          return weighted(borrowing.forward({ ...inputs(), base }, context()));
        }),
      ]);
      assertClose(await read(shared), await read(alone), exact, "value");
      const [ofOwn, ofText] = scope.enter(() => [a.backward([[alone, one]]), b.backward([[shared, one]])]);
      for (const [name, parameter] of Object.entries(own.parameters())) {
        const owner = name.startsWith("decoder.") ? text.parameters()[asText(name)] : borrowing.parameters()[name];
        assertClose(await read(ofText.get(owner.value)!), await read(ofOwn.get(parameter.value)!), exact, name);
      }
    } finally {
      scope.close();
      await compute(() => ({}), text, own, borrowing);
    }
  });

  it("refuses weights of another size by name", async () => {
    const decoder = build(llamaDecoder, { ...sizes, memory_width: 6, share_base_with_text: true });
    fillParameters(decoder, "f64");
    await assert.rejects(compute(() => decoder.forward({ ...inputs(), base: input("base", [100]) }, context()), decoder), RuntimeError);
    assert.equal(llamaEncoder.ports(llamaEncoder.options.parse({ ...sizes, head_dim: 2, share_base: true })).out.base.dims[0],
      llamaDecoder.ports(llamaDecoder.options.parse({ ...sizes, share_base_with_text: true })).in.base.dims[0]);
  });
});
