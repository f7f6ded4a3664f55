/**
 * A recipe: which components, how they are wired, in which processes they live, how they are trained. One readable YAML file.
 *
 * RC-1: a loaded recipe is plain data, complete: every default is filled, relative paths start at `folder`.
 * RC-2: all mistakes of form are reported at once (`RecipeError`), each with file, line and column, or with its `--set`.
 * RC-3: `formatRecipe` writes a recipe that loads to the same recipe, from any folder.
 */
import { readFileSync } from "node:fs";
import { basename, dirname, extname, resolve } from "node:path";
import { stringify } from "yaml";
import { z } from "zod";
import { keysOf, problemsOf } from "../plugin/options.ts";
import type { Locate, RecipeProblem } from "../plugin/problem.ts";
import { RecipeError, describeValue, problem } from "../plugin/problem.ts";
import type { RecipeSource, Written } from "./source.ts";
import { applyOverrides, placeOf, readSource } from "./source.ts";

const name = z.string().regex(/^[A-Za-z][A-Za-z0-9_-]*$/, "letters, digits, - and _, a letter first");
const use = z.string().min(1);
const plugin = z.strictObject({ use, options: z.record(z.string(), z.unknown()).default({}) });

const component = z.strictObject({
  use,
  options: z.record(z.string(), z.unknown()).default({}),
  /** Input port -> "component.port". */
  in: z.record(z.string(), z.string()).default({}),
});

const train = z.strictObject({
  steps: z.int().min(0).default(50),
  /** Pages per step, over all microbatches. */
  batch: z.int().min(1).default(16),
  microbatches: z.int().min(1).default(4),
  /** "1f1b", "fill-drain", or the path of a schedule as CSV. */
  schedule: z.string().default("1f1b"),
  /** Largest norm of the whole gradient; 0 leaves it as it is. */
  clip: z.number().min(0).default(1),
  /** Threads per process; auto shares the cores of the host out. */
  threads: z.union([z.literal("auto"), z.int().min(1)]).default("auto"),
  optimizer: plugin.default({ use: "optimizer/adamw", options: {} }),
  checkpoint: z.strictObject({ every: z.int().min(1).optional(), keep: z.int().min(1).default(2) }).default({ keep: 2 }),
  /** A checkpoint whose parameters are the starting point. */
  from: z.string().optional(),
});

export const recipeSchema = z.strictObject({
  name: name.optional(),
  seed: z.int().min(0).default(1),
  precision: z.enum(["f32"]).default("f32"),
  preset: z.enum(["tiny"]).optional(),
  /** The folder that relative paths start at; the recipe's own when absent. */
  base: z.string().optional(),
  components: z.record(name, component),
  /** Process -> its components. Absent: the data loader in one, everything else in another. */
  stages: z.record(name, z.array(z.string()).min(1)).optional(),
  train: train.prefault({}),
  evaluate: z.strictObject({ evaluator: plugin, limit: z.int().min(1).optional(), every: z.int().min(1).optional() }).optional(),
  trackers: z.array(plugin).default([]),
});

export type PluginUse = z.output<typeof plugin>;
export type ComponentEntry = z.output<typeof component>;

export interface Recipe extends Omit<z.output<typeof recipeSchema>, "name" | "base"> {
  name: string;
  /** As given, for messages. */
  file: string;
  /** Absolute; relative paths start here. */
  folder: string;
  overrides: string[];
  source: RecipeSource;
}

/** Reads a recipe file. Throws RecipeError with every mistake of form; ERR_RECIPE too when the file cannot be read. */
export function loadRecipe(path: string, overrides: readonly string[] = []): Recipe {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    throw new RecipeError(path, [problem({ file: path, line: 0, column: 0 }, "", {
      expected: "a readable recipe", found: code === "ENOENT" ? "no such file" : `${code ?? String(cause)}`, fix: "Check the path.",
    })], { cause });
  }
  return parseRecipe(text, path, overrides);
}

export function parseRecipe(text: string, file: string, overrides: readonly string[] = []): Recipe {
  const read = readSource(text, file);
  if (read.tree === undefined && read.problems.length > 0) throw new RecipeError(file, read.problems); // not YAML: nothing else to say
  const written = applyOverrides(read, overrides, recipeSchema);
  const parsed = recipeSchema.safeParse(written.tree);
  if (!parsed.success) throw new RecipeError(file, [...written.problems, ...shapeProblems(parsed.error, written)]);
  if (written.problems.length > 0) throw new RecipeError(file, written.problems);
  const { base, name: named, ...rest } = parsed.data;
  return {
    ...rest, file, overrides: [...overrides], source: written.source,
    name: named ?? (basename(file, extname(file)).replace(/[^A-Za-z0-9_-]/g, "-").replace(/^[^A-Za-z]+/, "") || "recipe"),
    folder: base === undefined ? dirname(resolve(file)) : resolve(dirname(resolve(file)), base),
  };
}

/** For messages about a recipe: where a path is written. */
export const locateIn = (recipe: { source: RecipeSource }): Locate => (path, part) => placeOf(recipe.source, path, part);

/** The resolved recipe as YAML: what a run folder and a checkpoint keep. */
export function formatRecipe(recipe: Recipe): string {
  const { file: _file, folder, overrides, source: _source, name: named, ...rest } = recipe;
  const heading = overrides.length === 0 ? "" : overrides.map((o) => `# --set ${o.replaceAll("\n", " ")}\n`).join("");
  return heading + stringify({ name: named, base: folder, ...rest }, { lineWidth: 140 });
}

function shapeProblems(error: z.ZodError, { tree, source }: Written): RecipeProblem[] {
  if (tree === null || typeof tree !== "object" || Array.isArray(tree) || Object.keys(tree).length === 0) {
    return [problem({ file: source.file, line: 1, column: 1 }, "", {
      expected: `a recipe: a map with ${keysOf(recipeSchema).join(", ")}`, found: describeValue(tree), fix: "Start from examples/tiny.yaml.",
    })];
  }
  return problemsOf(error, { schema: recipeSchema, value: tree, at: [], locate: (path, part) => placeOf(source, path, part), owner: "a recipe", noun: "key" });
}
