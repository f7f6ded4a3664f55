import assert from "node:assert/strict";
import { Tape } from "../../../runtime/autograd/index.ts";
import { native } from "../../../runtime/native.ts";
import * as nn from "../../../runtime/nn/index.ts";
import * as ops from "../../../runtime/ops/index.ts";
import { adamw } from "../../../runtime/optimizer/index.ts";
import { type HostArray, Scope, configureDevice, fence, fromArray, full, memory } from "../../../runtime/tensor/index.ts";
import { flags, ids, noLeaks, randn } from "../numbers.ts";

/** One block of each family at the tiny preset's width, in f32, and a loss over all. */
function model() {
  const width = 96, heads = 4;
  const beit = nn.beitBlock({ width, heads, layerScale: 0.1, index: 1 });
  const llama = nn.llamaLayer({ width, heads, kvHeads: 2, headDim: 24, hidden: 256 });
  const multiway = nn.multiwayBlock({ width, heads, experts: "image-text" });
  const bert = nn.bertLayer({ width, heads });
  const table = nn.relativeBiasTable([4, 4], heads), words = nn.embedding({ count: 50, width }), head = nn.linear({ in: width, out: 50 });
  const parameters = nn.collect({ beit, llama, multiway, bert, table, words, head });
  const forward = () => {
    const image = beit.forward(randn([3, 17, width], { seed: 1, dtype: "f32" }), { biasTable: table.value, grid: [4, 4] });
    const tokens = Array.from({ length: 39 }, (_, i) => (i * 7) % 50);
    const text = llama.forward(words.forward(ids(tokens, [3, 13])), {
      positions: ids(tokens.map((_, i) => i % 13), [3, 13]), invFreq: fromArray(nn.ropeFrequencies({ headDim: 24, theta: 1e4 }), [12]), causal: false,
    });
    const keyMask = flags(Array.from({ length: 90 }, (_, i) => Number(i % 30 < 25)), [3, 30]);
    const memory = bert.forward(multiway.forward(ops.concat([image, text], 1), { imageTokens: 17, keyMask }), { keyMask });
    return ops.crossEntropy(head.forward(memory), ids(Array.from({ length: 90 }, (_, i) => (i % 3 ? -100 : i % 50)), [3, 30]), { weight: 1 / 30 });
  };
  return { parameters, forward };
}

/** Trains for some steps; the losses, the first step's gradients by name, and bytes in use after every step. */
async function train(steps: number): Promise<{ losses: number[]; gradients: Map<string, HostArray>; bytes: number[] }> {
  const { parameters, forward } = model();
  nn.materialise(parameters, { seed: 3, prefix: "" });
  const optimizer = adamw({ betas: [0.9, 0.98], weightDecay: 0.05 });
  const losses: number[] = [], bytes: number[] = [], gradients = new Map<string, HostArray>();
  for (let step = 1; step <= steps; step++) {
    const scope = new Scope(`step ${step}`);
    const [loss, byName] = scope.enter(() => {
      const tape = new Tape();
      const loss = tape.record(forward);
      const found = tape.backward([[loss, full([1], 1)]]);
      const byName = Object.entries(parameters).map(([name, p]) => [name, found.get(p.value)!] as const);
      return [loss, byName];
    });
    if (step === 1) for (const [name, gradient] of byName) gradients.set(name, await gradient.read());
    losses.push(await loss.item());
    scope.enter(() => byName.forEach(([name, gradient]) => optimizer.step(parameters[name], gradient, { step, learningRate: 1e-3, gradScale: 1 })));
    scope.close();
    await fence();
    bytes.push(memory().bytesInUse);
  }
  optimizer.dispose();
  nn.release(parameters);
  return { losses, gradients, bytes };
}

describe("a small training run", () => {
  noLeaks();
  const { threads } = native().info();
  afterEach(async () => {
    await fence();
    configureDevice({ threads, kernels: "fast" });
  });

  it("gives the same bits with 1, 2 and 4 threads, and again", async () => {
    const runs = [];
    for (const count of [1, 2, 4, 1]) {
      await fence();
      configureDevice({ threads: count });
      runs.push(await train(3));
    }
    for (const [i, run] of runs.entries()) {
      assert.deepEqual(run.losses, runs[0].losses, `losses of run ${i}`);
      for (const [name, gradient] of runs[0].gradients) assert.deepEqual(run.gradients.get(name), gradient, `gradient of ${name} in run ${i}`);
    }
  });

  it("has a gradient for every parameter, a falling loss and steady memory", async () => {
    const { losses, gradients, bytes } = await train(12);
    for (const [name, gradient] of gradients) {
      const zero = gradient.every((g: number | bigint) => g === 0);
      assert.equal(zero, name === "bert.attention.self.key.bias", name);
    }
    assert.ok(losses[11] < 0.8 * losses[0], `loss went from ${losses[0]} to ${losses[11]}`);
    assert.deepEqual(new Set(bytes).size, 1, `bytes in use after each step: ${bytes.join(", ")}`);
  });

  it("gives the losses of the plain kernels, to rounding", async () => {
    const fast = await train(2);
    await fence();
    configureDevice({ kernels: "reference" });
    const plain = await train(2);
    fast.losses.forEach((loss, i) => assert.ok(Math.abs(loss - plain.losses[i]) < 1e-4 * Math.abs(loss), `step ${i}: fast ${loss}, plain ${plain.losses[i]}`));
  });
});
