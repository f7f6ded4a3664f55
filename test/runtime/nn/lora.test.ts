/** Adapters on maps and tables, alone and in a stack: LO-1 .. LO-3, the counts of public configurations, who trains. */
import assert from "node:assert/strict";
import { countParameters, fromArray, materialise, nn, release, Scope, type Tensor } from "../../../runtime/index.ts";
import { fill } from "../../plugins/model/fill.ts";

const base = (layer: nn.Module, name: string) => layer.parameters()[name];
const randomness = (over: Partial<nn.Randomness> = {}): nn.Randomness => ({ training: true, seed: 3, step: 5, sampleIds: [7, 8], ...over });

/** The numbers of what `work` gives; everything else is freed. */
async function numbers(work: () => Tensor): Promise<number[]> {
  const scope = new Scope("lora");
  try {
    return Array.from(await scope.enter(work).read() as ArrayLike<number>);
  } finally {
    scope.close();
  }
}

const llama = (o: { width: number; hidden: number; heads: number; kvHeads: number; layers: number; vocabulary: number }) => {
  const table = nn.embedding({ count: o.vocabulary, width: o.width });
  const layers = Array.from({ length: o.layers }, () => nn.llamaLayer({ width: o.width, heads: o.heads, kvHeads: o.kvHeads, hidden: o.hidden }));
  const norm = nn.rmsNorm({ width: o.width }), lm_head = nn.linear({ in: o.width, out: o.vocabulary, bias: false });
  return { adapters: new nn.AdapterSet(nn.llamaParts(table, layers)), parameters: () => nn.collect({ embed_tokens: table, layers, norm, lm_head }) };
};
const llama3 = { width: 4096, hidden: 14336, heads: 32, kvHeads: 8, layers: 32, vocabulary: 128256 };
const llama2 = { width: 4096, hidden: 11008, heads: 32, kvHeads: 32, layers: 32, vocabulary: 32000 };
const attention = ["q_proj", "k_proj", "v_proj", "o_proj"];

describe("LoRA", () => {
  const x = () => fromArray(fill("x", [2, 3, 6]), [2, 3, 6], "f64");
  const ids = () => fromArray(Int32Array.of(4, 0, 2, 4), [2, 2]);
  const filled = (layer: nn.Module, given: Record<string, ArrayLike<number>> = {}) =>
    materialise(layer.parameters(), { seed: 1, prefix: "", dtype: "f64", load: (name, { shape }) => given[name] ?? fill(name, shape) });

  it("LO-1 a fresh adapter changes no bit, on a map and on a table", async () => {
    const map = nn.linear({ in: 6, out: 4 }), table = nn.embedding({ count: 5, width: 4 });
    new nn.AdapterSet({ map, table }).attach({ r: 2, alpha: 8, targets: ["map", "table"] });
    for (const [layer, run] of [[map, () => map.forward(x())], [table, () => table.forward(ids())], [table, () => table.table()]] as const) {
      materialise(layer.parameters(), { seed: 1, prefix: "", dtype: "f64" });
      assert.ok((await numbers(() => Object.values(layer.parameters()).at(-2)!.value)).some((a) => a !== 0), "A starts at random");
      const adapted = await numbers(run);
      layer.adapters.activate([]);
      assert.deepEqual(adapted, await numbers(run));
      layer.adapters.activate(["default"]);
      release(layer.parameters());
    }
  });

  it("LO-2 merge gives what the adapter gave beside the weight, and unmerge the weight back; twice is once", async () => {
    const map = nn.linear({ in: 6, out: 4 }), table = nn.embedding({ count: 5, width: 4 });
    const set = new nn.AdapterSet({ map, table }).attach({ r: 2, alpha: 3, rslora: true, targets: ["map", "table"] });
    for (const [layer, run] of [[map, () => map.forward(x())], [table, () => table.forward(ids())], [table, () => table.table()]] as const) {
      filled(layer);
      const weight = await numbers(() => layer.weight.value), beside = await numbers(run);
      layer.adapters.merge("default");
      layer.adapters.merge("default");
      near(await numbers(run), beside, 1e-13);
      layer.adapters.unmerge("default");
      layer.adapters.unmerge("default");
      near(await numbers(() => layer.weight.value), weight, 1e-15);
      near(await numbers(run), beside, 1e-13);
      release(layer.parameters());
    }
    assert.throws(() => set.merge("other"), { code: "ERR_INPUT", message: /expected one of default/ });
  });

  it("scales by alpha / r, rsLoRA by alpha / sqrt(r), once", async () => {
    for (const [rslora, factor] of [[false, 3 / 4], [true, 3 / 2]] as const) {
      const layer = nn.linear({ in: 1, out: 1, bias: false });
      new nn.AdapterSet({ layer }).attach({ r: 4, alpha: 3, rslora });
      filled(layer, { weight: [10], "lora_A.weight": [1, 1, 1, 1], "lora_B.weight": [1, 2, 3, 4] });
      near(await numbers(() => layer.forward(fromArray([2], [1, 1, 1], "f64"))), [20 + factor * 20], 1e-14);
      release(layer.parameters());
    }
  });

  it("LO-3 several adapters lie on one weight by name, and the active ones take part", async () => {
    const layer = nn.linear({ in: 6, out: 4 });
    const set = new nn.AdapterSet({ layer }).attach({ name: "mntp", r: 2, alpha: 2 }).attach({ name: "simcse", r: 3, alpha: 3 });
    assert.deepEqual(Object.keys(layer.parameters()), ["weight", "bias", "lora_A.mntp.weight", "lora_B.mntp.weight", "lora_A.simcse.weight", "lora_B.simcse.weight"]);
    filled(layer);
    const run = async (...names: string[]) => (set.activate(...names), numbers(() => layer.forward(x())));
    const [none, first, second, both] = [await run(), await run("mntp"), await run("simcse"), await run("mntp", "simcse")];
    near(both, none.map((y, i) => first[i] + second[i] - y), 1e-12);
    set.merge("mntp");
    near(await run("simcse"), both, 1e-12); // merged, it takes part whatever is active
    set.unmerge("mntp");
    near(await run(), none, 1e-12);
    assert.throws(() => set.attach({ name: "mntp", r: 2, alpha: 2 }), { code: "ERR_INPUT", message: /"mntp" is there already/ });
    assert.throws(() => set.activate("mntq"), { code: "ERR_INPUT" });
    release(layer.parameters());
  });

  it("drops its input only while training, per step and sample", async () => {
    const layer = nn.linear({ in: 6, out: 4 });
    new nn.AdapterSet({ layer }).attach({ r: 2, alpha: 2, dropout: 0.5 });
    filled(layer);
    const run = (keys?: nn.Randomness) => numbers(() => layer.forward(x(), keys));
    const still = await run();
    assert.deepEqual(await run(randomness({ training: false })), still);
    const dropped = await run(randomness());
    assert.notDeepEqual(dropped, still);
    assert.deepEqual(await run(randomness()), dropped);
    assert.notDeepEqual(await run(randomness({ step: 6 })), dropped);
    const swapped = await run(randomness({ sampleIds: [7, 9] }));
    assert.deepEqual(swapped.slice(0, 12), dropped.slice(0, 12));
    assert.notDeepEqual(swapped.slice(12), dropped.slice(12));
    release(layer.parameters());
  });

  it("names what it lies on by the ends of names, and refuses an end that nothing has", () => {
    const { adapters, parameters } = llama({ width: 8, hidden: 12, heads: 2, kvHeads: 1, layers: 2, vocabulary: 9 });
    adapters.attach({ r: 1, alpha: 1, targets: ["layers.1.self_attn.q_proj", "up_proj", "embed_tokens"] });
    assert.deepEqual(Object.keys(parameters()).filter((name) => name.includes("lora")), [
      "embed_tokens.lora_embedding_A", "embed_tokens.lora_embedding_B", "layers.0.mlp.up_proj.lora_A.weight", "layers.0.mlp.up_proj.lora_B.weight",
      "layers.1.self_attn.q_proj.lora_A.weight", "layers.1.self_attn.q_proj.lora_B.weight", "layers.1.mlp.up_proj.lora_A.weight", "layers.1.mlp.up_proj.lora_B.weight",
    ]);
    assert.throws(() => adapters.attach({ name: "b", r: 1, alpha: 1, targets: ["q_poj"] }), { code: "ERR_INPUT", message: /Did you mean "q_proj"/ });
  });

  it("has the counts of LongLoRA's and LLM2Vec's configurations", () => {
    const learned = (o: typeof llama3, lora: nn.LoraOptions, train: string[] = []) => {
      const { adapters, parameters } = llama(o);
      adapters.attach(lora);
      const all = parameters();
      nn.freezeBase(all, train);
      return countParameters(Object.fromEntries(Object.entries(all).filter(([, { trainable }]) => trainable)));
    };
    assert.equal(learned(llama3, { r: 8, alpha: 16, targets: attention }), 6_815_744);
    assert.equal(learned(llama3, { r: 16, alpha: 32 }), 41_943_040);
    assert.equal(learned(llama2, { r: 8, alpha: 16, targets: attention }), 8_388_608);
    // Tables and norms, not the head: 131,338,240 more.
    assert.equal(learned(llama2, { r: 8, alpha: 16, targets: attention }, ["embed", "norm"]), 8_388_608 + 131_338_240);
  });

  it("freezes the base, not the adapter; a frozen adapter takes part and does not learn", () => {
    const layer = nn.linear({ in: 6, out: 4 });
    new nn.AdapterSet({ layer }).attach({ name: "before", r: 2, alpha: 2, frozen: true }).attach({ r: 2, alpha: 2 });
    const parameters = nn.collect({ layer });
    nn.freezeBase(parameters, ["bias"]);
    assert.deepEqual(Object.keys(parameters).filter((name) => parameters[name].trainable), ["layer.bias", "layer.lora_A.weight", "layer.lora_B.weight"]);
    assert.equal(base(layer, "lora_A.before.weight").trainable, false);
  });
});

function near(got: readonly number[], expected: readonly number[], tolerance: number): void {
  assert.equal(got.length, expected.length);
  got.forEach((y, i) => assert.ok(Math.abs(y - expected[i]) <= tolerance, `element ${i} is ${y}, expected ${expected[i]}`));
}
