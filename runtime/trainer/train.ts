import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, parse, resolve } from "node:path";
import { cpus } from "node:os";
import { type Manifest, commitCheckpoint, findCheckpoint, manifestVersion, readManifest } from "../checkpoint/index.ts";
import { RuntimeError, toFailure } from "../errors.ts";
import { type CheckResult, checkRecipe } from "../pipeline/plan/check.ts";
import type { Launcher } from "../pipeline/run/launcher.ts";
import type { Load } from "../pipeline/run/model.ts";
import { type Recipe, formatRecipe } from "../pipeline/recipe/recipe.ts";
import { startPipeline } from "../pipeline/run/run.ts";
import type { StepOutcome, StepRunner } from "../pipeline/run/step-runner.ts";
import { formatTrace, traceFile, traceOf } from "../pipeline/run/trace.ts";
import type { DataLoader, ProcessStats, Registry, RunEvent, Tracker } from "../plugin/index.ts";
import { createHost } from "../plugin/index.ts";
import { withPrecision } from "../pipeline/recipe/precision.ts";
import { evaluate, evaluationEvent } from "./evaluate.ts";
import { startInProcess } from "./in-process.ts";
import { type RunFolder, openRunFolder } from "./run-folder.ts";
import { recipeOf } from "./trained-model.ts";

export interface TrainOptions {
  /** An existing, empty folder: `createRunFolder`. */
  runFolder: string;
  registry: Registry;
  /** Everything in this process. Else one process per stage, started by `launcher`. */
  inProcess?: boolean;
  launcher?: Launcher;
  /** Force a lane: "shared-memory" or "zeromq". Default: the best both ends offer. */
  lane?: string;
  /** Threads of this process when `inProcess`; of each worker otherwise. Default: the recipe's. */
  threads?: number;
  /** A checkpoint, `checkpoints` folder or run folder to go on from. */
  resume?: string;
  /** Trace so many steps, the first few left out: `trace.json` in the run folder. */
  trace?: number;
  onEvent?(event: RunEvent): void;
  /** Aborting asks for a stop after the current step; a checkpoint is saved first. */
  signal?: AbortSignal;
}

export interface RunResult {
  reason: "finished" | "stopped";
  /** Steps finished in all, those before a resume included. */
  step: number;
  losses: number[];
  runFolder: string;
  first?: StepOutcome;
  last?: StepOutcome;
  checkpoint?: string;
  seconds: number;
  stats: Record<string, ProcessStats>;
}

/**
 * Trains a recipe: builds what runs it, steps, saves, tells everybody. `recipe.seed` decides everything random.
 * Throws RecipeError before anything is started; ERR_RUN when a part of the run fails; ERR_CHECKPOINT when saving fails (the
 * checkpoint before stays). Whatever happens, no process is left behind.
 */
export async function train(recipe: Recipe, o: TrainOptions): Promise<RunResult> {
  const checked = await checkRecipe(o.threads === undefined ? recipe : { ...recipe, train: { ...recipe.train, threads: o.threads } }, o.registry);
  return new Training(checked, o).run();
}

class Training {
  readonly #started = performance.now();
  readonly #folder: RunFolder;
  readonly #trackers: Tracker[];
  readonly #resumed: { path: string; manifest: Manifest } | undefined;
  readonly #losses: number[] = [];
  /** Read when the run starts: a file changed meanwhile is not the one it trains with. */
  readonly #modelFiles: readonly ModelFile[];
  #checkpoint: string | undefined;
  /** Steps finished. */
  #at: number;
  #first: StepOutcome | undefined;
  #last: StepOutcome | undefined;
  #trainedMs = 0;
  #pages = 0;

  constructor(private checked: CheckResult, private readonly o: TrainOptions) {
    this.#folder = openRunFolder(o.runFolder);
    this.#modelFiles = readModelFiles(checked);
    const host = createHost(o.registry, { folder: checked.recipe.folder, seed: checked.recipe.seed, runFolder: o.runFolder });
    this.#trackers = withJsonLines(checked, o.registry).map(({ plugin, options }) => plugin.create(options, host) as Tracker);
    if (o.resume !== undefined) {
      const path = findCheckpoint(o.resume);
      this.#resumed = { path, manifest: readManifest(path) };
      // A run that goes on computes as it did before, also on another machine.
      if (checked.recipe.train.precision === "auto") this.checked = { ...checked, recipe: withPrecision(checked.recipe, recipeOf(path).train.precision) };
    }
    this.#at = this.#resumed?.manifest.step ?? 0;
  }

  async run(): Promise<RunResult> {
    this.#writeRecipe();
    let runner: StepRunner | undefined;
    try {
      runner = await this.#start();
      this.checked = { ...this.checked, recipe: withPrecision(this.checked.recipe, runner.precision) };
      this.#writeRecipe();
      this.#announce(runner);
      await this.#train(runner);
      const stats = await runner.stats();
      const done = runner;
      runner = undefined;
      await done.close(); // an evaluation after the last step has the machine to itself
      return await this.#end(stats);
    } catch (error) {
      this.#fail(error);
      throw error;
    } finally {
      await runner?.close();
      await Promise.all(this.#trackers.map((tracker) => tracker.close()));
    }
  }

  #writeRecipe(): void {
    writeFileSync(join(this.o.runFolder, "recipe.yaml"), formatRecipe(this.checked.recipe));
  }

  #start(): Promise<StepRunner> {
    const { recipe } = this.checked;
    const load: Load | undefined = this.#resumed ? { checkpoint: this.#resumed.path, optimizer: true } : startOf(recipe);
    const seed = recipe.seed;
    if (this.o.inProcess) {
      const threads = recipe.train.threads === "auto" ? cpus().length : recipe.train.threads;
      return startInProcess(this.checked, { seed, load, threads });
    }
    if (!this.o.launcher) throw new RuntimeError("ERR_INPUT", "train: a pipeline needs a launcher; give one, or inProcess: true.");
    return startPipeline(this.checked, { launcher: this.o.launcher, runFolder: this.o.runFolder, lane: this.o.lane, seed, load });
  }

  #announce(runner: StepRunner): void {
    const { recipe } = this.checked;
    for (const message of [...this.checked.warnings, ...runner.warnings]) this.#tell({ event: "warning", message });
    this.#tell({ event: "start", run: recipe.name, runFolder: this.o.runFolder, seed: recipe.seed, precision: runner.precision, steps: recipe.train.steps, parameters: runner.parameters, processes: runner.processes });
    if (runner.links.length > 0) this.#tell({ event: "links", links: runner.links });
  }

  async #train(runner: StepRunner): Promise<void> {
    const { train: { steps, checkpoint }, evaluate: { every } = {} } = this.checked.recipe;
    const from = this.#at;
    const traced = tracedSteps(from, steps, this.o.trace ?? 0);
    while (this.#at < steps && !this.o.signal?.aborted) {
      const step = this.#at++, trace = step >= traced.from && step < traced.to;
      await this.#step(runner, step, trace);
      if (trace && (step + 1 === traced.to || this.o.signal?.aborted)) await this.#writeTrace(runner, traced.from, step);
      const judged = every !== undefined && this.#at % every === 0;
      if (this.#at === steps || this.o.signal?.aborted || judged || (checkpoint.every && this.#at % checkpoint.every === 0)) await this.#save(runner, this.#at);
      if (judged && this.#at < steps && !this.o.signal?.aborted) await this.#evaluate();
    }
    if (this.#at === from && !this.#resumed) await this.#save(runner, this.#at); // nothing trained: the untrained model is still asked for
  }

  async #end(stats: RunResult["stats"]): Promise<RunResult> {
    const { steps } = this.checked.recipe.train;
    const reason = this.#at < steps ? "stopped" : "finished";
    if (reason === "finished" && this.checked.recipe.evaluate?.every !== undefined) await this.#evaluate();
    this.#tell({ event: "stats", stages: stats });
    const seconds = (performance.now() - this.#started) / 1000;
    this.#tell({ event: "end", reason, step: this.#at, loss: this.#last?.loss, seconds, runFolder: this.o.runFolder, checkpoint: this.#checkpoint });
    return { reason, step: this.#at, losses: this.#losses, runFolder: this.o.runFolder, first: this.#first, last: this.#last, checkpoint: this.#checkpoint, seconds, stats };
  }

  /** Of the last checkpoint, here: an evaluation needs all components, wherever they are trained. Given up where the run is stopped. */
  async #evaluate(): Promise<void> {
    const { threads } = this.checked.recipe.train, { registry, signal } = this.o;
    const checkpoint = this.#checkpoint ?? this.#resumed!.path;
    try {
      this.#tell(evaluationEvent(await evaluate(checkpoint, { registry, threads: threads === "auto" ? undefined : threads, signal })));
    } catch (error) {
      if (!signal?.aborted || error !== signal.reason) throw error;
    }
  }

  async #writeTrace(runner: StepRunner, from: number, to: number): Promise<void> {
    const path = join(this.o.runFolder, traceFile);
    writeFileSync(path, formatTrace(traceOf(this.checked.recipe.name, await runner.spans(), runner.schedule)));
    this.#tell({ event: "trace", path, from, to });
  }

  async #step(runner: StepRunner, step: number, trace: boolean): Promise<void> {
    const begun = performance.now();
    const outcome = await runner.step(step, { trace });
    for (const message of outcome.warnings ?? []) this.#tell({ event: "warning", message });
    if (!Number.isFinite(outcome.loss)) {
      throw new RuntimeError("ERR_RUN", `The run failed at step ${step}: the loss is ${outcome.loss}. The pages of this batch: ${outcome.keys.join(", ")}. Lower the learning rate, or look at these pages.`, { step, keys: outcome.keys });
    }
    this.#trainedMs += performance.now() - begun;
    this.#pages += outcome.pages;
    this.#losses.push(outcome.loss);
    this.#first ??= outcome;
    this.#last = outcome;
    const pagesPerSecond = this.#pages / (this.#trainedMs / 1000);
    const etaSeconds = ((this.checked.recipe.train.steps - step - 1) * outcome.pages) / pagesPerSecond;
    const { loss, losses, norm, learningRate: lr } = outcome;
    this.#tell({ event: "step", step, loss, losses, lr, norm, pagesPerSecond, etaSeconds, samples: outcome.keys });
  }

  async #save(runner: StepRunner, step: number): Promise<void> {
    const root = this.#folder.checkpoints;
    const partial = join(root, `step-${step}.partial`);
    const { recipe, plan } = this.checked;
    try {
      rmSync(partial, { recursive: true, force: true });
      mkdirSync(partial, { recursive: true });
      const tensors = await runner.save(partial);
      writeFileSync(join(partial, "recipe.yaml"), formatRecipe(recipe));
      for (const { name, bytes } of this.#modelFiles) writeFileSync(join(partial, name), bytes, { flush: true });
      this.#checkpoint = commitCheckpoint(root, partial, {
        version: manifestVersion, step, seed: recipe.seed, tensors, recipe: "recipe.yaml", files: Object.fromEntries(this.#modelFiles.map(({ path, name }) => [path, name])),
        ledger: { step, samplesSeen: (this.#resumed?.manifest.ledger.samplesSeen ?? 0) + this.#pages },
        topology: { stages: this.o.inProcess ? { model: this.checked.graph.nodes.map((node) => node.name) } : Object.fromEntries(plan.stages.map((stage) => [stage.name, stage.components])) },
        losses: { first: this.#first?.losses, last: this.#last?.losses },
      }, recipe.train.checkpoint.keep);
    } catch (error) {
      rmSync(partial, { recursive: true, force: true });
      throw error;
    }
    this.#tell({ event: "checkpoint", step, path: this.#checkpoint });
  }

  #fail(error: unknown): void {
    const failure = toFailure(error);
    const { component, process, step } = failure.details as { component?: string; process?: number; step?: number };
    this.#tell({ event: "failure", message: failure.message, failure, component, process: process === undefined ? undefined : String(process), step });
    writeFileSync(join(this.o.runFolder, "failure.json"), JSON.stringify(failure, undefined, 2));
  }

  #tell(event: RunEvent): void {
    this.o.onEvent?.(event);
    for (const tracker of this.#trackers) tracker.event(event);
  }
}

/** Steps left out of a trace: a program is recorded in them, memory grows to its size. */
const warmUpSteps = 4;

function tracedSteps(at: number, steps: number, wanted: number): { from: number; to: number } {
  const from = Math.max(at, Math.min(at + warmUpSteps, steps - wanted));
  return { from, to: Math.min(steps, from + wanted) };
}

/** What `train.from` says, as checkpoints that are there. */
function startOf({ folder, train: { from } }: Recipe): Load | undefined {
  const find = (path: string): string => findCheckpoint(resolve(folder, path));
  if (from === undefined) return undefined;
  if (typeof from === "string") return { checkpoint: find(from), optimizer: false };
  return { components: Object.fromEntries(Object.entries(from).map(([component, path]) => [component, find(path)])) };
}

interface ModelFile { path: string; name: string; bytes: Uint8Array }

/** The files that checkpoints carry, each under its own name, numbered where two have the same. */
function readModelFiles({ graph, loader }: CheckResult): ModelFile[] {
  const component = graph.nodes.find(({ name }) => name === loader)!.component as DataLoader;
  const taken = new Set(["recipe.yaml", "manifest.json"]); // names of the checkpoint's own
  return (component.modelFiles?.() ?? []).map((path) => {
    const { name: stem, ext } = parse(path);
    let name = stem + ext;
    for (let i = 2; taken.has(name); i++) name = `${stem}-${i}${ext}`;
    taken.add(name);
    return { path, name, bytes: readFileSync(path) };
  });
}

/** Every run keeps its events as JSON lines, whether or not the recipe asks for it. */
function withJsonLines({ trackers }: CheckResult, registry: Registry): CheckResult["trackers"] {
  const always = registry.plugins("tracker").find(({ name }) => name === "json-lines");
  if (!always || trackers.some(({ plugin }) => plugin.name === "json-lines")) return trackers;
  return [...trackers, { use: always.id, plugin: always, options: always.options.parse({}) }];
}
