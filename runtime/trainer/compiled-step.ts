import { type Compiled, GradientTree } from "../autograd/index.ts";
import { clipScale, globalNorm } from "../optimizer/index.ts";
import { upload } from "../pipeline/feed.ts";
import { MicrobatchPass, outputKey } from "../pipeline/microbatch.ts";
import { applyGradients, applySums, combineScalars, sumsOfSquares } from "../pipeline/update.ts";
import type { ForwardContext } from "../plugin/index.ts";
import { type NamedTensors, Scope, type Tensor, refuseRecording } from "../tensor/index.ts";
import type { StepInput, StepResult } from "./step.ts";

/**
 * `trainStep` with forward and backward passes of all microbatches as one compiled piece of work: recorded while shapes and counts are
 * unseen, replayed as one native command when they come again, to the same bits. Norm, clipping, update and what follows a step come as in `trainStep`;
 * they are a few kernel calls whose scalars change from step to step.
 *
 * The inputs are the batch's tensors. Counts, seed and precision are part of the signature.
 */
export async function compiledStep(compiled: Compiled, input: StepInput): Promise<StepResult> {
  const { graph, parameters, optimizer, batch, learningRate, clip, seed, precision } = input;
  const scope = new Scope(`step ${batch.step}`);
  try {
    const { losses, squares, gradients, sums } = parts(scope.enter(() => {
      const data = uploadBatch(input);
      return compiled.run(data, () => passes(input, data), `${seed} ${precision} ${JSON.stringify(batch.counts)}`);
    }));
    const [squared, ...scalars] = await Promise.all([squares.read(), ...losses.map(readAll)]);
    const norm = globalNorm([...gradients.keys()].map((name, i) => [name, Number(squared[i])] as const));
    const gradScale = clip > 0 ? clipScale(norm, clip) : 1;
    applyGradients(parameters, gradients, optimizer, { step: batch.step, learningRate, gradScale });
    applySums(graph.nodes, sums);
    return { ...combineScalars(scalars), norm };
  } finally {
    scope.close();
  }
}

/** The tensors of all microbatches: "0 pages.text_ids", ... */
function uploadBatch({ graph, batch }: StepInput): NamedTensors {
  const loaders = graph.nodes.filter((node) => node.kind === "data-loader");
  return Object.fromEntries(batch.microbatches.flatMap((microbatch, index) => loaders.flatMap((loader) =>
    Object.entries(upload(microbatch)).map(([port, tensor]) => [`${index} ${outputKey(loader.name, port)}`, tensor] as const))));
}

/** The first half of `trainStep`, its results by name: "loss 0 mlm", ..., "squares", "gradient text.embed.weight", ..., "sum tokenizer.codes", ... */
function passes({ graph, batch, seed, precision }: StepInput, data: NamedTensors): NamedTensors {
  const nodes = graph.nodes.filter((node) => node.kind !== "data-loader");
  const tree = new GradientTree(batch.microbatches.length), sums = new GradientTree(batch.microbatches.length);
  const results: NamedTensors = {};
  try {
    for (const [index, { sampleIds }] of batch.microbatches.entries()) {
      const context = watched({ training: true, step: batch.step, seed, counts: batch.counts, precision, sampleIds });
      const pass = new MicrobatchPass(graph, nodes, context, `microbatch ${index} of step ${batch.step}`);
      try {
        pass.forward(ofMicrobatch(index, data));
        tree.push(index, pass.backward({}).parameters);
        sums.push(index, pass.sums());
        for (const [name, tensor] of pass.scalars()) results[`loss ${index} ${name}`] = tensor.scope === pass.scope ? pass.scope.keep(tensor) : tensor;
      } finally {
        pass.close();
      }
    }
    const gradients = tree.result();
    results.squares = sumsOfSquares(gradients);
    for (const [name, gradient] of gradients) results[`gradient ${name}`] = gradient;
    for (const [name, sum] of sums.result()) results[`sum ${name}`] = sum;
    return results;
  } catch (thrown) {
    for (const tensor of Object.values(results)) tensor.dispose();
    throw thrown;
  } finally {
    tree.dispose();
    sums.dispose();
  }
}

function ofMicrobatch(index: number, data: NamedTensors): NamedTensors {
  const prefix = `${index} `;
  return Object.fromEntries(Object.entries(data).filter(([name]) => name.startsWith(prefix)).map(([name, tensor]) => [name.slice(prefix.length), tensor]));
}

/** What changes with every step must come as a tensor: a component that asks the context for it cannot be replayed. */
function watched(context: ForwardContext): ForwardContext {
  const ask = <K extends "step" | "sampleIds">(name: K): ForwardContext[K] => {
    refuseRecording(`a component asks its context for ${name}, which changes from step to step`);
    return context[name];
  };
  return { ...context, get step() { return ask("step"); }, get sampleIds() { return ask("sampleIds"); } };
}

function parts(results: NamedTensors) {
  const losses: (readonly [name: string, tensor: Tensor])[][] = [], gradients = new Map<string, Tensor>(), sums = new Map<string, Tensor>();
  for (const name in results) {
    const tensor = results[name], space = name.indexOf(" "), rest = name.slice(space + 1);
    if (name.startsWith("gradient ")) gradients.set(rest, tensor);
    else if (name.startsWith("sum ")) sums.set(rest, tensor);
    else if (name.startsWith("loss ")) {
      const [microbatch, loss] = rest.split(" ");
      (losses[Number(microbatch)] ??= []).push([loss, tensor]);
    }
  }
  return { losses, squares: results.squares, gradients, sums };
}

const readAll = (scalars: readonly (readonly [name: string, tensor: Tensor])[]): Promise<(readonly [string, number])[]> =>
  Promise.all(scalars.map(async ([name, tensor]) => [name, await tensor.item()] as const));
