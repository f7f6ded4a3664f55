import assert from "node:assert/strict";
import { z } from "zod";
import { builtins } from "../../../plugins/index.ts";
import { Compiled, type Precision, createRegistry, definePlugin, fence, loadRecipe, memory, train } from "../../../runtime/index.ts";
import { checkFile } from "../../../runtime/pipeline/plan/check.ts";
import { type StageModel, loadStageModel } from "../../../runtime/pipeline/run/model.ts";
import type { HostBatch, RunEvent, TensorComponent } from "../../../runtime/plugin/index.ts";
import { sgd } from "../../../runtime/optimizer/index.ts";
import { compiledStep } from "../../../runtime/trainer/compiled-step.ts";
import { type StepInput, type StepResult, trainStep } from "../../../runtime/trainer/step.ts";
import { miniRecipe, temporaryFolder } from "../../process/octavo.ts";
import { noLeaks } from "../numbers.ts";

/** A model of the recipe, and batches of its loader: 0 and 1 of 4 pages in 2 microbatches, 2 of 2 pages in 1. */
async function open(recipe: string, changes: string[], precision: Precision): Promise<{ model: StageModel; batches: HostBatch[] }> {
  const model = await loadStageModel(await checkFile(recipe, createRegistry(builtins), changes), { seed: 1, precision });
  const of = (step: number, batch: number, microbatches: number) => model.loader!.batch({ step, seed: 1, batch, microbatches });
  return { model, batches: [await of(0, 4, 2), await of(1, 4, 2), await of(2, 2, 1)] };
}

interface Steps { recipe?: string; changes?: string[]; change?: (model: StageModel) => void; precision?: Precision; clip?: number }

/** The results of steps on the batches of these numbers, each with other sample ids, and the parameters' bits afterwards. */
async function steps(numbers: readonly number[], take: (input: StepInput) => Promise<StepResult>, { recipe = miniRecipe, changes = [], change, precision = "f32", clip = 1 }: Steps = {}): Promise<{ results: StepResult[]; values: Map<string, number[]> }> {
  const { model, batches } = await open(recipe, changes, precision);
  try {
    change?.(model);
    const results: StepResult[] = [], values = new Map<string, number[]>();
    for (const [step, number] of numbers.entries()) {
      const input = { graph: model.graph, parameters: model.parameters, optimizer: model.optimizer, clip, seed: 1, precision };
      const microbatches = batches[number].microbatches.map((microbatch) => ({ ...microbatch, sampleIds: microbatch.sampleIds.map((id) => id + 100 * step) }));
      results.push(await take({ ...input, batch: { ...batches[number], microbatches, step }, learningRate: 1e-3 * (step + 1) }));
    }
    for (const [name, parameter] of Object.entries(model.parameters)) values.set(name, [...await parameter.value.read()].map(Number));
    return { results, values };
  } finally {
    await model.close();
  }
}

describe("the compiled training step", function () {
  this.timeout(240_000);
  noLeaks();

  for (const precision of ["f32", "bf16"] as const) {
    it(`gives the bits of trainStep in ${precision}, recorded, replayed and after changes of shape`, async () => {
      const numbers = [0, 0, 0, 0, 1, 0, 2, 1, 2, 1, 2, 1, 2, 0], compiled = new Compiled("the step");
      const wanted = await steps(numbers, trainStep, { precision }), got = await steps(numbers, (input) => compiledStep(compiled, input), { precision });
      assert.deepEqual(got.results, wanted.results);
      assert.equal(got.values.size, wanted.values.size);
      for (const [name, values] of wanted.values) assert.deepEqual(got.values.get(name), values, name);
      const { recorded, replayed, eager, refused } = compiled.statistics;
      assert.deepEqual({ recorded, replayed, eager, refused }, { recorded: 6, replayed: 5, eager: 3, refused: [] });
      compiled.clear();
    });
  }

  for (const clip of [0, 1e6]) {
    it(`gives the bits of trainStep where a limit of ${clip} clips nothing`, async () => {
      const compiled = new Compiled("the step"), numbers = [2, 2, 2, 2, 2];
      assert.deepEqual(await steps(numbers, (input) => compiledStep(compiled, input), { clip }), await steps(numbers, trainStep, { clip }));
      assert.equal(compiled.statistics.replayed, 2);
      compiled.clear();
    });
  }

  it("is replayed with dropped branches: each step and sample draws its own, to the bits of trainStep", async () => {
    const compiled = new Compiled("the step"), numbers = [0, 0, 0, 0, 0, 0], recipe = "test/recipes/mini-mim.yaml";
    const given = (rate: number): Steps => ({ recipe, changes: [`components.image.options.drop_path=${rate}`] });
    const wanted = await steps(numbers, trainStep, given(0.6)), got = await steps(numbers, (input) => compiledStep(compiled, input), given(0.6));
    assert.deepEqual(compiled.statistics, { recorded: 2, replayed: 3, eager: 1, refused: [] });
    assert.deepEqual(got, wanted);
    assert.notDeepEqual(wanted.results, (await steps(numbers, trainStep, given(0))).results);
    compiled.clear();
  });

  it("is replayed with dropout of attention and adapters, in both passes of a sentence, to the bits of trainStep", async () => {
    const compiled = new Compiled("the step"), numbers = [2, 2, 2, 2, 2], recipe = "test/recipes/mini-simcse.yaml";
    const given = (rate: number): Steps => ({ recipe, changes: [`components.text.options.attention_dropout=${rate}`] });
    const wanted = await steps(numbers, trainStep, given(0.3)), got = await steps(numbers, (input) => compiledStep(compiled, input), given(0.3));
    assert.deepEqual(compiled.statistics, { recorded: 2, replayed: 2, eager: 1, refused: [] });
    assert.deepEqual(got, wanted);
    assert.notDeepEqual(wanted.results, (await steps(numbers, trainStep, given(0.1))).results);
    compiled.clear();
  });

  it("does not grow over replays", async () => {
    const compiled = new Compiled("the step"), seen: string[] = [];
    await steps(Array<number>(20).fill(2), async (input) => {
      const result = await compiledStep(compiled, input);
      await fence();
      const { bytesInUse, tensors } = memory();
      seen.push(`${bytesInUse} bytes, ${tensors} tensors`);
      return result;
    });
    assert.equal(compiled.statistics.replayed, 17);
    assert.deepEqual(new Set(seen), new Set([seen[0]]));
    compiled.clear();
  });

  it("stays eager, and says why, when a component asks for the number of the step", async () => {
    const reasons: string[] = [], compiled = new Compiled("the step", { onRefused: (reason) => reasons.push(reason) });
    const curious = (model: StageModel) => {
      const component = model.nodes.find((node) => node.kind === "fusion")!.component as TensorComponent, { forward } = component;
      component.forward = (inputs, context) => forward(inputs, { ...context, counts: { ...context.counts, step: context.step } });
    };
    const numbers = [2, 2, 2, 2], wanted = await steps(numbers, trainStep);
    const got = await steps(numbers, (input) => compiledStep(compiled, input), { change: curious });
    assert.deepEqual(got.results, wanted.results);
    assert.deepEqual(reasons.length, 1);
    assert.match(reasons[0], /the step is not compiled: a component asks its context for (step|sampleIds), which changes/);
    assert.deepEqual(compiled.statistics.replayed, 0);
  });

  it("stays eager, and says why, with an optimizer that moves parameters one by one", async () => {
    const folder = temporaryFolder(), warnings: string[] = [];
    const single = definePlugin({
      kind: "optimizer", name: "single", version: "1.0.0", options: z.strictObject({}),
      create: () => ({ create: () => ({ ...sgd(), stepMany: undefined }), learningRate: () => 1e-3 }),
    });
    const recipe = loadRecipe(miniRecipe, ["train.steps=1", "train.batch=2", "train.microbatches=1", "train.optimizer={ use: optimizer/single }"]);
    const { stats } = await train(recipe, { runFolder: folder.path, registry: createRegistry([...builtins, single]), inProcess: true, threads: 2,
      onEvent: (event) => void (event.event === "warning" && warnings.push(event.message)) }).finally(() => folder.remove());
    assert.equal(stats["in-process"].compiled, undefined);
    assert.ok(warnings.includes("The training step is not compiled: the optimizer has no stepMany. It runs uncompiled."), warnings.join("; "));
  });

  it("is what `train` takes in one process, and can be switched off", async () => {
    const run = async (compile: string) => {
      const folder = temporaryFolder();
      const events: RunEvent[] = [];
      const recipe = loadRecipe(miniRecipe, ["train.steps=3", "train.batch=2", "train.microbatches=1", `train.compile=${compile}`]);
      const { losses } = await train(recipe, { runFolder: folder.path, registry: createRegistry(builtins), inProcess: true, threads: 2, onEvent: (event) => events.push(event) }).finally(() => folder.remove());
      const stats = events.find((event) => event.event === "stats")!.stages["in-process"].compiled;
      return { losses, stats };
    };
    const auto = await run("auto"), off = await run("off");
    assert.deepEqual(auto.losses, off.losses);
    assert.equal(auto.stats!.recorded + auto.stats!.replayed + auto.stats!.eager, 3);
    assert.equal(off.stats, undefined);
  });
});
