/**
 * Runs parent and arms, one after the other, for every seed.
 *
 * ST-1: a finished run is written to state.json before the next begins, and never repeated.
 * ST-2: a study whose recipes changed since a run finished is refused: old and new runs cannot be compared.
 * ST-3: two processes never work in one study folder.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { createRunFolder, RuntimeError, type Recipe, type RunEvent } from "../../runtime/index.ts";
import { claim } from "../claim.ts";
import { fingerprint, readState, writeState } from "../state-file.ts";
import { contentOf, recipeOf, studyArms, type StudyArm } from "./arms.ts";
import { summarise, writeReport, type StudyReport } from "./report.ts";
import type { Study } from "./study-file.ts";

/** Trains one recipe to its end or to the next stop; the study knows nothing of processes. */
export type TrainOne = (recipe: Recipe, o: { runFolder: string; onEvent: (event: RunEvent) => void; signal?: AbortSignal }) => Promise<unknown>;

export interface FinishedRun { arm: string; seed: number; recipeHash: string; runFolder: string; loss?: number; scores: Record<string, number>; seconds: number }
export interface StudyState { version: 1; study: string; runs: FinishedRun[] }

export type StudyEvent =
  | { event: "study"; name: string; folder: string; arms: string[]; seeds: number[]; runs: number; finished: number }
  | { event: "run"; arm: string; seed: number; index: number; runs: number; runFolder: string; state: "started" | "finished" | "known"; metric?: number }
  | { event: "report"; report: StudyReport; markdown: string; json: string };

export interface StudyOptions {
  folder: string;
  train: TrainOne;
  /** Called for every run before the first starts, so that a mistake in the last arm does not cost the first arm's hours. */
  check?: (recipe: Recipe) => Promise<unknown>;
  onEvent?: (event: StudyEvent, run?: { arm: string; seed: number }) => void;
  onRunEvent?: (event: RunEvent, run: { arm: string; seed: number }) => void;
  signal?: AbortSignal;
}

/** Gives the report, or undefined when stopped before the last run. Throws the first failed run's error, with its arm and seed. */
export async function runStudy(study: Study, o: StudyOptions): Promise<StudyReport | undefined> {
  const arms = studyArms(study);
  const runs = study.seeds.flatMap((seed) => arms.map((arm) => ({ arm, seed, recipe: recipeOf(study, arm, seed) })));
  for (const run of runs) await o.check?.(run.recipe);
  mkdirSync(join(o.folder, "runs"), { recursive: true });
  const unlock = claim(o.folder, "study", "--folder");
  try {
    const state = readState(o.folder, "study", { version: 1, study: study.name, runs: [] } as StudyState, "Start in another --folder.");
    o.onEvent?.({ event: "study", name: study.name, folder: o.folder, arms: arms.map((arm) => arm.name), seeds: study.seeds, runs: runs.length, finished: state.runs.length });
    for (const [index, run] of runs.entries()) {
      if (o.signal?.aborted) return undefined;
      const about = { event: "run" as const, arm: run.arm.name, seed: run.seed, index: index + 1, runs: runs.length };
      const known = findFinished(state, run, o.folder);
      if (known) {
        o.onEvent?.({ ...about, runFolder: known.runFolder, state: "known", metric: metricOf(known, study.metric) });
        continue;
      }
      const finished = await trainRun(run, o, (runFolder) => o.onEvent?.({ ...about, runFolder, state: "started" }));
      if (!finished) return undefined;
      const metric = metricOf(finished, study.metric);
      if (metric === undefined) throw missingMetric(study, finished);
      state.runs.push(finished);
      writeState(o.folder, state);
      o.onEvent?.({ ...about, runFolder: finished.runFolder, state: "finished", metric });
    }
    const report = summarise(study, arms, state.runs.filter((run) => arms.some((arm) => arm.name === run.arm) && study.seeds.includes(run.seed)));
    const { markdown, json } = writeReport(report, o.folder);
    o.onEvent?.({ event: "report", report, markdown, json });
    return report;
  } finally {
    unlock();
  }
}

interface PlannedRun { arm: StudyArm; seed: number; recipe: Recipe }

async function trainRun({ arm, seed, recipe }: PlannedRun, o: StudyOptions, started: (runFolder: string) => void): Promise<FinishedRun | undefined> {
  const runFolder = createRunFolder(join(o.folder, "runs"), `${arm.name}-seed${seed}`, new Date()).path;
  started(runFolder);
  let loss: number | undefined;
  let scores: Record<string, number> = {};
  let end: Extract<RunEvent, { event: "end" }> | undefined;
  try {
    await o.train(recipe, {
      runFolder, signal: o.signal,
      onEvent: (event) => {
        if (event.event === "step") loss = event.loss;
        if (event.event === "evaluation") scores = event.scores;
        if (event.event === "end") end = event;
        o.onRunEvent?.(event, { arm: arm.name, seed });
      },
    });
  } catch (cause) {
    throw new RuntimeError("ERR_RUN", `Arm ${arm.name}, seed ${seed}, failed (${runFolder}); the finished runs are kept, the same command continues here.`, { arm: arm.name, seed, runFolder }, { cause });
  }
  if (end?.reason !== "finished") return undefined;
  return { arm: arm.name, seed, recipeHash: hashOf(recipe), runFolder, loss, scores, seconds: end.seconds };
}

/** The value the study compares by. */
export function metricOf(run: FinishedRun, metric: string): number | undefined {
  return metric === "loss" ? run.loss : run.scores[metric];
}

function missingMetric(study: Study, run: FinishedRun): RuntimeError {
  return new RuntimeError("ERR_INPUT", `${study.file}: metric: no "${study.metric}" came out of arm ${run.arm}. There are: ${["loss", ...Object.keys(run.scores)].join(", ")}. ` +
    `Scores of answers need \`evaluate:\` in the recipe.`, { metric: study.metric });
}

function findFinished(state: StudyState, run: PlannedRun, folder: string): FinishedRun | undefined {
  const known = state.runs.find((one) => one.arm === run.arm.name && one.seed === run.seed);
  if (known && known.recipeHash !== hashOf(run.recipe)) {
    throw new RuntimeError("ERR_INPUT", `${folder}: the recipe of arm ${run.arm.name} has changed since its run with seed ${run.seed} finished; old and new runs cannot be compared. ` +
      `Undo the change, or start the study in another --folder.`, { arm: run.arm.name, seed: run.seed, folder });
  }
  return known;
}

function hashOf(recipe: Recipe): string {
  return fingerprint(contentOf(recipe));
}
