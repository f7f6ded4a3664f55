import { RuntimeError, nearest } from "../errors.ts";
import type { Sampling } from "./token-choice.ts";

export const generationModes = ["greedy", "sample", "beam"] as const;
export type GenerationMode = (typeof generationModes)[number];

export interface GenerateOptions {
  /** The most likely token each time, a drawn one, or the best of several beams. Default greedy. */
  mode?: GenerationMode;
  /** sample: above 0; 1 is the model's own distribution, less is closer to greedy. Default 1. */
  temperature?: number;
  /** sample: only so many of the most likely tokens. Default all. */
  topK?: number;
  /** sample: only the most likely tokens that reach this share together, in (0, 1]. Default 1. */
  topP?: number;
  /** sample: the same seed draws the same answer to the same question about the same page, whatever is asked beside it. Default 0. */
  seed?: number;
  /** beam: how many. Default 4. */
  beams?: number;
  /** beam: complete answers compare by log-probability / tokens^lengthPenalty; 0: the most probable answer, more: longer ones. Default 1. */
  lengthPenalty?: number;
  /** Longest answer in tokens, with `<eos>`; at least 2. Default 64. */
  maxTokens?: number;
  /** Pages at once. Default 8. */
  batch?: number;
  /** Aborted: generation throws its reason before the next token, and everything it held is freed. */
  signal?: AbortSignal;
}

/** What was asked for, complete. */
export interface GenerationPlan extends Sampling { mode: GenerationMode; seed: number; beams: number; lengthPenalty: number; maxTokens: number; batch: number }

const defaults: GenerationPlan = { mode: "greedy", temperature: 1, topK: Infinity, topP: 1, seed: 0, beams: 4, lengthPenalty: 1, maxTokens: 64, batch: 8 };

type Numeric = Exclude<keyof GenerationPlan, "mode">;
const rules: Record<Numeric, { mode?: GenerationMode; expected: string; holds(value: number): boolean }> = {
  temperature: { mode: "sample", expected: "a number above 0", holds: (v) => v > 0 && v < Infinity },
  topK: { mode: "sample", expected: "a whole number of at least 1", holds: (v) => (Number.isInteger(v) && v >= 1) || v === Infinity },
  topP: { mode: "sample", expected: "a number above 0 and at most 1", holds: (v) => v > 0 && v <= 1 },
  seed: { mode: "sample", expected: "a whole number of at least 0", holds: (v) => Number.isSafeInteger(v) && v >= 0 },
  beams: { mode: "beam", expected: "a whole number of at least 1", holds: (v) => Number.isInteger(v) && v >= 1 },
  lengthPenalty: { mode: "beam", expected: "a number", holds: Number.isFinite },
  maxTokens: { expected: "a whole number of at least 2", holds: (v) => Number.isInteger(v) && v >= 2 },
  batch: { expected: "a whole number of at least 1", holds: (v) => Number.isInteger(v) && v >= 1 },
};

/** Fills the defaults. Throws ERR_INPUT for a value out of range, and for one that the mode would not use. */
export function generationPlan(o: GenerateOptions = {}): GenerationPlan {
  const mode = o.mode ?? defaults.mode;
  if (!generationModes.includes(mode)) {
    const guess = nearest(mode, generationModes);
    throw new RuntimeError("ERR_INPUT", `mode: expected ${generationModes.join(", ")}, got ${mode}.${guess ? ` Did you mean "${guess}"?` : ""}`, { option: "mode", got: mode });
  }
  const plan = { ...defaults, mode };
  for (const [option, rule] of Object.entries(rules) as [Numeric, (typeof rules)[Numeric]][]) {
    const value = o[option];
    if (value === undefined) continue;
    if (!rule.holds(value)) throw new RuntimeError("ERR_INPUT", `${option}: expected ${rule.expected}, got ${value}.${option === "temperature" && value === 0 ? " For the most likely token each time use mode greedy." : ""}`, { option, got: value });
    if (rule.mode !== undefined && rule.mode !== mode) throw new RuntimeError("ERR_INPUT", `${option}: belongs to mode ${rule.mode}, got mode ${mode}. Set mode to ${rule.mode}, or leave ${option} out.`, { option, mode });
    plan[option] = value;
  }
  return plan;
}
