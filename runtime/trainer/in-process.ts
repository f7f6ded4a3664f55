import { saveShard } from "../checkpoint/index.ts";
import { measureEventLoop } from "../metrics/index.ts";
import { type CheckResult } from "../pipeline/check.ts";
import { Feed } from "../pipeline/feed.ts";
import { type StageModelOptions, loadStageModel } from "../pipeline/model.ts";
import { choosePrecision } from "../pipeline/precision.ts";
import type { StepRunner } from "../pipeline/step-runner.ts";
import { fastBf16, memory } from "../tensor/index.ts";
import { trainStep } from "./step.ts";

/** Everything in this process: `trainStep` on batches of the loader. What a pipeline is held against. */
export async function startInProcess(checked: CheckResult, o: Omit<StageModelOptions, "stage" | "precision">): Promise<StepRunner> {
  const { recipe } = checked;
  const { precision } = choosePrecision(recipe.train.precision, [{ name: "in-process", fastBf16: fastBf16() }]);
  const model = await loadStageModel(checked, { ...o, precision });
  const feed = new Feed(model.loader!, { seed: o.seed, batch: recipe.train.batch, microbatches: recipe.train.microbatches, steps: recipe.train.steps });
  const meter = measureEventLoop();
  return {
    parameters: model.size,
    precision,
    warnings: model.warnings,
    processes: [{ stage: "in-process", components: model.nodes.map((node) => node.name), pid: process.pid, host: "localhost" }],
    links: [],
    async step(step) {
      const batch = await feed.batch(step);
      const learningRate = model.learningRate(step);
      const result = await trainStep({ graph: model.graph, parameters: model.parameters, optimizer: model.optimizer, batch, learningRate, clip: recipe.train.clip, seed: o.seed, precision });
      const keys = batch.microbatches.flatMap((microbatch) => microbatch.keys);
      return { ...result, learningRate, pages: keys.length, keys };
    },
    save: (folder) => saveShard(folder, "model", model.parameters, model.optimizer),
    stats: async () => ({ "in-process": { memory: memory(), eventLoop: meter.read(), loader: model.loader!.stats() } }),
    async close() {
      meter.stop();
      await model.close();
    },
  };
}
