import assert from "node:assert/strict";
import { builtins } from "../../../plugins/index.ts";
import { Compiled, type Precision, createRegistry, fence, memory, resetPeak } from "../../../runtime/index.ts";
import { checkFile } from "../../../runtime/pipeline/plan/check.ts";
import { loadStageModel } from "../../../runtime/pipeline/run/model.ts";
import { compiledStep } from "../../../runtime/trainer/compiled-step.ts";
import { type StepInput, type StepResult, trainStep } from "../../../runtime/trainer/step.ts";
import { miniRecipe } from "../../process/octavo.ts";
import { noLeaks } from "../numbers.ts";

interface Outcome { results: StepResult[]; values: Map<string, number[]>; peak: number }

/** Steps on the loader's batches: results, the bits of the parameters afterwards, and the most bytes that a step held beside the model. */
async function steps(recipe: string, changes: string[], { count = 2, precision = "f32", take = trainStep }: { count?: number; precision?: Precision; take?: (input: StepInput) => Promise<StepResult> } = {}): Promise<Outcome> {
  const model = await loadStageModel(await checkFile(recipe, createRegistry(builtins), changes), { seed: 1, precision });
  try {
    const results: StepResult[] = [], values = new Map<string, number[]>();
    let peak = 0;
    for (let step = 0; step < count; step++) {
      const batch = { ...await model.loader!.batch({ step: 0, seed: 1, batch: 2, microbatches: 1 }), step };
      await fence();
      resetPeak();
      const before = memory().bytesInUse;
      results.push(await take({ graph: model.graph, parameters: model.parameters, optimizer: model.optimizer, batch, learningRate: 1e-3, clip: 1, seed: 1, precision }));
      peak = memory().bytesPeak - before;
    }
    for (const [name, parameter] of Object.entries(model.parameters)) values.set(name, [...await parameter.value.read()].map(Number));
    return { results, values, peak };
  } finally {
    await model.close();
  }
}

describe("train.recompute: block", function () {
  this.timeout(120_000);
  noLeaks();

  const worlds: Record<string, [recipe: string, changes: string[], precision?: Precision]> = {
    "the joint recipe": [miniRecipe, ["components.image.options.layers=2", "components.text.options.layers=2"]],
    "the joint recipe in bf16": [miniRecipe, [], "bf16"],
    "drop path and a second branch": ["test/recipes/mini-mim.yaml", ["components.image.options.drop_path=0.5", "components.image.options.layers=2"]],
    "two passes with dropout of attention": ["test/recipes/mini-simcse.yaml", ["components.text.options.attention_dropout=0.3"]],
    "a long text in shifted groups, with adapters": ["test/recipes/mini-long-text.yaml", []],
    "a decoder that answers": ["test/recipes/mini-answer.yaml", []],
    "a codebook that learns": ["test/recipes/mini-vq-kd.yaml", []],
    "modalities that ask each other": [miniRecipe, ["components.fusion={ use: fusion/co-attention, options: { layers: 2 }, in: { image: image.states, text: text.states, text_mask: pages.text_mask, image_position: position.image, text_position: position.text } }"]],
  };
  for (const [name, [recipe, changes, precision]] of Object.entries(worlds)) {
    it(`gives the bits of training without it: ${name}`, async () => {
      const [plain, again] = [await steps(recipe, changes, { precision }), await steps(recipe, [...changes, "train.recompute=block"], { precision })];
      assert.deepEqual(again.results, plain.results);
      assert.deepEqual(again.values, plain.values);
      assert.notDeepEqual(again.results[0], again.results[1]);
    });
  }

  it("is compiled and replayed, to the same bits", async () => {
    const compiled = new Compiled("the step"), changes = ["components.image.options.layers=2"];
    const wanted = await steps(miniRecipe, changes, { count: 5 });
    const got = await steps(miniRecipe, [...changes, "train.recompute=block"], { count: 5, take: (input) => compiledStep(compiled, input) });
    assert.deepEqual([got.results, got.values], [wanted.results, wanted.values]);
    assert.deepEqual(compiled.statistics, { recorded: 2, replayed: 2, eager: 1, refused: [] });
    compiled.clear();
  });

  it("holds less memory: of eight blocks the inputs, and one block at a time", async () => {
    const deep = ["components.image.options.layers=8", "components.text.options.layers=8", "components.fusion.options.layers=8"];
    const plain = await steps(miniRecipe, deep), again = await steps(miniRecipe, [...deep, "train.recompute=block"]);
    assert.deepEqual(again.results, plain.results);
    assert.ok(again.peak < 0.6 * plain.peak, `${again.peak} bytes at most, ${plain.peak} without`);
  });
});
