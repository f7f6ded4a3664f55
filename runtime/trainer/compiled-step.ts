import { type Compiled, GradientTree } from "../autograd/index.ts";
import { ShapeError } from "../errors.ts";
import { clippedUpdate, inNameOrder } from "../optimizer/index.ts";
import { slice } from "../ops/index.ts";
import { MicrobatchPass, outputKey, scalarPorts } from "../pipeline/run/microbatch.ts";
import { applySums, combineScalars, moveParameters, sumsOfSquares } from "../pipeline/run/update.ts";
import type { ForwardContext } from "../plugin/index.ts";
import { type HostTensor, type NamedTensors, Scope, type Tensor, numbersOf, refuseRecording } from "../tensor/index.ts";
import type { StepInput, StepResult } from "./step.ts";

/**
 * `trainStep` as one compiled piece of work, from the batch's tensors to the moved parameters: run, then recorded twice, while shapes and
 * counts are young, and replayed as one native command from the fourth time on (CS-1), to the same bits. What changes with every step is an input: the batch's
 * tensors, sample ids, the number of the step, the learning rate. Counts, seed, clip and precision are part of the signature, for
 * kernels hold them as numbers. Out of it come the scalars, gathered to be read once, and the sums for what follows a step.
 *
 * The optimizer must have `stepMany`.
 */
export async function compiledStep(compiled: Compiled, input: StepInput): Promise<StepResult> {
  const { graph, batch, clip, seed, precision } = input;
  const scope = new Scope(`step ${batch.step}`);
  try {
    const { numbers, ...sums } = scope.enter(() =>
      compiled.run(inputsOf(input), (data) => wholeStep(input, data), `${seed} ${clip} ${precision} ${JSON.stringify(batch.counts)}`));
    applySums(graph.nodes, new Map(Object.entries(sums)));
    const [norm, ...scalars] = await numbers.readNumbers(), names = scalarPorts(graph.nodes).map(({ name }) => name);
    const perMicrobatch = batch.microbatches.map((_, index) => names.map((name, i) => [name, scalars[index * names.length + i]] as const));
    return { ...combineScalars(perMicrobatch), norm };
  } finally {
    scope.close();
  }
}

const keysOfStep = "step", keysOfSamples = "sample ids", schedule = "schedule";

/** The tensors of all microbatches: "0 pages.text_ids", ...; and the step's own: its number and sample ids, learning rate and update. */
function inputsOf({ graph, batch, learningRate }: StepInput): Record<string, HostTensor> {
  const inputs: Record<string, HostTensor> = {}, samples = batch.microbatches.flatMap(({ sampleIds }) => sampleIds);
  for (const loader of graph.nodes.filter((node) => node.kind === "data-loader")) {
    for (const [index, { tensors }] of batch.microbatches.entries()) {
      for (const port in tensors) inputs[`${index} ${outputKey(loader.name, port)}`] = tensors[port];
    }
  }
  inputs[keysOfStep] = { dtype: "i64", shape: [1], data: BigInt64Array.of(BigInt(batch.step)) };
  inputs[keysOfSamples] = { dtype: "i32", shape: [samples.length], data: Int32Array.from(samples) };
  inputs[schedule] = { dtype: "f64", shape: [2], data: Float64Array.of(learningRate, batch.step + 1) };
  return inputs;
}

/** All of `trainStep` but what follows the update -> `numbers`: the norm, then the scalars of each microbatch; and the sums by name. */
function wholeStep(input: StepInput, data: NamedTensors): NamedTensors {
  const { microbatches } = input.batch;
  const tree = new GradientTree(microbatches.length), sums = new GradientTree(microbatches.length);
  try {
    const scalars = microbatches.flatMap((_, index) => oneMicrobatch(input, data, index, tree, sums));
    const norm = update(input, new Map(inNameOrder(tree.result())), data[schedule]);
    return { numbers: numbersOf([norm, ...scalars]), ...Object.fromEntries(sums.result()) };
  } finally {
    tree.dispose();
    sums.dispose();
  }
}

/** Forward and back; gradients and sums go into the trees. -> its scalars, owned by the entered scope. */
function oneMicrobatch({ graph, batch, seed, precision }: StepInput, data: NamedTensors, index: number, tree: GradientTree, sums: GradientTree): Tensor[] {
  const { sampleIds } = batch.microbatches[index], before = batch.microbatches.slice(0, index).reduce((count, each) => count + each.sampleIds.length, 0);
  const keys = { step: data[keysOfStep], sampleIds: slice(data[keysOfSamples], 0, before, sampleIds.length) };
  const context = watched({ training: true, step: batch.step, seed, counts: batch.counts, precision, sampleIds, keys });
  const pass = new MicrobatchPass(graph, graph.nodes.filter((node) => node.kind !== "data-loader"), context, `microbatch ${index} of step ${batch.step}`);
  try {
    pass.forward(ofMicrobatch(index, data));
    tree.push(index, pass.backward({}).parameters);
    sums.push(index, pass.sums());
    return [numbersOf(pass.scalars().map(([name, tensor]) => oneElement(name, tensor)))];
  } finally {
    pass.close();
  }
}

function oneElement(name: string, tensor: Tensor): Tensor {
  if (tensor.size === 1) return tensor;
  throw new ShapeError({ op: "objective", operand: name, expected: "one element", got: tensor.shape, fix: "Losses and metrics are scalars; reduce it first." });
}

/** Norm, clipping, optimizer; frees the gradients. -> the norm, f64 (1). */
function update({ parameters, optimizer, clip }: StepInput, gradients: Map<string, Tensor>, now: Tensor): Tensor {
  try {
    const { numbers, norm } = clippedUpdate(sumsOfSquares(gradients), now, clip);
    moveParameters(parameters, gradients, optimizer, numbers);
    return norm;
  } finally {
    for (const gradient of gradients.values()) gradient.dispose();
  }
}

function ofMicrobatch(index: number, data: NamedTensors): NamedTensors {
  const prefix = `${index} `;
  return Object.fromEntries(Object.entries(data).filter(([name]) => name.startsWith(prefix)).map(([name, tensor]) => [name.slice(prefix.length), tensor]));
}

/** What changes with every step must come as a tensor: a component that asks the context for the number cannot be replayed. */
function watched(context: ForwardContext): ForwardContext {
  const ask = <K extends "step" | "sampleIds">(name: K): ForwardContext[K] => {
    refuseRecording(`a component asks its context for ${name}, which changes from step to step; context.keys has it as a tensor`);
    return context[name];
  };
  return { ...context, get step() { return ask("step"); }, get sampleIds() { return ask("sampleIds"); } };
}
