import assert from "node:assert/strict";
import { join } from "node:path";
import { builtins } from "../../../plugins/index.ts";
import { checkRecipe, createRegistry, loadRecipe, train, type RunEvent } from "../../../runtime/index.ts";
import { root, temporaryFolder } from "../../process/octavo.ts";

describe("masked image modelling over the codes of a visual tokenizer", function () {
  this.timeout(60_000);
  const folder = temporaryFolder();
  after(() => folder.remove());
  const registry = createRegistry(builtins);
  const load = (...overrides: string[]) => loadRecipe(join(root, "test/recipes/mini-codes.yaml"), overrides);

  it("passes the check: codes are wired without a gradient, the tokenizer trains nothing", async () => {
    const { objectives, plan, warnings } = await checkRecipe(load(), registry);
    assert.deepEqual(objectives, ["mlm", "mim"]);
    assert.deepEqual(warnings, []);
    const image = plan.stages.find(({ name }) => name === "image")!;
    assert.equal(image.parameters - image.trainable, 162_704 - 49_920, "the tiny tokenizer with one of its two blocks");
  });

  it("refuses to regress codes, naming the ports", async () => {
    const wrong = load("components.mim={use: objective/mim-teacher, in: {memory: fusion.memory, targets: words.codes, mim_index: pages.mim_index}}");
    await assert.rejects(checkRecipe(wrong, registry), { code: "ERR_RECIPE", message: /words\.codes/ });
  });

  it("trains: a head that knows nothing yet costs about ln 256 per masked patch, and less after a step", async () => {
    const steps: Extract<RunEvent, { event: "step" }>[] = [];
    await train(load(), { runFolder: folder.path, registry, inProcess: true, threads: 1,
      onEvent: (event) => { if (event.event === "step") steps.push(event); } });
    const costs = steps.map(({ losses }) => losses.mim);
    assert.equal(costs.length, 4);
    // Fresh logits have a deviation of 0.02 sqrt(96) = 0.2 over normalised states, and most patches share few codes: two deviations.
    assert.ok(Math.abs(costs[0] - Math.log(256)) < 0.4, `the first step costs ${costs[0]}`);
    assert.ok(costs[1] < costs[0] && costs[3] < costs[1], `costs ${costs}`);
  });
});
