import assert from "node:assert/strict";
import * as nn from "../../../runtime/nn/index.ts";
import { Scope, zeros } from "../../../runtime/tensor/index.ts";
import { assertClose, code, noLeaks } from "../numbers.ts";

const values = async (parameter: nn.Parameter) => parameter.value.read();

describe("parameters", () => {
  noLeaks();

  it("collect gives dotted names in order, through modules, lists and absent parts", () => {
    const names = Object.keys(nn.collect({
      gamma: new nn.Parameter([2], { kind: "ones" }), bias: undefined, proj: nn.linear({ in: 2, out: 3 }), blocks: [nn.rmsNorm({ width: 2 }), nn.rmsNorm({ width: 2 })],
    }));
    assert.deepEqual(names, ["gamma", "proj.weight", "proj.bias", "blocks.0.weight", "blocks.1.weight"]);
  });

  it("collect refuses two parameters of one name", () => {
    const inner = { parameters: () => ({ "b.weight": new nn.Parameter([1], { kind: "zeros" }) }) };
    assert.throws(() => nn.collect({ "a.b": nn.rmsNorm({ width: 1 }), a: inner }), code("ERR_PLUGIN", /two parameters .* a\.b\.weight/));
  });

  it("say so when used before they have a value", () => {
    const parameter = new nn.Parameter([2], { kind: "zeros" });
    assert.throws(() => parameter.value, code("ERR_HANDLE", /has no value. Call materialise/));
  });

  it("belong to the module, not to the scope that happens to be entered, and are freed by release", async () => {
    const layer = nn.linear({ in: 2, out: 2 });
    const scope = new Scope("elsewhere");
    scope.enter(() => nn.materialise(layer.parameters(), { seed: 1, prefix: "a" }));
    scope.close();
    assert.equal((await values(layer.weight)).length, 4);
    assert.ok(layer.weight.value.requiresGrad);
    nn.release(layer.parameters());
    assert.ok(!layer.weight.materialised);
  });

  it("start the same in any order and company: the name and the seed decide", async () => {
    const start = async (o: { seed: number; prefix: string }, names: string[]) => {
      const parameters = Object.fromEntries(names.map((name) => [name, new nn.Parameter([5, 3], { kind: "normal", std: 1 })]));
      nn.materialise(parameters, o);
      const result = await values(parameters.weight);
      nn.release(parameters);
      return result;
    };
    const alone = await start({ seed: 7, prefix: "x" }, ["weight"]);
    assert.deepEqual(await start({ seed: 7, prefix: "x" }, ["other", "weight"]), alone);
    assert.notDeepEqual(await start({ seed: 8, prefix: "x" }, ["weight"]), alone);
    assert.notDeepEqual(await start({ seed: 7, prefix: "y" }, ["weight"]), alone);
  });

  it("take their values from load where it has some", async () => {
    const layer = nn.linear({ in: 1, out: 2 });
    nn.materialise(layer.parameters(), { seed: 1, prefix: "p", dtype: "f64", load: (name, p) => (name === "p.weight" ? [p.size, 3] : undefined) });
    assert.deepEqual(await values(layer.weight), new Float64Array([2, 3]));
    assert.deepEqual(await values(layer.bias!), new Float64Array([0, 0]));
    nn.release(layer.parameters());
    assert.throws(() => nn.materialise(layer.parameters(), { seed: 1, prefix: "p", load: () => [1] }), code("ERR_SHAPE", /materialise: p.weight expected 2 elements/));
  });

  it("refuse a value of another shape, and free the former one", () => {
    const parameter = new nn.Parameter([2], { kind: "zeros" });
    parameter.set(zeros([2]));
    const wrong = zeros([3]);
    assert.throws(() => parameter.set(wrong), code("ERR_SHAPE"));
    wrong.dispose();
    const former = parameter.value;
    parameter.set(zeros([2]));
    assert.ok(former.disposed);
    parameter.release();
  });

  it("know by their names whether they decay", () => {
    const decays = (name: string, shape: number[]) => {
      const parameter = new nn.Parameter(shape, { kind: "zeros" });
      parameter.name = name;
      return parameter.decay;
    };
    for (const name of ["vision.blocks.0.attn.qkv.weight", "proj.text.weight", "vision.rel_pos_bias.relative_position_bias_table", "vision.patch_embed.proj.weight", "head.mlm.dense.weight"]) assert.ok(decays(name, [4, 4]), name);
    for (const name of ["vision.cls_token", "vision.mask_token", "fusion.type_embed.weight", "lff.Wr.weight", "text.embed_tokens.weight", "prompt.point_embeddings",
      "prompt.bert.embeddings.word_embeddings.weight", "prompt.bert.embeddings.position_embeddings.weight", "prompt.bert.embeddings.token_type_embeddings.weight"]) assert.ok(!decays(name, [4, 4]), name);
    for (const name of ["vision.norm.weight", "lff.no_box", "vision.blocks.0.gamma_1", "head.mlm.bias"]) assert.ok(!decays(name, [4]), name);
    assert.ok(new nn.Parameter([4], { kind: "zeros" }, { decay: true }).decay, "what the module says comes first");
  });
});

describe("initial values", () => {
  const start = (init: nn.Initializer, size = 20000) => Array.from(nn.initialValues(init, size, 1, "weight"));
  const moments = (values: number[]) => {
    const mean = values.reduce((a, b) => a + b) / values.length;
    return { mean, std: Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length), peak: Math.max(...values.map(Math.abs)) };
  };

  it("normal has the standard deviation asked for", () => {
    const { mean, std } = moments(start({ kind: "normal", std: 0.02 }));
    assert.ok(Math.abs(mean) < 5e-4 && Math.abs(std - 0.02) < 5e-4, `mean ${mean}, std ${std}`);
  });
  it("truncated normal stops at one standard deviation by default", () => {
    const { std, peak } = moments(start({ kind: "truncated-normal", std: 0.02 }));
    assert.ok(peak <= 0.02 && peak > 0.0199, `peak ${peak}`);
    assert.ok(Math.abs(std - 0.02 * 0.53956) < 2e-4, `std ${std}`); // sqrt(1 - 2 phi(1) / (2 Phi(1) - 1)) = 0.53956
  });
  it("truncated normal at an absolute bound, divided afterwards", () => {
    const { std, peak } = moments(start({ kind: "truncated-normal", std: 0.02, bound: 2, divide: 4 }));
    assert.ok(Math.abs(std - 0.005) < 2e-4 && peak > 0.015, `std ${std}, peak ${peak}`);
  });
  it("uniform stays within its bound", () => {
    const { std, peak } = moments(start({ kind: "uniform", bound: 0.5 }));
    assert.ok(peak <= 0.5 && Math.abs(std - 0.5 / Math.sqrt(3)) < 5e-3, `std ${std}`);
  });
  it("constants and data are what they say", () => {
    assert.deepEqual(start({ kind: "constant", value: 0.1 }, 2), [0.1, 0.1]);
    assert.deepEqual(start({ kind: "ones" }, 2), [1, 1]);
    assert.deepEqual(start({ kind: "data", data: () => new Float32Array([1, 2]) }, 2), [1, 2]);
  });
  it("a longer tensor starts with the values of a shorter one", () => {
    assertClose(start({ kind: "normal", std: 1 }, 10).slice(0, 7), start({ kind: "normal", std: 1 }, 7), 0);
  });
});
