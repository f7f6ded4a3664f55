import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { builtins } from "../../plugins/index.ts";
import { createRegistry, evaluate, loadRecipe, train } from "../../runtime/index.ts";
import { root, temporaryFolder } from "../process/octavo.ts";

describe("INV-T1", () => {
  /** The total of the first eight receipts and where it stands, each token given those of the answer before it. */
  it("tiny reaches 95 % answer-token accuracy on 8 fixed pages within 300 S7 steps", async () => {
    const folder = temporaryFolder(), registry = createRegistry(builtins);
    try {
      const runFolder = join(folder.path, "s7");
      mkdirSync(runFolder);
      const fixed = ["pages=8", "held_out=../data/receipts/train-*.tar", "task={use: task/receipt-fields, options: {fields: [total], wordings: false}}"].map((option) => `components.pages.options.${option}`);
      const steady = ["lr=1e-3", "final=1e-3", "warmup=20", "weight_decay=0"].map((option) => `train.optimizer.options.${option}`);
      const recipe = loadRecipe(join(root, "examples/stages/s7.yaml"), [...fixed, ...steady, "train.steps=300", "train.batch=8", "train.microbatches=1", "evaluate={every: 50}"]);
      const reached: { step: number; accuracy: number }[] = [], enough = new AbortController();
      const result = await train(recipe, {
        runFolder, registry, inProcess: true, signal: enough.signal,
        onEvent(event) {
          if (event.event !== "evaluation") return;
          reached.push({ step: event.step, accuracy: event.scores["held-out.answer.accuracy"] });
          console.log(`      after ${event.step} steps: ${JSON.stringify(event.scores)}`);
          if (reached.at(-1)!.accuracy >= 0.95) enough.abort();
        },
      });
      const { losses, examples } = await evaluate(result.checkpoint!, { registry });
      console.log(`      ${examples} questions, ${result.step} steps, ${result.seconds.toFixed(0)} s`);
      assert.equal(examples, 8);
      assert.ok(result.step <= 300 && losses["answer.accuracy"] >= 0.95, `accuracy ${losses["answer.accuracy"]} after ${result.step} steps: ${JSON.stringify(reached)}`);
    } finally {
      folder.remove();
    }
  });
});
