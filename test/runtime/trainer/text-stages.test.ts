/** The stages that teach the text encoder: longer contexts (LongLoRA), both directions (MNTP), sentences (SimCSE). */
import assert from "node:assert/strict";
import { checkRecipe, evaluate, openCheckpoint, openTrained, RecipeError, type RunResult } from "../../../runtime/index.ts";
import { miniRecipe, miniRuns, registry } from "./mini-run.ts";

describe("the text stages", function () {
  this.timeout(120_000);
  const { run, remove } = miniRuns();
  after(remove);
  /** Which parameters of the checkpoint differ from another's, by name. */
  const moved = (before: RunResult, after: RunResult): string[] => {
    const [a, b] = [openCheckpoint(before.checkpoint!), openCheckpoint(after.checkpoint!)];
    try {
      return b.manifest.tensors.filter(({ role, name }) => role === "parameter" && String(Array.from(b.parameter(name)!)) !== String(Array.from(a.parameter(name) ?? []))).map(({ name }) => name);
    } finally {
      a.close(), b.close();
    }
  };

  it("long contexts: the loss falls while adapters, table and norms alone move", async () => {
    const first = await run("mini-long-text", "train.steps=1"), { steps, result } = await run("mini-long-text");
    assert.ok(steps[7].losses.lm < steps[0].losses.lm - 0.1, `losses ${steps.map(({ losses }) => losses.lm)}`);
    assert.ok(moved(first.result, result).length > 0);
    for (const name of moved(first.result, result)) assert.match(name, /lora_|embed|norm/);
  });

  it("the same losses to rounding in one microbatch or four: tokens are counted over the batch", async () => {
    for (const name of ["mini-long-text", "mini-mntp"]) {
      const [one, four] = [await run(name, "train.steps=3", "train.microbatches=1"), await run(name, "train.steps=3", "train.microbatches=4")];
      one.steps.forEach(({ loss }, i) => assert.ok(Math.abs(loss - four.steps[i].loss) < 2e-5 * loss, `${name}, step ${i}: ${loss} and ${four.steps[i].loss}`));
    }
  });

  it("hidden tokens: the loss falls, and held-out accuracy stands beside its unigram baseline", async () => {
    const { steps, result } = await run("mini-mntp");
    assert.ok(steps[7].losses.mntp < steps[0].losses.mntp - 0.1, `losses ${steps.map(({ losses }) => losses.mntp)}`);
    const { losses } = await evaluate(result.checkpoint!, { registry, limit: 8 });
    const { model, close } = await openTrained(result.checkpoint!, { registry }), hidden = (await model.loader!.evaluationBatches({ seed: model.seed, batch: 8, limit: 8 })).reduce((sum, { counts }) => sum + counts.mntp_tokens, 0);
    await close();
    for (const name of ["mntp.accuracy", "mntp.unigram"]) {
      const right = losses[name] * hidden; // a whole number of the hidden tokens
      assert.ok(Math.abs(right - Math.round(right)) < 1e-3 && right <= hidden, `${name}: ${right} of ${hidden}`);
    }
    assert.ok(losses["mntp.unigram"] > 0, "the most frequent token is hidden somewhere");
  });

  it("sentences: the adapter of this stage learns, what the stage before left is loaded and stays", async () => {
    const before = await run("mini-mntp", "train.steps=2", "components.text.options.lora={r: 4, alpha: 8}");
    const { steps, result } = await run("mini-simcse", `train.from=${before.result.checkpoint!}`);
    assert.ok(steps.every(({ loss }) => Number.isFinite(loss)));
    for (const { losses } of steps) assert.ok([0, 1, 2, 3, 4, 5, 6, 7, 8].some((right) => Math.abs(losses["alike.accuracy"] - right / 8) < 1e-6), `${losses["alike.accuracy"]} of 8 sentences`);
    assert.ok(steps.some(({ losses }) => losses["alike.accuracy"] > 1 / 8), "sentences find themselves more often than by chance");
    const changed = moved(before.result, result);
    assert.ok(changed.length > 0);
    for (const name of changed) assert.match(name, /lora_[AB]\.simcse\.weight$/);
  });

  it("sentences are compared over the whole batch: more than one microbatch is refused, by name", async () => {
    await assert.rejects(checkRecipe(miniRecipe("mini-simcse", "train.microbatches=2"), registry), (error: unknown) =>
      error instanceof RecipeError && /train\.microbatches: 1, since objective\/simcse compares/.test(error.message));
  });
});
