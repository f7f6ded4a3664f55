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
import { keysOf, problemsOf } from "../../plugin/options.ts";
import type { Locate, RecipeProblem } from "../../plugin/problem.ts";
import { RecipeError, describeValue, problem } from "../../plugin/problem.ts";
import { precisions } from "../../tensor/index.ts";
import { presetNames, presetOptions } from "./presets.ts";
import type { RecipeSource, Written } from "./source.ts";
import { applyOverrides, placeOf, readSource } from "./source.ts";

const name = z.string().regex(/^[A-Za-z][A-Za-z0-9_-]*$/, "letters, digits, - and _, a letter first");
const use = z.string().min(1);
const plugin = z.strictObject({ use, options: z.record(z.string(), z.unknown()).default({}) });

/** Along which axes a process is copied or split; a rank for every place. */
const layout = z.strictObject({
  /** Copies, each with its share of the microbatches. */
  data: z.int().min(1).default(1),
  /** Ranks that share out the weights of a copy. */
  tensor: z.int().min(1).default(1),
  /** Ranks that share out the sequence. */
  context: z.int().min(1).default(1),
});

const component = z.strictObject({
  use,
  options: z.record(z.string(), z.unknown()).default({}),
  /** In place of the recipe's, as a whole. */
  layout: layout.optional(),
  /** Outputs that travel between processes as bf16, and the gradients that come back for them: half the bytes, other bits than one process has. */
  compress: z.array(z.string()).optional(),
  /** Input port -> "component.port". */
  in: z.record(z.string(), z.string()).default({}),
});

const train = z.strictObject({
  steps: z.int().min(0).default(50),
  /** Pages per step, over all microbatches. */
  batch: z.int().min(1).default(16),
  microbatches: z.int().min(1).default(4),
  /** "1f1b", "fill-drain", "interleaved", "zb-h1", or the path of a schedule as CSV. */
  schedule: z.string().default("1f1b"),
  /** Stages with a backward are dealt round to so many processes; absent: one each. */
  ranks: z.int().min(1).optional(),
  /** What data copies share out and do not hold each: 1 the optimizer's state, 2 gradients too, 3 parameters too. */
  zero: z.int().min(0).max(3).default(0),
  /** block: a block of layers keeps its input only, and runs again when its gradient comes. */
  recompute: z.enum(["none", "block"]).default("none"),
  /** Members of a tensor group share out the tokens between their products: norms and residuals are neither computed nor remembered several times. */
  sequence_parallel: z.boolean().default(false),
  /** Largest norm of the whole gradient; 0 leaves it as it is. */
  clip: z.number().min(0).default(1),
  /** Threads per process; auto shares the cores of the host out. */
  threads: z.union([z.literal("auto"), z.int().min(1)]).default("auto"),
  /** What activations are stored in; auto: bf16 where every process has fast bf16, else f32. Parameters and losses are f32. */
  precision: z.enum([...precisions, "auto"]).default("f32"),
  /** auto: in one process, a step whose shapes were seen before is replayed natively, to the same bits. off: never. */
  compile: z.enum(["auto", "off"]).default("auto"),
  optimizer: z.strictObject({ use: use.default("optimizer/adamw"), options: z.record(z.string(), z.unknown()).default({}) }).prefault({}),
  checkpoint: z.strictObject({ every: z.int().min(1).optional(), keep: z.int().min(1).default(2) }).prefault({}),
  /** Where parameters start: a checkpoint for all components, by name; or component -> checkpoint, the others start afresh. */
  from: z.union([z.string(), z.record(name, z.string())]).optional(),
});

export const recipeSchema = z.strictObject({
  name: name.optional(),
  seed: z.int().min(0).default(1),
  /** Options of every component for a model of this size (`presets.ts`); what a component itself says wins. */
  preset: z.enum(presetNames).optional(),
  /** The folder that relative paths start at; the recipe's own when absent. */
  base: z.string().optional(),
  components: z.record(name, component),
  /** Of every component that learns and has none of its own. */
  layout: layout.prefault({}),
  /** Process -> its components. Absent: the data loader in one, everything else in another. */
  stages: z.record(name, z.array(z.string()).min(1)).optional(),
  train: train.prefault({}),
  evaluate: z.strictObject({
    /** What scores generated answers; without one an evaluation is losses and accuracies. */
    evaluator: plugin.optional(),
    /** Held-out pages or questions at most. */
    limit: z.int().min(1).optional(),
    /** Evaluate while training: after so many steps, and after the last. Absent: when asked. */
    every: z.int().min(1).optional(),
  }).optional(),
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

/** What could be understood of a recipe, and what is wrong with its form. Without YAML or a map there is no recipe. */
export interface ReadRecipe { recipe: Recipe | undefined; problems: RecipeProblem[] }

/** Reads a recipe file. Throws RecipeError with every mistake of form, also when the file cannot be read. */
export function loadRecipe(path: string, overrides: readonly string[] = []): Recipe {
  return sound(path, readRecipe(readText(path), path, overrides));
}

export function parseRecipe(text: string, file: string, overrides: readonly string[] = []): Recipe {
  return sound(file, readRecipe(text, file, overrides));
}

function sound(file: string, { recipe, problems }: ReadRecipe): Recipe {
  if (recipe === undefined || problems.length > 0) throw new RecipeError(file, problems);
  return recipe;
}

export function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    throw new RecipeError(path, [problem({ file: path, line: 0, column: 0 }, "", {
      expected: "a readable recipe", found: code === "ENOENT" ? "no such file" : code === "EISDIR" ? "a folder" : (code ?? String(cause)), fix: "Check the path.",
    })], { cause });
  }
}

/** Never throws for a mistake: what is wrong is left out of the recipe, so that the rest can be checked too. */
export function readRecipe(text: string, file: string, overrides: readonly string[] = []): ReadRecipe {
  const read = readSource(text, file);
  if (read.tree === undefined && read.problems.length > 0) return { recipe: undefined, problems: read.problems };
  const written = applyOverrides(read, overrides, recipeSchema);
  const parsed = recipeSchema.safeParse(written.tree);
  if (parsed.success) return { recipe: resolved(parsed.data, written, overrides), problems: written.problems };
  const problems = [...written.problems, ...shapeProblems(parsed.error, written)];
  const rest = recipeSchema.safeParse(withoutFaults(written.tree, parsed.error));
  return { recipe: rest.success ? resolved(rest.data, written, overrides) : undefined, problems };
}

/** `use` of an entry that is too broken to be looked up; its mistake is already named. */
export const unreadableUse = "?";

function withoutFaults(tree: unknown, error: z.ZodError): unknown {
  const copy = structuredClone(tree);
  for (const issue of error.issues) {
    for (const path of issue.code === "unrecognized_keys" ? issue.keys.map((key) => [...issue.path, key]) : [issue.path]) drop(copy, path as (string | number)[]);
  }
  return copy;
}

function drop(tree: unknown, path: (string | number)[]): void {
  // half a list of stages or trackers would lead to mistakes that nobody made
  const cut = path[0] === "stages" || path[0] === "trackers" || path[0] === "evaluate" ? path.slice(0, 1) : path;
  let at = tree as Record<string | number, unknown>;
  for (const step of cut.slice(0, -1)) {
    at = at?.[step] as typeof at;
    if (typeof at !== "object" || at === null) return;
  }
  const last = cut[cut.length - 1];
  if (cut[0] === "components" && cut.length === 2) at[last] = { use: unreadableUse };
  else if (cut[0] === "components" && cut.length === 3 && last === "use") at.use = unreadableUse;
  else if (last !== undefined) delete at[last];
}

function resolved(data: z.output<typeof recipeSchema>, { source }: Written, overrides: readonly string[]): Recipe {
  const { base, name: named, ...rest } = data;
  const { file } = source;
  const own = dirname(resolve(file));
  const sizes = rest.preset === undefined ? {} : presetOptions(rest.preset);
  const components = Object.fromEntries(Object.entries(rest.components).map(([component, entry]) => [component, { ...entry, options: { ...sizes[entry.use], ...entry.options } }]));
  return {
    ...rest, components, file, overrides: [...overrides], source,
    name: named ?? (basename(file, extname(file)).replace(/[^A-Za-z0-9_-]/g, "-").replace(/^[^A-Za-z]+/, "") || "recipe"),
    folder: base === undefined ? own : resolve(own, base),
  };
}

/** For messages about a recipe: where a path is written. */
export const locateIn = (recipe: { source: RecipeSource }): Locate => (path, part) => placeOf(recipe.source, path, part);

/** The resolved recipe as YAML: what a run folder and a checkpoint keep. */
export function formatRecipe(recipe: Recipe): string {
  const { file: _file, folder, overrides, source: { removed }, name: named, components, ...rest } = recipe;
  const heading = overrides.length === 0 ? "" : overrides.map((o) => `# --set ${o.replaceAll("\n", " ")}\n`).join("");
  return heading + stringify({ name: named, base: folder, components: withoutInputsFrom(removed, components), ...rest }, { lineWidth: 140 });
}

/** An input that a removed component fed stays open: what a check allowed holds when the resolved recipe is read again. */
function withoutInputsFrom(removed: Readonly<Record<string, unknown>>, components: Recipe["components"]): Recipe["components"] {
  return Object.fromEntries(Object.entries(components).map(([name, entry]) =>
    [name, { ...entry, in: Object.fromEntries(Object.entries(entry.in).filter(([, from]) => !Object.hasOwn(removed, from.split(".")[0]))) }]));
}

function shapeProblems(error: z.ZodError, { tree, source }: Written): RecipeProblem[] {
  if (tree === null || typeof tree !== "object" || Array.isArray(tree) || Object.keys(tree).length === 0) {
    return [problem({ file: source.file, line: 1, column: 1 }, "", {
      expected: `a recipe: a map with ${keysOf(recipeSchema).join(", ")}`, found: describeValue(tree), fix: "Start from examples/tiny.yaml.",
    })];
  }
  return problemsOf(error, { schema: recipeSchema, value: tree, at: [], locate: (path, part) => placeOf(source, path, part), owner: "a recipe", noun: "key" });
}
