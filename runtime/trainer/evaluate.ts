import { RuntimeError } from "../errors.ts";
import { MicrobatchPass } from "../pipeline/microbatch.ts";
import type { StageModel } from "../pipeline/model.ts";
import type { Evaluator, HostBatch } from "../plugin/index.ts";
import { type GenerateOptions, generateAnswers } from "./answer.ts";
import { readScalars } from "./step.ts";
import { type OpenOptions, type TrainedModel, openTrained } from "./trained-model.ts";

export interface EvaluateOptions extends OpenOptions, GenerateOptions {
  /** Pages (pre-training) or questions (fine-tuning) at most. Default: the recipe's, else all. */
  limit?: number;
  signal?: AbortSignal;
}

export interface EvaluationResult {
  checkpoint: string;
  step: number;
  /** Mean held-out loss of every objective, each position counted once. */
  losses: Record<string, number>;
  /** What the recipe's evaluator says; empty without one. */
  scores: Record<string, number>;
  /** Held-out pages or questions seen. */
  examples: number;
  /** Answers that the limit on tokens ended. */
  cutShort: number;
  seconds: number;
  samples: { key: string; prompt: string; expected: string; got: string }[];
}

/** Losses and scores of a checkpoint on the pages its recipe holds out. Throws ERR_INPUT when the recipe holds out none. */
export async function evaluate(checkpoint: string, o: EvaluateOptions): Promise<EvaluationResult> {
  const trained = await openTrained(checkpoint, o);
  try {
    return await evaluateOpen(trained, o);
  } finally {
    await trained.close();
  }
}

export async function evaluateOpen(trained: TrainedModel, o: Omit<EvaluateOptions, keyof OpenOptions>): Promise<EvaluationResult> {
  const begun = performance.now();
  const { recipe, evaluator } = trained.checked;
  const limit = o.limit ?? recipe.evaluate?.limit;
  const { losses, examples: seen } = await heldOutLosses(trained.model, limit, o.signal);
  const asked = evaluator ? await scoreAnswers(trained, limit, o) : undefined;
  return {
    checkpoint: trained.folder, step: trained.manifest.step, losses, scores: asked?.scores ?? {}, examples: asked?.examples ?? seen,
    cutShort: asked?.cutShort ?? 0, samples: asked?.samples ?? [], seconds: (performance.now() - begun) / 1000,
  };
}

/** The mean over counted positions: batches are weighted by what they counted. */
async function heldOutLosses(model: StageModel, limit: number | undefined, signal?: AbortSignal): Promise<{ losses: Record<string, number>; examples: number }> {
  const batches = await model.loader!.evaluationBatches({ seed: model.seed, batch: 8, limit });
  if (batches.length === 0) throw new RuntimeError("ERR_INPUT", "evaluate: the recipe holds out no pages. Give its data loader `held_out` shards.");
  const total = totalCounts(batches);
  const losses: Record<string, number> = {};
  let examples = 0;
  for (const batch of batches) {
    signal?.throwIfAborted();
    for (const microbatch of batch.microbatches) {
      // every loss is divided by the counts of all held-out pages, so that the sum over batches is the mean
      const context = { training: false, step: batch.step, seed: model.seed, counts: total, precision: model.precision, sampleIds: microbatch.sampleIds };
      const pass = new MicrobatchPass(model.graph, model.nodes, context, "evaluate");
      try {
        pass.forward({}, microbatch);
        for (const [name, value] of await readScalars(pass)) losses[name] = (losses[name] ?? 0) + value;
      } finally {
        pass.close();
      }
      examples += microbatch.keys.length;
    }
  }
  return { losses, examples };
}

function totalCounts(batches: readonly HostBatch[]): Record<string, number> {
  const total: Record<string, number> = {};
  for (const batch of batches) for (const [name, count] of Object.entries(batch.counts)) total[name] = (total[name] ?? 0) + count;
  return total;
}

async function scoreAnswers({ checked, model }: TrainedModel, limit: number | undefined, o: GenerateOptions & { signal?: AbortSignal }) {
  const { plugin, options } = checked.evaluator!;
  const evaluator = plugin.create(options, checked.host) as Evaluator;
  const examples = (await model.loader!.examples("held-out")).slice(0, limit);
  const answers = await generateAnswers(model, examples, o);
  examples.forEach((example, i) => evaluator.add(
    { key: example.key, text: answers[i].text, boxes: answers[i].boxes },
    { key: example.key, prompt: example.prompt, answer: example.answer ?? "", boxes: example.boxes ?? [], field: example.key.split("#")[1] },
  ));
  return {
    scores: evaluator.result(), examples: examples.length, cutShort: answers.filter((answer) => answer.cutShort).length,
    samples: examples.map((example, i) => ({ key: example.key, prompt: example.prompt, expected: example.answer ?? "", got: answers[i].text })),
  };
}
