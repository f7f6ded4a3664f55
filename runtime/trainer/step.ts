import { clipScale, globalNorm } from "../optimizer/index.ts";
import { GradientTree } from "../autograd/index.ts";
import type { Parameters } from "../nn/index.ts";
import { MicrobatchPass } from "../pipeline/run/microbatch.ts";
import { applyGradients, applySums, combineScalars, gradientSquares } from "../pipeline/run/update.ts";
import type { Graph } from "../pipeline/graph/graph.ts";
import type { HostBatch, OptimizerLike } from "../plugin/index.ts";
import type { Precision } from "../tensor/index.ts";

export interface StepInput {
  graph: Graph;
  parameters: Parameters;
  optimizer: OptimizerLike;
  batch: HostBatch;
  learningRate: number;
  /** Largest norm of the whole gradient; 0 leaves it as it is. */
  clip: number;
  seed: number;
  precision: Precision;
}

export interface StepResult { loss: number; losses: Record<string, number>; norm: number }

/**
 * One training step in one process, top to bottom. This is the specification: every pipeline, however many processes it
 * has, must give the bits that this function gives.
 *
 * 1. Every microbatch runs forward through the components and back; its losses are already weighted by the counts of the
 *    whole batch, so that sums over microbatches are the losses and gradients of the batch.
 * 2. Gradients are summed as a pairwise tree over the microbatch index.
 * 3. The global norm adds the tensors' sums of squares in the order of their names; clipping scales all gradients by it.
 * 4. The optimizer moves the parameters; then components whose state no gradient moves get their sums over the batch, added as in 2.
 */
export async function trainStep({ graph, parameters, optimizer, batch, learningRate, clip, seed, precision }: StepInput): Promise<StepResult> {
  const tree = new GradientTree(batch.microbatches.length), sums = new GradientTree(batch.microbatches.length);
  try {
    const scalars: (readonly [string, number])[][] = [];
    for (const [index, microbatch] of batch.microbatches.entries()) {
      const context = { training: true, step: batch.step, seed, counts: batch.counts, precision, sampleIds: microbatch.sampleIds };
      const pass = new MicrobatchPass(graph, graph.nodes, context, `microbatch ${index} of step ${batch.step}`);
      try {
        pass.forward({}, microbatch);
        tree.push(index, pass.backward({}).parameters);
        sums.push(index, pass.sums());
        scalars.push(await readScalars(pass));
      } finally {
        pass.close();
      }
    }
    const gradients = tree.result();
    const norm = globalNorm(await gradientSquares(gradients));
    const gradScale = clip > 0 ? clipScale(norm, clip) : 1;
    applyGradients(parameters, gradients, optimizer, { step: batch.step, learningRate, gradScale });
    applySums(graph.nodes, sums.result());
    return { ...combineScalars(scalars), norm };
  } finally {
    tree.dispose();
    sums.dispose();
  }
}

/** The objectives' scalars of one microbatch, on the host. */
export async function readScalars(pass: MicrobatchPass): Promise<(readonly [string, number])[]> {
  return Promise.all(pass.scalars().map(async ([name, tensor]) => [name, await tensor.item()] as const));
}
