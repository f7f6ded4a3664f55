/**
 * Runs the stages of a sequence, one after the other, in one folder.
 *
 * SQ-1: a finished stage is written to state.json before the next begins, and never repeated; an interrupted one goes on from its newest checkpoint.
 * SQ-2: a sequence whose recipes changed since a stage began is refused: its stages would not belong together.
 * SQ-3: two processes never work in one folder.
 * SQ-4: a stage starts from the last checkpoint of the stages it names, whatever they kept besides.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { loadRecipe, RuntimeError, type Recipe, type RunEvent } from "../../runtime/index.ts";
import { claim } from "../claim.ts";
import { fingerprint, readState, writeState } from "../state-file.ts";
import { contentOf } from "../study/arms.ts";
import type { CheckedSequence, CheckedStage } from "./check-sequence.ts";
import { writeSummary, type SequenceSummary } from "./summary.ts";

/** Trains one recipe to its end or to the next stop, from `resume` where a checkpoint is given. */
export type TrainStage = (recipe: Recipe, o: { runFolder: string; resume?: string; onEvent: (event: RunEvent) => void; signal?: AbortSignal }) => Promise<unknown>;

export interface FinishedStage {
  stage: string;
  recipeHash: string;
  checkpoint: string;
  runFolder: string;
  steps: number;
  /** Of all attempts that ended in order. */
  seconds: number;
  /** Training losses of the first and the last step. */
  first?: number;
  last?: number;
  /** Of its last evaluation; empty when its recipe asks for none. */
  scores: Record<string, number>;
}

/** A stage that began and is not finished: what its attempts left. */
interface BegunStage { stage: string; recipeHash: string; runFolders: string[]; first?: number; last?: number; checkpoint?: string; seconds: number; scores: Record<string, number> }
interface SequenceState { version: 1; sequence: string; finished: FinishedStage[]; begun?: BegunStage }

export type SequenceEvent =
  | { event: "sequence"; name: string; folder: string; stages: string[]; finished: number }
  | { event: "stage"; stage: string; index: number; stages: number; runFolder: string; state: "started" | "resumed" | "finished" | "known"; from: Record<string, string> }
  | { event: "summary"; summary: SequenceSummary; markdown: string; json: string };

export interface SequenceOptions {
  folder: string;
  train: TrainStage;
  onEvent?: (event: SequenceEvent) => void;
  onRunEvent?: (event: RunEvent, stage: string) => void;
  signal?: AbortSignal;
}

/** Gives the summary, or undefined when stopped before the last stage's end. Throws the failed stage's error, with its name. */
export async function runSequence(checked: CheckedSequence, o: SequenceOptions): Promise<SequenceSummary | undefined> {
  mkdirSync(o.folder, { recursive: true });
  const release = claim(o.folder, "sequence", "folder");
  try {
    const { sequence, stages } = checked;
    const state = readState(o.folder, "sequence", { version: 1, sequence: sequence.name, finished: [] } as SequenceState, "Start again without --resume.");
    o.onEvent?.({ event: "sequence", name: sequence.name, folder: o.folder, stages: stages.map(({ name }) => name), finished: state.finished.length });
    for (const [index, stage] of stages.entries()) {
      if (o.signal?.aborted) return undefined;
      const from = checkpointsFor(stage, state);
      const tell = (told: "started" | "resumed" | "finished" | "known", runFolder: string) =>
        o.onEvent?.({ event: "stage", stage: stage.name, index: index + 1, stages: stages.length, runFolder, state: told, from });
      const known = finishedBefore(state, stage, o.folder);
      if (known) tell("known", known.runFolder);
      else if (!await new StageRun(stage, from, state, o, tell).run()) return undefined;
    }
    const summary = { sequence: sequence.name, stages: state.finished };
    o.onEvent?.({ event: "summary", summary, ...writeSummary(summary, o.folder) });
    return summary;
  } finally {
    release();
  }
}

class StageRun {
  constructor(
    private readonly stage: CheckedStage, private readonly from: Record<string, string>, private readonly state: SequenceState,
    private readonly o: SequenceOptions, private readonly tell: (state: "started" | "resumed" | "finished", runFolder: string) => void,
  ) {}

  /** Whether the stage is finished. */
  async run(): Promise<boolean> {
    const begun = this.#begin();
    const resume = begun.checkpoint;
    const runFolder = this.#attempt(begun);
    this.tell(resume === undefined ? "started" : "resumed", runFolder);
    let end: Extract<RunEvent, { event: "end" }> | undefined;
    try {
      await this.o.train(this.#recipe(), {
        runFolder, resume, signal: this.o.signal,
        onEvent: (event) => {
          this.#note(begun, event);
          if (event.event === "end") end = event;
          this.o.onRunEvent?.(event, this.stage.name);
        },
      });
    } catch (cause) {
      throw new RuntimeError("ERR_RUN", `Stage ${this.stage.name} failed (${runFolder}); the finished stages are kept: mend it and go on with --resume ${this.o.folder}.`, { stage: this.stage.name, runFolder }, { cause });
    }
    begun.seconds += end?.seconds ?? 0;
    if (end?.reason === "finished") {
      const { stage, recipeHash, seconds, first, last, scores } = begun;
      this.state.finished.push({ stage, recipeHash, checkpoint: end.checkpoint ?? resume!, runFolder, steps: end.step, seconds, first, last, scores });
      delete this.state.begun;
    }
    this.#write();
    if (end?.reason !== "finished") return false;
    this.tell("finished", runFolder);
    return true;
  }

  #begin(): BegunStage {
    const recipeHash = hashOf(this.stage);
    const { begun } = this.state;
    if (begun?.stage === this.stage.name) {
      refuseChanged(begun.recipeHash, recipeHash, this.stage.name, this.o.folder);
      return begun;
    }
    return (this.state.begun = { stage: this.stage.name, recipeHash, runFolders: [], seconds: 0, scores: {} });
  }

  /** A run folder of its own for every attempt: `s1`, then `s1-2`, ... */
  #attempt(begun: BegunStage): string {
    const attempt = begun.runFolders.length + 1;
    const runFolder = join(this.o.folder, attempt === 1 ? this.stage.name : `${this.stage.name}-${attempt}`);
    mkdirSync(runFolder, { recursive: true });
    begun.runFolders.push(runFolder);
    this.#write();
    return runFolder;
  }

  #note(begun: BegunStage, event: RunEvent): void {
    if (event.event === "step") begun.last = event.loss, begun.first ??= event.loss;
    if (event.event === "evaluation") begun.scores = event.scores;
    if (event.event !== "checkpoint") return;
    begun.checkpoint = event.path;
    this.#write();
  }

  #recipe(): Recipe {
    const { recipe, overrides } = this.stage;
    return loadRecipe(recipe, Object.keys(this.from).length > 0 ? [...overrides, `train.from=${JSON.stringify(this.from)}`] : overrides);
  }

  #write(): void {
    writeState(this.o.folder, this.state);
  }
}

/** Component -> the checkpoint it starts from (SQ-4). */
function checkpointsFor({ name, sources }: CheckedStage, { finished }: SequenceState): Record<string, string> {
  return Object.fromEntries(Object.entries(sources).map(([component, source]) => {
    if ("checkpoint" in source) return [component, source.checkpoint];
    const saved = finished.find(({ stage }) => stage === source.stage);
    if (!saved) throw new Error(`sequence: ${name} needs ${source.stage}, which has not finished`);
    return [component, saved.checkpoint];
  }));
}

function finishedBefore(state: SequenceState, stage: CheckedStage, folder: string): FinishedStage | undefined {
  const known = state.finished.find((one) => one.stage === stage.name);
  if (known) refuseChanged(known.recipeHash, hashOf(stage), stage.name, folder);
  return known;
}

function refuseChanged(before: string, now: string, stage: string, folder: string): void {
  if (before === now) return;
  throw new RuntimeError("ERR_INPUT", `${folder}: the recipe of stage ${stage} has changed since it began; what is trained on it would belong to another sequence. ` +
    "Undo the change, or start again without --resume.", { stage, folder });
}

function hashOf({ checked, sources }: CheckedStage): string {
  return fingerprint([contentOf(checked.recipe), sources]);
}
