/**
 * Options that plugins of several kinds have in common, so that a recipe spells them one way.
 */
import { z } from "zod";
import type { LoraOptions, RopeScaling } from "../nn/index.ts";

/** How long contexts stretch rotary positions, under the names of released configurations. */
export const ropeScalingOption = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("linear"), factor: z.number().positive() }),
  /** theta grows with the batch's longest text, padding included, once it is longer than the model was trained for. */
  z.strictObject({ type: z.literal("dynamic"), factor: z.number().positive(), original_max_position_embeddings: z.int().positive() }),
  z.strictObject({
    type: z.literal("llama3"), factor: z.number().positive(), low_freq_factor: z.number().positive(), high_freq_factor: z.number().positive(),
    original_max_position_embeddings: z.int().positive(),
  }),
]);

/** `length`: positions in use, which dynamic scaling asks for. */
export function ropeScalingFrom(option: z.output<typeof ropeScalingOption> | null | undefined, length: number): RopeScaling | undefined {
  switch (option?.type) {
    case undefined: return undefined;
    case "linear": return option;
    case "dynamic": return { type: "dynamic", factor: option.factor, originalPositions: option.original_max_position_embeddings, length };
    case "llama3": return {
      type: "llama3", factor: option.factor, lowFrequencyFactor: option.low_freq_factor, highFrequencyFactor: option.high_freq_factor,
      originalPositions: option.original_max_position_embeddings,
    };
  }
}

const adapter = {
  /** Tells several adapters of one component apart; PEFT's files know the one called `default`. */
  name: z.string().regex(/^[a-z0-9_-]+$/i).default("default"),
  r: z.int().positive().default(16),
  alpha: z.number().positive().default(32),
  dropout: z.number().min(0).lt(1).default(0.05),
  rslora: z.boolean().default(false),
  /** Ends of the names of maps and tables: `q_proj`, `embed_tokens`. Default: all seven maps of a layer. */
  targets: z.array(z.string()).nonempty().optional(),
};

/** LoRA: the component's own weights are frozen, adapters beside them learn. */
export const loraOption = z.strictObject({
  ...adapter,
  /** What trains beside the adapter: parameters with one of these in their names. LongLoRA's: [embed, norm]. */
  train: z.array(z.string()).default([]),
  /** Adapters of earlier stages: they take part, as if merged, and do not learn. */
  frozen: z.array(z.strictObject(adapter)).default([]),
}).refine(({ name, frozen }) => new Set([name, ...frozen.map((each) => each.name)]).size === 1 + frozen.length, { error: "every adapter needs a name of its own", path: ["frozen"] });

/** The adapters that an option asks for, those of earlier stages first. */
export const adaptersFrom = ({ frozen, train: _train, ...own }: z.output<typeof loraOption>): LoraOptions[] =>
  [...frozen.map((each) => ({ ...each, dropout: 0, frozen: true })), own];
