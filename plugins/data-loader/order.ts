/**
 * Which item is drawn when. Draw n of a run belongs to epoch floor(n / count); each epoch is one permutation.
 *
 * O-1: a pure function of (seed, draw): layouts, resumed runs and study arms agree without talking.
 * O-2: every item is drawn exactly once per epoch.
 */
import { Philox } from "../../runtime/index.ts";

/** The purposes randomness is drawn for: the high half of the Philox stream, far from the model's dropout sites. */
export const site = { order: 0xda7a0001, wording: 0xda7a0002, spans: 0xda7a0003, tokens: 0xda7a0004, blocks: 0xda7a0005 } as const;

/** No training step has this number: evaluation draws are the same whatever was trained. */
export const evaluationStep = 0xffffffff;

/** Keyed by (seed, step), its stream by (sample, purpose). */
export function stream(o: { seed: number; step: number; sample: number; site: number }): Philox {
  return new Philox((BigInt(o.step >>> 0) << 32n) | BigInt(o.seed >>> 0), (BigInt(o.site) << 32n) | BigInt(o.sample >>> 0));
}

export class EpochOrder {
  readonly #count: number;
  #kept: { seed: number; epoch: number; order: number[] } | undefined;

  constructor(count: number) {
    this.#count = count;
  }

  /** The item of draw `draw`. */
  item(seed: number, draw: number): number {
    const epoch = Math.floor(draw / this.#count);
    if (this.#kept?.seed !== seed || this.#kept.epoch !== epoch) {
      const order = stream({ seed, step: 0, sample: epoch, site: site.order }).shuffle(Array.from({ length: this.#count }, (_, i) => i));
      this.#kept = { seed, epoch, order };
    }
    return this.#kept.order[draw % this.#count];
  }
}

/** `count` rows into `parts` contiguous slices; earlier ones are longer by one where it does not divide. */
export function contiguous(count: number, parts: number): [from: number, to: number][] {
  const edge = (part: number) => part * Math.floor(count / parts) + Math.min(part, count % parts);
  return Array.from({ length: parts }, (_, part) => [edge(part), edge(part + 1)]);
}
