import type { DataLoader, HostBatch, HostMicrobatch } from "../../plugin/index.ts";
import { fromArray, type Tensor } from "../../tensor/index.ts";

/** What every stage is told before a step: the counts that losses divide by (D-8), and who the samples are. */
export interface StepHeader {
  step: number;
  counts: Record<string, number>;
  microbatches: { sampleIds: number[]; keys: string[] }[];
}

/**
 * Batches of a loader, one step ahead of the training that consumes them.
 * FD-1: the batch of a step is a pure function of (seed, step); prefetching never changes it.
 * FD-2: a failure of the prefetch surfaces at the step that needs it, not before.
 */
export class Feed {
  #ahead: { step: number; batch: Promise<HostBatch> } | undefined;

  constructor(private readonly loader: DataLoader, private readonly o: { seed: number; batch: number; microbatches: number; steps: number }) {}

  async batch(step: number): Promise<HostBatch> {
    const wanted = this.#ahead?.step === step ? this.#ahead.batch : this.#load(step);
    this.#ahead = undefined;
    const batch = await wanted;
    if (step + 1 < this.o.steps) {
      const next = this.#load(step + 1);
      next.catch(() => undefined); // reported by the step that awaits it (FD-2)
      this.#ahead = { step: step + 1, batch: next };
    }
    return batch;
  }

  #load(step: number): Promise<HostBatch> {
    return this.loader.batch({ step, seed: this.o.seed, batch: this.o.batch, microbatches: this.o.microbatches });
  }
}

export function headerOf(batch: HostBatch): StepHeader {
  return { step: batch.step, counts: batch.counts, microbatches: batch.microbatches.map(({ sampleIds, keys }) => ({ sampleIds, keys })) };
}

/** The tensors of one microbatch on the device, by port, owned by the entered scope. */
export function upload(microbatch: HostMicrobatch): Record<string, Tensor> {
  return Object.fromEntries(Object.entries(microbatch.tensors).map(([port, host]) => [port, fromArray(host.data, host.shape, host.dtype)]));
}
