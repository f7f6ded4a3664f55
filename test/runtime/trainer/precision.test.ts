import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { builtins } from "../../../plugins/index.ts";
import {
  type Precision, type RunEvent, type RunResult, type Tensor, answer, checkRecipe, chooseAnswer, createRegistry, createRunFolder, evaluate, fastBf16, fence, loadRecipe, memory, readManifest, train,
} from "../../../runtime/index.ts";
import { MicrobatchPass } from "../../../runtime/pipeline/run/microbatch.ts";
import { loadStageModel } from "../../../runtime/pipeline/run/model.ts";
import { miniRecipe, root, temporaryFolder } from "../../process/octavo.ts";

/** bf16 is a way to store activations: training in it must go where training in f32 goes. */
describe("training in bf16", function () {
  this.timeout(240_000);
  const folder = temporaryFolder(), registry = createRegistry(builtins);
  after(() => folder.remove());

  async function run(overrides: readonly string[], { recipe = miniRecipe, ...o }: { recipe?: string; threads?: number; resume?: string } = {}): Promise<RunResult & { events: RunEvent[] }> {
    const events: RunEvent[] = [];
    const result = await train(loadRecipe(recipe, overrides), {
      runFolder: createRunFolder(folder.path, "bf16", new Date()).path, registry, inProcess: true, threads: 2, onEvent: (event) => events.push(event), ...o,
    });
    return { ...result, events };
  }
  const startOf = ({ events }: { events: RunEvent[] }): Extract<RunEvent, { event: "start" }> => events.find((event) => event.event === "start")!;
  const precisionIn = (recipe: string): string | undefined => loadRecipe(recipe).train.precision;

  /** One microbatch forward and back from the same start: scalars, gradients by name, and the bytes it held after forward. */
  async function microbatch(recipe: string, precision: Precision): Promise<{ scalars: Record<string, number>; gradients: Map<string, Float32Array>; bytes: number; dtypes: Set<string> }> {
    const checked = await checkRecipe(loadRecipe(recipe), registry);
    const model = await loadStageModel(checked, { seed: 5, threads: 2, precision });
    const { counts, microbatches: [data] } = await model.loader!.batch({ step: 0, seed: 5, batch: 4, microbatches: 1 });
    const before = memory().bytesInUse;
    const pass = new MicrobatchPass(model.graph, model.nodes, { training: true, step: 0, seed: 5, counts, precision, sampleIds: data.sampleIds }, "microbatch");
    try {
      pass.forward({}, data);
      const bytes = memory().bytesInUse - before;
      const { parameters } = pass.backward({});
      const read = async ([name, tensor]: readonly [string, Tensor]) => [name, await tensor.read() as Float32Array] as const;
      return {
        scalars: Object.fromEntries(await Promise.all(pass.scalars().map(async ([name, tensor]) => [name, await tensor.item()] as const))),
        gradients: new Map(await Promise.all([...parameters].map(read))), bytes, dtypes: new Set([...parameters.values()].map(({ dtype }) => dtype)),
      };
    } finally {
      pass.close();
      await model.close();
      await fence();
    }
  }

  it("one microbatch: losses within 1 %, gradients in f32 that point the same way, and less than 0.6 of the memory", async () => {
    const tiny = join(root, "examples/tiny.yaml");
    const [wide, narrow] = [await microbatch(tiny, "f32"), await microbatch(tiny, "bf16")];
    for (const [name, loss] of Object.entries(wide.scalars)) {
      assert.ok(Math.abs(narrow.scalars[name] - loss) <= 0.01 * loss, `${name}: ${narrow.scalars[name]} beside ${loss}`);
    }
    assert.deepEqual([...narrow.dtypes], ["f32"]);
    assert.deepEqual([...narrow.gradients.keys()], [...wide.gradients.keys()]);
    const norms = [...wide.gradients.values()].map(norm), floor = 1e-4 * Math.hypot(...norms);
    let compared = 0;
    for (const [name, gradient] of wide.gradients) {
      if (norm(gradient) < floor) continue;
      const cosine = dot(gradient, narrow.gradients.get(name)!) / (norm(gradient) * norm(narrow.gradients.get(name)!));
      assert.ok(cosine > 0.99, `${name}: cosine ${cosine}, norm ${norm(gradient)}`);
      compared++;
    }
    assert.ok(compared > 0.8 * wide.gradients.size, `${compared} of ${wide.gradients.size} gradients are large enough to have a direction`);
    assert.ok(narrow.bytes < 0.6 * wide.bytes, `${narrow.bytes} bytes beside ${wide.bytes}`);
  });

  it("20 steps: every loss within 2 % of f32, and as far down", async () => {
    const [wide, narrow] = [await run(["train.steps=20"]), await run(["train.steps=20", "train.precision=bf16"])];
    wide.losses.forEach((loss, step) => assert.ok(Math.abs(narrow.losses[step] - loss) <= 0.02 * loss, `step ${step}: ${narrow.losses[step]} beside ${loss}`));
    assert.notDeepEqual(narrow.losses, wide.losses, "bf16 computed something of its own");
    assert.ok(narrow.losses.at(-1)! < 0.8 * narrow.losses[0]);
  });

  it("gives the same bits with 1, 2 and 4 threads", async () => {
    const runs = [];
    for (const threads of [1, 2, 4]) runs.push((await run(["train.steps=3", "train.precision=bf16"], { threads })).losses);
    assert.equal(new Set(runs[0]).size, 3);
    assert.deepEqual(runs[1], runs[0]);
    assert.deepEqual(runs[2], runs[0]);
  });

  it("writes the checkpoint that f32 writes: the same names, shapes, dtypes and sizes", async () => {
    const [wide, narrow] = [await run(["train.steps=2"]), await run(["train.steps=2", "train.precision=bf16"])];
    assert.deepEqual(readManifest(narrow.checkpoint!).tensors, readManifest(wide.checkpoint!).tensors);
    const [a, b] = [wide, narrow].map(({ checkpoint }) => readFileSync(join(checkpoint!, "model.safetensors")));
    assert.equal(b.length, a.length);
    assert.notEqual(Buffer.compare(a, b), 0);
  });

  it("held-out losses are those of f32 within 1 %, in the precision of the checkpoint or another", async () => {
    const { checkpoint } = await run(["train.steps=2", "train.precision=bf16"]);
    const [narrow, wide] = [await evaluate(checkpoint!, { registry, limit: 4 }), await evaluate(checkpoint!, { registry, limit: 4, set: ["train.precision=f32"] })];
    for (const [name, loss] of Object.entries(wide.losses).filter(([name]) => !name.includes("."))) {
      assert.ok(Math.abs(narrow.losses[name] - loss) <= 0.01 * loss, `${name}: ${narrow.losses[name]} beside ${loss}`);
      assert.notEqual(narrow.losses[name], loss);
    }
  });

  it("a model fine-tuned in bf16 answers, and so it does in f32", async () => {
    const { checkpoint } = await run(["train.steps=1", "train.batch=2", "train.microbatches=1", "train.precision=bf16"], { recipe: join(root, "examples/demo/fine-tune.yaml") });
    const page = join(root, "examples/data/pages/X00016469623.jpg"), asked = "What is the total?";
    const [narrow, wide] = await Promise.all([[], ["train.precision=f32"]].map(async (set) => {
      const written = await answer(checkpoint!, page, asked, { registry, maxTokens: 6, set });
      const { choices } = await chooseAnswer(checkpoint!, page, asked, [...new Set(["9.00", "TOTAL", written.text].filter(Boolean))], { registry, set });
      return { written, values: new Map(choices.map((choice) => [choice.answer, choice.logProbability])) };
    }));
    assert.ok(narrow.written.logProbability < 0 && narrow.written.tokens <= 6);
    for (const choice of ["9.00", "TOTAL"]) {
      const [a, b] = [narrow.values.get(choice)!, wide.values.get(choice)!];
      assert.ok(b < 0 && Math.abs(a - b) <= 0.02 * Math.abs(b), `${choice}: log-probability ${a} in bf16, ${b} in f32`);
      assert.notEqual(a, b, "bf16 computed something of its own");
    }
  });

  it("auto takes what this machine is good at, and the run says and keeps what it took", async () => {
    const auto = await run(["train.steps=1", "train.precision=auto"]), expected = fastBf16() ? "bf16" : "f32";
    assert.equal(startOf(auto).precision, expected);
    assert.deepEqual([join(auto.runFolder, "recipe.yaml"), join(auto.checkpoint!, "recipe.yaml")].map(precisionIn), [expected, expected]);
    assert.deepEqual(auto.losses, (await run(["train.steps=1", `train.precision=${expected}`])).losses);
  });

  it("a run resumed with auto goes on in its own precision, to the losses it would have had", async () => {
    for (const precision of ["f32", "bf16"]) {
      const whole = await run(["train.steps=4", `train.precision=${precision}`]);
      const resumed = await run(["train.steps=4", "train.precision=auto"], { resume: join(whole.runFolder, "checkpoints", "step-2") });
      assert.equal(startOf(resumed).precision, precision);
      assert.deepEqual(resumed.losses, whole.losses.slice(2));
    }
  });
});

const dot = (a: Float32Array, b: Float32Array): number => a.reduce((sum, value, i) => sum + value * b[i], 0);
const norm = (a: Float32Array): number => Math.sqrt(dot(a, a));
