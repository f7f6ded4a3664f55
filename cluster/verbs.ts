/** The verbs of the command line as functions: what `octavo check|plan|train|ablate|ask|evaluate|plugins` call, and programs too. */
import { existsSync, readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import {
  answer, checkFile, chooseAnswer, checkRecipe, createRegistry, createRunFolder, evaluate as evaluateCheckpoint, evaluationEvent, explainTrace, findCheckpoint, loadRecipe, planRecipe, presetNames, presetReport, profileRecipe, readTrace, recipeReport, RuntimeError, scheduleNamed, stagesByCost, traceFile, train as trainRecipe,
  type CheckResult, type Explanation, type Launcher, type ModelReport, type Plugin, type PresetName, type Recipe, type RecipePlan, type Registry, type RunEvent, type StreamOptions,
} from "../runtime/index.ts";
import { loadClusterFile } from "./launcher/cluster-file.ts";
import { clusterLauncher } from "./launcher/cluster.ts";
import { localLauncher } from "./launcher/local.ts";
import { checkSequence, type CheckedSequence } from "./sequence/check-sequence.ts";
import { runSequence, type SequenceEvent } from "./sequence/run-sequence.ts";
import { loadSequence } from "./sequence/sequence-file.ts";
import type { SequenceSummary } from "./sequence/summary.ts";
import type { StudyReport } from "./study/report.ts";
import { runStudy, type StudyEvent } from "./study/run-study.ts";
import { loadStudy } from "./study/study-file.ts";

/** The built-in plugins, loaded through the package's own door: the cluster imports no plugin. */
export async function catalogue(): Promise<Registry> {
  const { builtins } = await import("octavo/plugins");
  return createRegistry(builtins);
}

export async function listPlugins(): Promise<Plugin[]> {
  return (await catalogue()).plugins();
}

export interface RecipeChoice {
  /** `a.b=c`, laid over the recipe in order. */
  set?: readonly string[];
  seed?: number;
}

/** A recipe file with its overrides. Throws RecipeError. */
export function readRecipe(path: string, choice: RecipeChoice = {}): Recipe {
  return loadRecipe(path, overridesOf(choice));
}

/** Everything that can be wrong with a recipe, of form and of meaning, found at once and without allocating a tensor. Throws RecipeError. */
export async function check(path: string, choice: RecipeChoice = {}): Promise<CheckResult> {
  return checkFile(path, await catalogue(), overridesOf(choice));
}

export interface ModelChoice extends RecipeChoice { preset?: PresetName; /** Of a preset: pages between forward and backward at once. Default 1. */ pages?: number }

/** Parameters, operations per page and bytes per rank of a preset or a recipe, without allocating a weight. Throws RecipeError, or ERR_INPUT unless exactly one is named. */
export async function describeModel(path: string | undefined, { preset, pages, ...choice }: ModelChoice = {}): Promise<ModelReport> {
  if ((path === undefined) === (preset === undefined)) {
    throw new RuntimeError("ERR_INPUT", `model: expected a recipe or a preset, got ${path === undefined ? "neither" : "both"}. Name a recipe file, or --preset ${presetNames.join("|")}; a recipe names its own preset.`);
  }
  return preset === undefined ? recipeReport(await check(path!, choice)) : presetReport(preset, await catalogue(), pages);
}

export interface PlanRecipeChoice extends RecipeChoice {
  /** A schedule by name, or a .csv; default: the recipe's. */
  schedule?: string;
  microbatches?: number;
  ranks?: number;
  /** Bytes that a rank may need. */
  memory?: number;
  /** Measure what components cost here, instead of estimating it. */
  profile?: boolean;
  /** Cut the components that learn into so many stages, by cost, in place of the recipe's `stages`. */
  cut?: number;
}

/** A recipe on paper: ranks, memory, bubble; with costs measured or estimated, its stages or others. Throws RecipeError, ERR_SCHEDULE, ERR_PLAN. */
export async function plan(path: string, { schedule, microbatches, ranks, memory, profile, cut, ...choice }: PlanRecipeChoice = {}): Promise<{ checked: CheckResult; found: RecipePlan }> {
  // the recipe is checked with a schedule that any number of microbatches and ranks has: the one asked for is judged by the plan
  const set = [...(choice.set ?? []), ...(microbatches === undefined ? [] : [`train.microbatches=${microbatches}`]), ...(schedule === undefined ? [] : ["train.schedule=fill-drain"])];
  let checked = await check(path, { ...choice, set });
  const measured = profile ? await profileRecipe(checked) : undefined;
  if (cut !== undefined) checked = await check(path, { ...choice, set: [...set, `stages=${JSON.stringify(stagesByCost(checked, cut, measured))}`] });
  return { checked, found: planRecipe(checked, { ...(schedule === undefined ? {} : scheduleNamed(schedule, process.cwd())), ...(ranks === undefined ? {} : { ranks }), memory, profile: measured }) };
}

const overridesOf = ({ set = [], seed }: RecipeChoice): string[] => (seed === undefined ? [...set] : [...set, `seed=${seed}`]);

export interface RunPlace {
  /** One process, the reference; `stages` of the recipe are ignored. */
  inProcess?: boolean;
  /** A cluster file: workers run under its agents. */
  on?: string;
  /** Wanted lane between processes; without it each link takes the best that both ends offer. */
  lane?: string;
  /** Threads per process; else as the recipe says. */
  threads?: number;
}

export interface TrainChoice extends RecipeChoice, RunPlace {
  /** A checkpoint, or a run folder: its latest. */
  resume?: string;
  /** Trace so many steps into `trace.json` of the run folder. */
  trace?: number;
  /** Where run folders are made; default `runs`. */
  runs?: string;
  onEvent?: (event: RunEvent) => void;
  /** Aborted: the run saves a checkpoint after the current step and ends with reason "stopped". */
  signal?: AbortSignal;
}

/** Trains a recipe in a run folder of its own. Throws RecipeError before anything starts, ERR_RUN when a part fails. */
export async function train(path: string, choice: TrainChoice = {}): ReturnType<typeof trainRecipe> {
  const registry = await catalogue();
  const { recipe } = await checkFile(path, registry, overridesOf(choice));
  if (choice.resume !== undefined) findCheckpoint(choice.resume); // what is wrong so far leaves no run folder behind
  const runFolder = createRunFolder(choice.runs ?? "runs", recipe.name, new Date()).path;
  return trainIn(recipe, registry, runFolder, choice);
}

/** Where the time of a run's traced steps went. `path`: the run folder, or a trace. Throws ERR_INPUT. */
export function explain(path: string): Explanation {
  const file = existsSync(path) && statSync(path).isDirectory() ? join(path, traceFile) : path;
  if (!existsSync(file)) throw new RuntimeError("ERR_INPUT", `explain: expected a trace, found nothing at ${file}. Trace some steps of a run: octavo train RECIPE --trace.`, { path: file });
  return explainTrace(readTrace(readFileSync(file, "utf8"), file));
}

/** The same of a sequence of recipes, and whether its stages fit each other. Throws RecipeError with the mistakes of all stages. */
export async function checkStages(path: string, choice: RecipeChoice = {}): Promise<CheckedSequence> {
  return checkSequence(loadSequence(path, overridesOf(choice)), await catalogue());
}

export interface TrainStagesChoice extends Omit<TrainChoice, "onEvent"> {
  /** The folder of a stopped sequence: finished stages are kept, the interrupted one goes on from its newest checkpoint. */
  resume?: string;
  onEvent?: (event: SequenceEvent) => void;
  onRunEvent?: (event: RunEvent, stage: string) => void;
}

/** Trains the recipes of a sequence one after another, in one folder; gives the summary, or undefined when stopped before the end. */
export async function trainStages(path: string, choice: TrainStagesChoice = {}): Promise<SequenceSummary | undefined> {
  const registry = await catalogue();
  const checked = await checkSequence(loadSequence(path, overridesOf(choice)), registry);
  if (choice.resume !== undefined && !existsSync(join(choice.resume, "state.json"))) {
    throw new RuntimeError("ERR_INPUT", `${choice.resume}: no sequence was begun here: expected a state.json. Give the folder that the sequence's run named.`, { path: choice.resume });
  }
  return runSequence(checked, {
    // absolute: recipes find checkpoints wherever they lie themselves
    folder: resolve(choice.resume ?? createRunFolder(choice.runs ?? "runs", checked.sequence.name, new Date()).path),
    train: (recipe, { runFolder, resume, onEvent, signal }) => trainIn(recipe, registry, runFolder, { ...choice, resume, onEvent, signal }),
    onEvent: choice.onEvent, onRunEvent: choice.onRunEvent, signal: choice.signal,
  });
}

async function trainIn(recipe: Recipe, registry: Registry, runFolder: string, choice: TrainChoice): ReturnType<typeof trainRecipe> {
  const launcher = await launcherFor(choice);
  try {
    return await trainRecipe(recipe, {
      runFolder, registry, launcher, inProcess: choice.inProcess ?? false, lane: choice.lane, threads: choice.threads, resume: choice.resume, trace: choice.trace,
      onEvent: choice.onEvent ?? (() => {}), signal: choice.signal ?? new AbortController().signal,
    });
  } finally {
    await launcher.close();
  }
}

async function launcherFor({ inProcess, on }: RunPlace): Promise<Launcher> {
  if (on === undefined) return localLauncher();
  if (inProcess) throw new RuntimeError("ERR_INPUT", "--in-process and --on exclude each other: one process needs no cluster.");
  return clusterLauncher(loadClusterFile(on));
}

export interface AblateChoice extends RunPlace {
  /** The study's folder, where a stopped study continues; default `runs/study-<name>`. */
  folder?: string;
  onEvent?: (event: StudyEvent) => void;
  onRunEvent?: (event: RunEvent, run: { arm: string; seed: number }) => void;
  signal?: AbortSignal;
}

/** Runs a study to its report; undefined when stopped before. Every recipe is checked before the first run starts. */
export async function ablate(path: string, choice: AblateChoice = {}): Promise<StudyReport | undefined> {
  const study = loadStudy(path);
  const registry = await catalogue();
  return runStudy(study, {
    folder: choice.folder ?? join("runs", `study-${study.name}`),
    check: (recipe) => checkRecipe(recipe, registry),
    async train(recipe, { runFolder, onEvent, signal }) {
      const result = await trainIn(recipe, registry, runFolder, { ...choice, onEvent, signal });
      if (result.reason !== "finished" || study.metric === "loss" || recipe.evaluate?.every !== undefined) return; // then the run has done it
      onEvent(evaluationEvent(await evaluateCheckpoint(result.checkpoint!, { registry, threads: choice.threads, signal })));
    },
    onEvent: choice.onEvent, onRunEvent: choice.onRunEvent, signal: choice.signal,
  });
}

export interface PageChoice { /** Word JSON of an image; default: beside it, with its name. */ words?: string; threads?: number; signal?: AbortSignal }
export interface AskChoice extends PageChoice, StreamOptions { /** A picture of the page with the answer's boxes. */ out?: string }

/** Asks a checkpoint about one page: an image with its word JSON, or a PDF with a text layer. */
export async function ask(checkpoint: string, page: string, prompt: string, choice: AskChoice = {}): ReturnType<typeof answer> {
  const found = await answer(checkpoint, page, prompt, { ...choice, registry: await catalogue() });
  if (choice.out !== undefined) {
    const { writePageWithBoxes } = await import("octavo/plugins");
    await writePageWithBoxes(choice.out, found.page.image!, found.boxes);
  }
  return found;
}

/** How likely each answer of a closed list is, the likeliest first. */
export async function choose(checkpoint: string, page: string, prompt: string, choices: readonly string[], choice: PageChoice = {}): ReturnType<typeof chooseAnswer> {
  return chooseAnswer(checkpoint, page, prompt, choices, { ...choice, registry: await catalogue() });
}

export interface EvaluateChoice { /** The same components as they start: what a trained model is compared with. */ untrained?: boolean; /** Longest answer. */ maxTokens?: number; limit?: number; threads?: number; set?: readonly string[]; signal?: AbortSignal }

/** Scores of a checkpoint on the pages its recipe holds out. */
export async function evaluate(checkpoint: string, choice: EvaluateChoice = {}): ReturnType<typeof evaluateCheckpoint> {
  return evaluateCheckpoint(checkpoint, { ...choice, registry: await catalogue() });
}
