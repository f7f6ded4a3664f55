import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { type Manifest, findCheckpoint, readManifest } from "../checkpoint/index.ts";
import { RuntimeError } from "../errors.ts";
import { type CheckResult, checkRecipe } from "../pipeline/plan/check.ts";
import { type StageModel, loadStageModel } from "../pipeline/run/model.ts";
import { choosePrecision } from "../pipeline/recipe/precision.ts";
import { type Recipe, parseRecipe } from "../pipeline/recipe/recipe.ts";
import type { Registry } from "../plugin/index.ts";
import { fastBf16 } from "../tensor/index.ts";

export interface OpenOptions {
  registry: Registry;
  threads?: number;
  /** Overrides of the checkpoint's recipe. */
  set?: readonly string[];
  /** Ignore the stored values: the same components as they start. What a trained model is compared with. */
  untrained?: boolean;
}

/** A checkpoint with all its components in this process. Close it. */
export interface TrainedModel { folder: string; manifest: Manifest; checked: CheckResult; model: StageModel; close(): Promise<void> }

/** `path`: a checkpoint, a `checkpoints` folder or a run folder (its latest). Throws ERR_CHECKPOINT or RecipeError. */
export async function openTrained(path: string, o: OpenOptions): Promise<TrainedModel> {
  const folder = findCheckpoint(path);
  const manifest = readManifest(folder);
  const recipe = recipeOf(folder, o.set);
  delete recipe.train.from; // its values are in this checkpoint; the one it started from may be gone
  // its own tokenizer, wherever the one it was trained with may be now
  const copies = new Map(Object.entries(manifest.files ?? {}).map(([path, name]) => [path, join(folder, name)]));
  const checked = await checkRecipe(recipe, o.registry, [], copies);
  const { precision } = choosePrecision(recipe.train.precision, [{ name: "this machine", fastBf16: fastBf16() }]);
  const model = await loadStageModel(checked, {
    seed: manifest.seed, precision, threads: o.threads ?? cpus().length, openData: false,
    load: o.untrained ? undefined : { checkpoint: folder, optimizer: false },
  });
  return { folder, manifest, checked, model, close: () => model.close() };
}

/** The recipe that a checkpoint was trained with, its precision decided. Throws ERR_CHECKPOINT when it is missing. */
export function recipeOf(checkpoint: string, overrides?: readonly string[]): Recipe {
  const file = join(checkpoint, "recipe.yaml");
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (cause) {
    throw new RuntimeError("ERR_CHECKPOINT", `${file}: cannot be read. A checkpoint carries the recipe it was trained with; this one is incomplete.`, { path: file }, { cause });
  }
  return parseRecipe(text, file, overrides);
}
