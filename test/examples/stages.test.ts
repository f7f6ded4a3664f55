/** The stages of the model in their short form: a step or two each on a few pages. The whole of it is test/long/stages.test.ts. */
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { checkSequence, loadSequence, runSequence, type CheckedSequence, type SequenceSummary } from "../../cluster/index.ts";
import { builtins } from "../../plugins/index.ts";
import { createRegistry, loadRecipe, openCheckpoint, train, type RunEvent } from "../../runtime/index.ts";
import { root, temporaryFolder } from "../process/octavo.ts";

const file = join(root, "examples/stages/all.yaml");
const short = ["train.steps=2", "train.batch=4", "components.pages.options.pages=6", "evaluate={every: 2, limit: 4}"];

describe("the stages of examples/stages", function () {
  this.timeout(120_000);
  const folder = temporaryFolder();
  after(() => folder.remove());
  const starts: Extract<RunEvent, { event: "start" }>[] = [];
  const registry = createRegistry(builtins), here = { registry, inProcess: true, threads: 1 };
  let checked: CheckedSequence, summary: SequenceSummary;
  before(async () => {
    checked = await checkSequence(loadSequence(file, short), registry);
    summary = (await runSequence(checked, {
      folder: join(folder.path, "all"), train: (recipe, o) => train(recipe, { ...here, ...o }),
      onRunEvent: (event) => { if (event.event === "start") starts.push(event); },
    }))!;
  });

  it("run one after another, in the order of the model", () => {
    assert.deepEqual(summary.stages.map(({ stage, steps }) => [stage, steps]), starts.map(({ run }) => [run, 2]));
    assert.deepEqual(summary.stages.map(({ stage }) => stage), ["s1", "s2", "s3", "s4", "s5", "s6", "s7"]);
    for (const { stage, first, last } of summary.stages) assert.ok(Number.isFinite(first) && Number.isFinite(last), stage);
  });

  it("start from what the stages before saved, parameter by parameter, bit by bit", async () => {
    const saved = new Map(summary.stages.map(({ stage, checkpoint }) => [stage, checkpoint]));
    let compared = 0;
    for (const { name, recipe, sources, checked: { graph } } of checked.stages) {
      if (Object.keys(sources).length === 0) continue;
      const from = Object.fromEntries(Object.entries(sources).map(([component, source]) => [component, "stage" in source ? saved.get(source.stage)! : source.checkpoint]));
      const runFolder = join(folder.path, `untouched-${name}`);
      mkdirSync(runFolder);
      const untouched = await train(loadRecipe(recipe, [...short, "seed=77", "train.steps=0", "evaluate=null", `train.from=${JSON.stringify(from)}`]), { ...here, runFolder });
      const after = openCheckpoint(untouched.checkpoint!);
      for (const [component, checkpoint] of Object.entries(from)) {
        const before = openCheckpoint(checkpoint);
        const names = Object.keys(graph.nodes.find((node) => node.name === component)!.parameters);
        for (const parameter of names) assert.deepEqual(after.parameter(parameter), before.parameter(parameter), `${name}: ${parameter} of ${component}`);
        compared += names.length;
        before.close();
      }
      after.close();
    }
    assert.ok(compared > 100, `${compared} parameters`);
  });

  it("ran from those checkpoints: what a stage keeps frozen it passes on as it was", () => {
    const of = (stage: string) => openCheckpoint(summary.stages.find((one) => one.stage === stage)!.checkpoint);
    const readers = ["s1", "s2", "s6"].map(of);
    const codebook = readers.map((reader) => reader.parameter("tokenizer.quantize.embedding.weight"));
    assert.deepEqual(codebook[1], codebook[0]);
    assert.deepEqual(codebook[2], codebook[0]);
    for (const reader of readers) reader.close();
  });

  it("are scored on pages held out, accuracies beside their baseline", () => {
    for (const { stage, scores } of summary.stages) {
      const accuracies = Object.keys(scores).filter((name) => name.endsWith(".accuracy"));
      for (const name of accuracies) assert.ok(scores[name] >= 0 && scores[name] <= 1, `${stage}: ${name}`);
    }
    const unigrams = summary.stages.flatMap(({ stage, scores }) => Object.keys(scores).filter((name) => name.endsWith(".unigram")).map((name) => `${stage} ${name.slice("held-out.".length)}`));
    assert.deepEqual(unigrams, ["s2 mim.unigram", "s4 mntp.unigram", "s6 mlm.unigram", "s6 mim.unigram", "s7 answer.unigram"]);
    const scoresOf = (stage: string) => summary.stages.find((one) => one.stage === stage)!.scores;
    assert.ok(scoresOf("s1")["held-out.likeness.codes_used"] > 0);
    assert.ok(Math.abs(scoresOf("s3")["held-out.lm.perplexity"] - Math.exp(scoresOf("s3")["held-out.lm"])) < 1e-6);
  });
});
