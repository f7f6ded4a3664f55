import type { ShardEntry } from "../../checkpoint/index.ts";
import type { ProcessStats } from "../../plugin/index.ts";
import type { Precision } from "../../tensor/index.ts";
import type { RankSchedule } from "../schedule/schedule.ts";
import type { RankSpans } from "./trace.ts";

export interface StepOutcome {
  loss: number;
  /** Objectives and their metrics. */
  losses: Record<string, number>;
  /** Of the whole gradient, before clipping. */
  norm: number;
  learningRate: number;
  pages: number;
  keys: string[];
  /** What people should know and was found out in this step. */
  warnings?: readonly string[];
}

/** What trains, step by step, whatever it is made of: one process or many. */
export interface StepRunner {
  /** Numbers in all parameters. */
  readonly parameters: number;
  /** What its activations are stored in: the recipe's, with auto decided. */
  readonly precision: Precision;
  /** `stage`: the name of the process; `stages`: those it holds, where it is a pipeline's. */
  readonly processes: { stage: string; stages?: string[]; components: string[]; pid?: number; host?: string }[];
  /** What its loader left out of the data. */
  readonly warnings: string[];
  readonly links: { from: string; to: string; lane: string; notes: string[] }[];
  /** What its ranks run; nothing where there is one process. */
  readonly schedule?: RankSchedule;
  /** Step `step`, counted from 0. Steps come in order. `trace`: what is done and waited for is kept for `spans`. */
  step(step: number, o?: { trace?: boolean }): Promise<StepOutcome>;
  /** What the traced steps since the last call did, rank by rank, on one clock. */
  spans(): Promise<RankSpans[]>;
  /** Writes parameters and optimizer state into an existing folder. */
  save(folder: string): Promise<ShardEntry[]>;
  stats(): Promise<Record<string, ProcessStats>>;
  close(): Promise<void>;
}
