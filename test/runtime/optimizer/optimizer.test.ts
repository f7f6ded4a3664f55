import assert from "node:assert/strict";
import { Parameter } from "../../../runtime/nn/index.ts";
import { type Optimizer, adamw, clipScale, ema, globalNorm, learningScale, sgd, sumSquares, updateNumbers, warmupCosine } from "../../../runtime/optimizer/index.ts";
import { type Tensor, fromArray, zeros } from "../../../runtime/tensor/index.ts";
import { assertClose, code, noLeaks, randn, withScope } from "../numbers.ts";

const f64 = (values: number[], shape = [values.length]): Tensor => fromArray(Float64Array.from(values), shape);

function parameterOf(values: number[], shape: number[], name: string): Parameter {
  const parameter = new Parameter(shape, { kind: "zeros" }, { decay: true });
  parameter.name = name;
  parameter.set(f64(values, shape));
  return parameter;
}

describe("adamw", () => {
  noLeaks();
  const gradients = [[0.1, -0.2], [0.3, 0.1], [-0.2, 0.05]];
  const options = { betas: [0.9, 0.98], weightDecay: 0.05 } as const;

  it("moves parameters as the paper says: decay first, then the bias-corrected step", async () => {
    // AdamW of a common framework, float64: lr 0.01, betas (0.9, 0.98), decay 0.05
    const parameter = parameterOf([1, -0.5], [1, 2], "w"), optimizer = adamw(options);
    for (const [i, values] of gradients.entries()) {
      const gradient = f64(values, [1, 2]);
      optimizer.step(parameter, gradient, { step: i + 1, learningRate: 0.01, gradScale: 1 });
      gradient.dispose();
      if (i === 0) assertClose(await parameter.value.read(), [0.989500001, -0.48975000], 1e-8);
    }
    assertClose(await parameter.value.read(), [0.9767987085, -0.4859724955], 1e-9);
    optimizer.dispose();
    parameter.release();
  });

  it("scales the gradient, and spares parameters that do not decay", async () => {
    const run = async (factor: number, gradScale: number, decay: boolean) => {
      const parameter = new Parameter([1, 2], { kind: "zeros" }, { decay }), optimizer = adamw({ ...options, eps: 1e-3 });
      parameter.name = "w";
      parameter.set(f64([1, -0.5], [1, 2]));
      const gradient = f64(gradients[0].map((g) => g * factor), [1, 2]);
      optimizer.step(parameter, gradient, { step: 1, learningRate: 0.01, gradScale });
      const result = await parameter.value.read() as Float64Array;
      [gradient, optimizer].forEach((owner) => owner.dispose());
      parameter.release();
      return result;
    };
    assertClose(await run(4, 0.25, true), await run(1, 1, true), 1e-15);
    const [decayed, free] = [await run(1, 1, true), await run(1, 1, false)];
    assertClose([decayed[0] - free[0], decayed[1] - free[1]], [-0.0005, 0.00025], 1e-12); // lr * decay * p
  });

  it("continues exactly from a saved state", async () => {
    const parameter = parameterOf([1, -0.5], [1, 2], "w");
    const step = async (optimizer: ReturnType<typeof adamw>, i: number) => {
      const gradient = f64(gradients[i], [1, 2]);
      optimizer.step(parameter, gradient, { step: i + 1, learningRate: 0.01, gradScale: 1 });
      gradient.dispose();
      return parameter.value.read();
    };
    const first = adamw(options);
    const halfway = await step(first, 0);
    const state = Object.fromEntries(await Promise.all(first.stateNames.map(async (name) => [name, await first.state(parameter)[name].read() as Float64Array])));
    const never = await step(first, 1);
    const second = adamw(options);
    second.load(parameter, state);
    parameter.value.write(halfway);
    assert.deepEqual(await step(second, 1), never);
    assert.throws(() => second.load(parameter, { m: [0, 0] }), code("ERR_CHECKPOINT", /optimizer state v of w is missing; found m/));
    [first, second].forEach((optimizer) => optimizer.dispose());
    parameter.release();
  });

  it("starts with a state of zeros and frees it", async () => {
    const parameter = parameterOf([1], [1], "w"), optimizer = adamw();
    assert.deepEqual(await optimizer.state(parameter).v.read(), new Float64Array(1));
    optimizer.dispose();
    parameter.release();
  });
});

describe("warmupCosine", () => {
  it("rises linearly, holds the peak for two steps, and falls to the final rate", () => {
    // BEiT's cosine_scheduler: peak 1.5e-3, final 1e-5, 100 steps, 10 of them warm-up
    const rate = warmupCosine({ peak: 1.5e-3, final: 1e-5, warmup: 10, total: 100 });
    assertClose([0, 5, 9, 10, 55, 99].map(rate), [0, 8.3333333333e-4, 1.5e-3, 1.5e-3, 7.55e-4, 1.04538339e-5], 1e-12);
  });
  it("works without warm-up, with one step of it, and beyond its end", () => {
    assert.equal(warmupCosine({ peak: 1, final: 0, warmup: 0, total: 10 })(0), 1);
    assert.deepEqual([0, 1].map(warmupCosine({ peak: 1, final: 0, warmup: 1, total: 10 })), [0, 1]);
    const rate = warmupCosine({ peak: 1, final: 0.1, warmup: 2, total: 10 });
    assert.equal(rate(50), rate(9));
    assert.equal(warmupCosine({ peak: 1, final: 0.1, warmup: 3, total: 3 })(2), 1);
  });
});

describe("a factor on the learning rate", () => {
  it("LS-1 of layer-wise decay is 0.75^(L + 1 - layer): the golden scales of 12 layers", () => {
    // BEiT's LayerDecayValueAssigner(0.75 ** (13 - i)): ids 0, 1, 12, 13
    const scale = learningScale({ layerDecay: { rate: 0.75, layers: 12, prefix: "vision." } });
    const golden: [number, string[]][] = [
      [0.023757, ["cls_token", "mask_token", "pos_embed", "patch_embed.proj.weight"]], [0.031676, ["blocks.0.attn.qkv.weight", "blocks.0.gamma_1"]], [0.75, ["blocks.11.mlp.fc2.bias"]],
      [1, ["norm.weight", "rel_pos_bias.relative_position_bias_table", "lm_head.weight"]],
    ];
    for (const [expected, names] of golden) for (const name of names) assert.ok(Math.abs(scale(`vision.${name}`) - expected) < 5e-7, `${name}: ${scale(`vision.${name}`)}`);
    assert.equal(scale("text.layers.0.mlp.up_proj.weight"), 1);
  });

  it("is that of the longest beginning of a name, and multiplies with the layer's", () => {
    const scale = learningScale({ layerDecay: { rate: 0.5, layers: 1, prefix: "vision." }, parts: { "fusion.": 0.1, "fusion.norm.": 0.2, "vision.": 0.5 } });
    assert.deepEqual(["fusion.blocks.0.gamma_1", "fusion.norm.weight", "vision.blocks.0.gamma_1", "lff.no_box"].map(scale), [0.1, 0.2, 0.25, 1]);
  });

  it("moves a parameter as a smaller learning rate does, alone and with others, to the same bits", async () => {
    const start = [0.5, -1, 2], gradients = [0.25, -0.5, 0.125], scales: Record<string, number> = { a: 1, b: 0.1, c: 0.25, d: 0.1 };
    const moved = async (name: string, how: "alone" | "together" | "slower"): Promise<Float64Array> => {
      const optimizer = adamw({ learningScale: how === "slower" ? undefined : (each) => scales[each] });
      const names = how === "together" ? Object.keys(scales) : [name], parameters = names.map((each) => parameterOf(start, [3], each)), gradient = fromArray(Float64Array.from(gradients), [3]);
      const o = { step: 1, learningRate: how === "slower" ? 0.01 * scales[name] : 0.01, gradScale: 0.5 };
      const numbers = updateNumbers(o);
      if (how === "together") optimizer.stepMany(parameters.map((parameter) => [parameter, gradient] as const), numbers);
      else optimizer.step(parameters[0], gradient, o);
      const values = await parameters[names.indexOf(name)].value.read() as Float64Array;
      for (const owner of [gradient, numbers, optimizer]) owner.dispose();
      for (const parameter of parameters) parameter.release();
      return values;
    };
    for (const name of Object.keys(scales)) {
      const alone = await moved(name, "alone");
      assert.deepEqual(alone, await moved(name, "slower"), name);
      assert.deepEqual(alone, await moved(name, "together"), name);
    }
    assert.notDeepEqual(await moved("a", "alone"), await moved("b", "alone"));
  });
});

describe("clipping", () => {
  noLeaks();

  it("adds squares in name order, so that the order of arrival does not change the bits", () => {
    const squares: [string, number][] = [["b", 1e16], ["a", 1], ["d", 3], ["c", 2.5]];
    const norm = globalNorm(squares);
    assert.equal(norm, Math.sqrt(((1 + 1e16) + 2.5) + 3));
    assert.equal(globalNorm([...squares].reverse()), norm);
  });

  it("scales to the limit only what is above it", () => {
    assert.equal(clipScale(0.5, 1), 1);
    assert.equal(clipScale(4, 1), 1 / (4 + 1e-6));
  });

  it("sums the squares of every gradient into one f64 tensor", () => withScope(async (scope) => {
    const [a, b, into] = scope.enter(() => {
      const a = randn([3, 5], { seed: 1, dtype: "f32" }), b = randn([7], { seed: 2, dtype: "f32" }), into = zeros([2], "f64");
      sumSquares([a, b], into);
      return [a, b, into];
    });
    const expected = await Promise.all([a, b].map(async (t) => (await t.read() as Float32Array).reduce((total, x) => total + x * x, 0)));
    assertClose(await into.read(), expected, 1e-12);
  }));
});

describe("sumSquares of many", () => {
  noLeaks();
  it("gives the bits of a call for each, whatever their number and dtypes", () => withScope(async (scope) => {
    const count = 600, [together, alone] = scope.enter(() => {
      const gradients = Array.from({ length: count }, (_, i) => randn([i % 7, 1 + (i % 5)], { seed: i, dtype: i % 100 === 99 ? "f64" : "f32" }));
      gradients.push(randn([300_000], { seed: count, dtype: "f32" }));
      const [many, each] = [zeros([count + 1], "f64"), gradients.map(() => zeros([1], "f64"))];
      sumSquares(gradients, many);
      gradients.forEach((gradient, i) => sumSquares([gradient], each[i]));
      return [many, each];
    });
    const singles = await Promise.all((alone as Tensor[]).map((tensor) => tensor.item()));
    assert.deepEqual([...await (together as Tensor).read() as Float64Array], singles);
    assert.ok(singles[count] > 250_000, "the sum of the large one");
  }));
});

describe("many parameters at once", () => {
  noLeaks();
  const shapes = [[2, 3], [1], [4], [0], [2, 2], [5], [3]];
  const o = { step: 1, learningRate: 0.1, gradScale: 0.5 };

  const parameters = (dtypeOf: (i: number) => "f32" | "f64"): Parameter[] => shapes.map((shape, i) => {
    const parameter = new Parameter(shape, { kind: "zeros" }, { decay: i % 2 === 0 });
    parameter.name = `p${i}`;
    parameter.set(randn(shape, { seed: i, dtype: dtypeOf(i) }));
    return parameter;
  });
  /** Values and states after two updates with fixed gradients. */
  async function after(optimizer: Optimizer, together: boolean): Promise<number[][]> {
    const all = parameters((i) => (i === 2 ? "f64" : "f32"));
    for (const step of [1, 2]) await withScope(async (scope) => scope.enter(() => {
      const moved = all.map((parameter, i) => [parameter, randn(parameter.shape, { seed: 10 * step + i, dtype: parameter.value.dtype as "f32" })] as const);
      if (together) optimizer.stepMany(moved, updateNumbers({ ...o, step }));
      else for (const [parameter, gradient] of moved) optimizer.step(parameter, gradient, { ...o, step });
    }));
    const tensors = all.flatMap((parameter) => [parameter.value, ...Object.values(optimizer.state(parameter))]);
    const values = await Promise.all(tensors.map(async (tensor) => [...await tensor.read() as Float64Array]));
    optimizer.dispose();
    all.forEach((parameter) => parameter.release());
    return values;
  }

  for (const [name, make] of [["adamw", () => adamw({ weightDecay: 0.1 })], ["adamw with rates", () => adamw({ learningScale: (each) => (each > "p3" ? 0.1 : 1) })], ["sgd", () => sgd({ momentum: 0.8, weightDecay: 0.1 })]] as const) {
    it(`${name}: stepMany gives the bits of step for each, whatever their dtype and decay`, async () => {
      assert.deepEqual(await after(make(), true), await after(make(), false));
    });
  }

  it("sgd gathers momentum and spares what does not decay; its state can be loaded", async () => {
    const parameter = parameterOf([1], [1], "w"), optimizer = sgd({ momentum: 0.9, weightDecay: 0.5 });
    optimizer.load(parameter, { m: [2] });
    await withScope(async (scope) => scope.enter(() => optimizer.step(parameter, f64([4]), o)));
    assertClose(await parameter.value.read(), [0.95 - 0.1 * (0.9 * 2 + 0.5 * 4)], 1e-12);
    assertClose(await optimizer.state(parameter).m.read(), [3.8], 1e-12);
    assert.throws(() => optimizer.load(parameter, {}), code("ERR_CHECKPOINT", /optimizer state m of w is missing/));
    optimizer.dispose();
    parameter.release();
  });

  it("ema starts at the parameters, follows them slowly, and keeps one average each", async () => {
    const all = parameters(() => "f64"), averages = ema(0.75);
    assert.throws(() => averages.average(all[0]), code("ERR_INPUT", /p0 has no average yet/));
    averages.update(all);
    const before = await all[0].value.read();
    assertClose(await averages.average(all[0]).read(), before as Float64Array, 1e-15);
    all[0].value.write(new Float64Array(6));
    averages.update(all);
    assertClose(await averages.average(all[0]).read(), (before as Float64Array).map((v) => 0.75 * v), 1e-15);
    assert.throws(() => ema(1.5), code("ERR_INPUT", /decay expected in \[0, 1\], got 1.5/));
    averages.dispose();
    all.forEach((parameter) => parameter.release());
  });
});
