import { Compiled } from "../autograd/index.ts";
import { saveShard } from "../checkpoint/index.ts";
import { createTimeline, measureEventLoop } from "../metrics/index.ts";
import { native } from "../native.ts";
import { type CheckResult } from "../pipeline/plan/check.ts";
import { Feed } from "../pipeline/run/feed.ts";
import { type StageModelOptions, loadStageModel } from "../pipeline/run/model.ts";
import { choosePrecision } from "../pipeline/recipe/precision.ts";
import type { StepRunner } from "../pipeline/run/step-runner.ts";
import { fastBf16, fence, memory } from "../tensor/index.ts";
import { compiledStep } from "./compiled-step.ts";
import { trainStep } from "./step.ts";

/** Everything in this process: `trainStep` on batches of the loader, compiled where the recipe lets it be. What a pipeline is held against. */
export async function startInProcess(checked: CheckResult, o: Omit<StageModelOptions, "stage" | "precision">): Promise<StepRunner> {
  const { recipe } = checked;
  const { precision } = choosePrecision(recipe.train.precision, [{ name: "in-process", fastBf16: fastBf16() }]);
  const model = await loadStageModel(checked, { ...o, precision });
  const feed = new Feed(model.loader!, { seed: o.seed, batch: recipe.train.batch, microbatches: recipe.train.microbatches, steps: recipe.train.steps });
  const meter = measureEventLoop();
  const timeline = createTimeline(native());
  const warnings: string[] = [];
  const compilable = model.optimizer.stepMany !== undefined;
  if (recipe.train.compile === "auto" && !compilable) warnings.push("The training step is not compiled: the optimizer has no stepMany. It runs uncompiled.");
  const compiled = recipe.train.compile === "auto" && compilable ? new Compiled("the training step", { onRefused: (reason) => warnings.push(`${reason}. It runs uncompiled.`) }) : undefined;
  return {
    parameters: model.size,
    precision,
    warnings: model.warnings,
    processes: [{ stage: "in-process", components: model.nodes.map((node) => node.name), pid: process.pid, host: "localhost" }],
    links: [],
    async step(step, { trace = false } = {}) {
      timeline.on = trace;
      const batch = await timeline.host({ kind: "loader", name: `batch ${step}`, step }, () => feed.batch(step));
      const learningRate = model.learningRate(step);
      const input = { graph: model.graph, parameters: model.parameters, optimizer: model.optimizer, batch, learningRate, clip: recipe.train.clip, seed: o.seed, precision };
      const close = timeline.open({ kind: "compute", name: compiled ? "compiled step" : "step", step });
      const result = await (compiled ? compiledStep(compiled, input) : trainStep(input)).finally(close);
      const keys = batch.microbatches.flatMap((microbatch) => microbatch.keys);
      return { ...result, learningRate, pages: keys.length, keys, warnings: warnings.splice(0) };
    },
    async spans() {
      await fence();
      return [{ rank: "in-process", host: "localhost", spans: timeline.take() }];
    },
    save: (folder) => saveShard(folder, "model", model.parameters, model.optimizer),
    stats: async () => ({ "in-process": { memory: memory(), eventLoop: meter.read(), loader: model.loader!.stats(), compiled: compiled?.statistics } }),
    async close() {
      meter.stop();
      compiled?.clear();
      await model.close();
    },
  };
}
