import { RuntimeError } from "../errors.ts";
import { MicrobatchPass } from "../pipeline/run/microbatch.ts";
import type { StageModel } from "../pipeline/run/model.ts";
import type { Evaluator, HostBatch, HostMicrobatch, RunEvent, TensorComponent } from "../plugin/index.ts";
import { generateAnswers } from "./answer.ts";
import type { GenerateOptions } from "./generation-options.ts";
import { readScalars } from "./step.ts";
import { type OpenOptions, type TrainedModel, openTrained } from "./trained-model.ts";

export interface EvaluateOptions extends OpenOptions, GenerateOptions {
  /** Pages (pre-training) or questions (fine-tuning) at most. Default: the recipe's, else all. */
  limit?: number;
}

export interface EvaluationResult {
  checkpoint: string;
  step: number;
  /**
   * Mean held-out loss of every objective and its metrics (`mlm`, `mlm.accuracy`), each position counted once. Beside an accuracy stands
   * `unigram`: what always naming the most frequent class of the training pages would have reached.
   */
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
  const asked = evaluator ? await scoreHeldOut(trained, limit, o) : undefined;
  return {
    checkpoint: trained.folder, step: trained.manifest.step, losses, scores: asked?.scores ?? {}, examples: asked?.examples ?? seen,
    cutShort: asked?.cutShort ?? 0, samples: asked?.samples ?? [], seconds: (performance.now() - begun) / 1000,
  };
}

/** What a run and `octavo evaluate` report: losses and metrics as `held-out.*`, and what the recipe's evaluator says. */
export function evaluationEvent({ step, losses, scores, examples }: EvaluationResult): Extract<RunEvent, { event: "evaluation" }> {
  return { event: "evaluation", step, examples, scores: { ...heldOut(losses), ...scores } };
}

/** Losses on held-out pages under the names by which a study asks for them: `held-out.mlm`, and `held-out.loss`, the sum of the objectives. */
export function heldOut(losses: Record<string, number>): Record<string, number> {
  const sum = Object.entries(losses).filter(([name]) => !name.includes(".")).reduce((total, [, loss]) => total + loss, 0);
  return { "held-out.loss": sum, ...Object.fromEntries(Object.entries(losses).map(([name, loss]) => [`held-out.${name}`, loss])) };
}

/** How often each class was asked for, by objective. */
type Uses = Map<string, Map<number, number>>;

const pagesAtOnce = 8;
/** Training pages that say which class is the most frequent, in batches of `pagesAtOnce`. */
const countedBatches = 16;

/** The mean over counted positions: batches are weighted by what they counted. */
async function heldOutLosses(model: StageModel, limit: number | undefined, signal?: AbortSignal): Promise<{ losses: Record<string, number>; examples: number }> {
  const batches = await model.loader!.evaluationBatches({ seed: model.seed, batch: pagesAtOnce, limit });
  if (batches.length === 0) throw new RuntimeError("ERR_INPUT", "evaluate: the recipe holds out no pages. Give its data loader `held_out` shards.");
  const total = totalCounts(batches);
  const examples = batches.reduce((sum, { microbatches }) => sum + microbatches.reduce((rows, { keys }) => rows + keys.length, 0), 0);
  // an objective that counts nothing compares the rows of a batch with each other: its mean over batches is by rows
  const perBatch = new Set(model.nodes.filter(({ kind, plugin, options }) => kind === "objective" && plugin.counts(options).length === 0).map(({ name }) => name));
  const losses: Record<string, number> = {};
  const uses: Uses = new Map();
  for (const batch of batches) {
    signal?.throwIfAborted();
    for (const microbatch of batch.microbatches) {
      // every loss is divided by the counts of all held-out pages, so that the sum over batches is the mean
      await forward(model, batch.step, microbatch, total, async (pass) => {
        for (const [name, value] of await readScalars(pass)) {
          losses[name] = (losses[name] ?? 0) + value * (perBatch.has(name.split(".")[0]) ? microbatch.keys.length / examples : 1);
        }
        await count(pass, uses);
      });
    }
  }
  Object.assign(losses, ...unigrams(losses, uses, [...uses.keys()].some((name) => losses[`${name}.accuracy`] !== undefined) ? await trainUses(model, signal) : new Map()), ...judgements(model, losses, uses));
  return { losses, examples };
}

async function forward(model: StageModel, step: number, data: HostMicrobatch, counts: Record<string, number>, use: (pass: MicrobatchPass) => Promise<void>): Promise<void> {
  const context = { training: false, step, seed: model.seed, counts, precision: model.precision, sampleIds: data.sampleIds };
  const pass = new MicrobatchPass(model.graph, model.nodes, context, "evaluate");
  try {
    pass.forward({}, data);
    await use(pass);
  } finally {
    pass.close();
  }
}

async function count(pass: MicrobatchPass, uses: Uses): Promise<void> {
  for (const [name, classes] of pass.targets()) {
    const counted = uses.get(name) ?? new Map<number, number>();
    uses.set(name, counted);
    for (const id of await classes.readNumbers()) if (id >= 0) counted.set(id, (counted.get(id) ?? 0) + 1);
  }
}

/** What the first batches of training ask for. */
async function trainUses(model: StageModel, signal?: AbortSignal): Promise<Uses> {
  const uses: Uses = new Map();
  for (let step = 0; step < countedBatches; step++) {
    signal?.throwIfAborted();
    const { counts, microbatches: [data] } = await model.loader!.batch({ step, seed: model.seed, batch: pagesAtOnce, microbatches: 1 });
    await forward(model, step, data, counts, (pass) => count(pass, uses));
  }
  return uses;
}

/** Beside every accuracy, the share of held-out targets that are the class which training pages ask for most. */
function unigrams(losses: Readonly<Record<string, number>>, heldOutUses: Uses, trainedUses: Uses): Record<string, number>[] {
  return [...heldOutUses].filter(([name]) => losses[`${name}.accuracy`] !== undefined).map(([name, uses]) => {
    const [most] = [...(trainedUses.get(name) ?? [])].sort(([a, m], [b, n]) => n - m || a - b);
    const all = [...uses.values()].reduce((sum, n) => sum + n, 0);
    return { [`${name}.unigram`]: all === 0 || !most ? 0 : (uses.get(most[0]) ?? 0) / all };
  });
}

/** What objectives say beyond means, under their names. */
function judgements(model: StageModel, losses: Readonly<Record<string, number>>, uses: Uses): Record<string, number>[] {
  return model.nodes.filter(({ kind }) => kind === "objective").map(({ name, component }) => {
    const means = Object.fromEntries(Object.entries(losses).filter(([key]) => key === name || key.startsWith(`${name}.`)).map(([key, value]) => [key === name ? "loss" : key.slice(name.length + 1), value]));
    const said = (component as Partial<TensorComponent>).judge?.({ means, uses: uses.get(name) ?? new Map() }) ?? {};
    return Object.fromEntries(Object.entries(said).map(([key, value]) => [`${name}.${key}`, value]));
  });
}

function totalCounts(batches: readonly HostBatch[]): Record<string, number> {
  const total: Record<string, number> = {};
  for (const batch of batches) for (const [name, count] of Object.entries(batch.counts)) total[name] = (total[name] ?? 0) + count;
  return total;
}

async function scoreHeldOut({ checked, model }: TrainedModel, limit: number | undefined, o: GenerateOptions) {
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
