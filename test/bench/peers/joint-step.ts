/** The joint pre-training step of a recipe, outside of training: its batches read before, its numbers written where a peer can read them. */
import { join } from "node:path";
import { writeFileSync } from "node:fs";
import { builtins } from "../../../plugins/index.ts";
import { Compiled, GradientTree } from "../../../runtime/autograd/index.ts";
import { RuntimeError } from "../../../runtime/errors.ts";
import { type StoredTensor, writeSafetensors } from "../../../runtime/checkpoint/index.ts";
import { globalNorm } from "../../../runtime/optimizer/index.ts";
import { checkFile } from "../../../runtime/pipeline/plan/check.ts";
import { MicrobatchPass } from "../../../runtime/pipeline/run/microbatch.ts";
import { type StageModel, loadStageModel } from "../../../runtime/pipeline/run/model.ts";
import { combineScalars, gradientSquares } from "../../../runtime/pipeline/run/update.ts";
import type { HostBatch } from "../../../runtime/plugin/index.ts";
import { createRegistry } from "../../../runtime/plugin/index.ts";
import { type Precision, type Tensor, configureDevice, fence } from "../../../runtime/tensor/index.ts";
import { compiledStep } from "../../../runtime/trainer/compiled-step.ts";
import { type StepInput, readScalars, trainStep } from "../../../runtime/trainer/step.ts";
import { fillWeight } from "../../plugins/model/fill.ts";
import { root } from "../../process/octavo.ts";

const learningRate = 1e-3;

/** What the joint step of `examples/tiny.yaml` is at another size: the preset, with texts as long as it allows. */
export const presets = { tiny: [], small: ["preset=small", "components.pages.options.max_text=512"] };
export type Preset = keyof typeof presets;

export interface JointStep {
  readonly model: StageModel;
  readonly batches: readonly HostBatch[];
  readonly clip: number;
  /** One whole step on one of the batches: forward, backward, clip, update. Seconds by the clock and of all threads. */
  time(step: number): Promise<{ seconds: number; cpu: number }>;
  useThreads(threads: number): Promise<void>;
  /** weights, batches, losses, gradients and the parameters after one update, as files in `folder`. */
  write(folder: string): Promise<void>;
  close(): Promise<void>;
}

/**
 * `filled`: trained parameters have the values of the deterministic fill, in which nothing is zero and nothing is alike.
 * `compile`: `time` takes the step as training does under `train.compile: auto`: each batch is replayed from its fourth turn on.
 */
export async function openJointStep(preset: Preset, o: { batch: number; microbatches: number; batches: number; filled: boolean; precision?: Precision; compile?: boolean }): Promise<JointStep> {
  if (!(preset in presets)) throw new RuntimeError("ERR_INPUT", `preset: expected ${Object.keys(presets).join(" or ")}, got ${preset}.`);
  const checked = await checkFile(join(root, "examples/tiny.yaml"), createRegistry(builtins), [...presets[preset], `train.batch=${o.batch}`, `train.microbatches=${o.microbatches}`]);
  const { seed, train: { clip } } = checked.recipe;
  const model = await loadStageModel(checked, { seed, precision: o.precision ?? "f32" });
  const batches: HostBatch[] = [];
  for (let step = 0; step < o.batches; step++) batches.push(await model.loader!.batch({ step, seed, batch: o.batch, microbatches: o.microbatches }));
  const trained = Object.entries(model.parameters).filter(([, parameter]) => parameter.trainable);
  if (o.filled) for (const [name, parameter] of trained) parameter.value.write(Float32Array.from(fillWeight(name, parameter.shape)));
  const inputOf = (batch: HostBatch): StepInput =>
    ({ graph: model.graph, parameters: model.parameters, optimizer: model.optimizer, batch, learningRate, clip, seed, precision: model.precision });
  const compiled = o.compile ? new Compiled("the joint step", { limit: o.batches }) : undefined;

  return {
    model, batches, clip,
    async time(step) {
      const begun = performance.now(), cpu = process.cpuUsage();
      const input = inputOf(batches[step % batches.length]);
      await (compiled ? compiledStep(compiled, input) : trainStep(input));
      await fence();
      const { user, system } = process.cpuUsage(cpu);
      return { seconds: (performance.now() - begun) / 1000, cpu: (user + system) / 1e6 };
    },
    async useThreads(threads) {
      await fence();
      configureDevice({ threads });
    },
    async write(folder) {
      writeSafetensors(join(folder, "weights.safetensors"), await stored(Object.entries(model.parameters).map(([name, p]) => [name, p.value] as const)));
      batches.forEach((batch, step) => batch.microbatches.forEach(({ tensors }, m) => writeSafetensors(join(folder, `batch-${step}-${m}.safetensors`),
        new Map(Object.entries(tensors).map(([name, { data, shape }]) => [name, storedHost(data as Float32Array, shape)])))));
      const { gradients, losses, norm } = await gradientsOf(model, batches[0], seed);
      writeSafetensors(join(folder, "gradients.safetensors"), await stored(gradients));
      for (const gradient of gradients.values()) gradient.dispose();
      await trainStep(inputOf(batches[0]));
      writeSafetensors(join(folder, "updated.safetensors"), await stored(trained.map(([name, p]) => [name, p.value] as const)));
      writeFileSync(join(folder, "about.json"), JSON.stringify({
        options: Object.fromEntries(model.nodes.map((node) => [node.name, node.options])), losses, norm, clip,
        batches: batches.map(({ counts, microbatches }) => ({ counts, microbatches: microbatches.map(({ keys }) => keys) })),
        decays: trained.filter(([, p]) => p.decay).map(([name]) => name),
        optimizer: { ...(checked.optimizer.options as object), lr: learningRate },
      }));
    },
    close: async () => {
      compiled?.clear();
      await model.close();
    },
  };
}

/** The first half of `trainStep`: what it has before clipping. */
async function gradientsOf(model: StageModel, batch: HostBatch, seed: number): Promise<{ gradients: Map<string, Tensor>; losses: Record<string, number>; norm: number }> {
  const tree = new GradientTree(batch.microbatches.length), scalars: (readonly [string, number])[][] = [];
  for (const [index, microbatch] of batch.microbatches.entries()) {
    const pass = new MicrobatchPass(model.graph, model.nodes, { training: true, step: batch.step, seed, counts: batch.counts, precision: model.precision, sampleIds: microbatch.sampleIds }, "gradients");
    pass.forward({}, microbatch);
    tree.push(index, pass.backward({}).parameters);
    scalars.push(await readScalars(pass));
    pass.close();
  }
  const gradients = tree.result();
  return { gradients, losses: combineScalars(scalars).losses, norm: globalNorm(await gradientSquares(gradients)) };
}

async function stored(entries: Iterable<readonly [string, Tensor]>): Promise<Map<string, StoredTensor>> {
  const result = new Map<string, StoredTensor>();
  for (const [name, tensor] of entries) result.set(name, storedHost((await tensor.read()) as Float32Array, tensor.shape));
  return result;
}

function storedHost(data: Float32Array | Int32Array | Uint8Array, shape: readonly number[]): StoredTensor {
  const dtype = data instanceof Float32Array ? "F32" : data instanceof Int32Array ? "I32" : "U8";
  return { dtype, shape, data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
}
