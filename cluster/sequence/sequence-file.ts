/** A sequence: recipes that train one after another, each starting from what those before saved. One YAML file. */
import { readFileSync } from "node:fs";
import { basename, dirname, extname, resolve } from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import { RuntimeError, type Place } from "../../runtime/index.ts";
import { readPlacedYamlFile } from "../yaml-file.ts";

const name = z.string().regex(/^[A-Za-z][A-Za-z0-9_-]*$/, "expected letters, digits, - and _, a letter first");

const stage = z.strictObject({
  recipe: z.string().min(1),
  /** Default: the recipe's file name. */
  name: name.optional(),
  /** Component -> the stage it is taken from, or the path of a checkpoint. What is not named starts afresh. */
  from: z.record(z.string(), z.string().min(1)).default({}),
  /** Overrides of the recipe: dotted path -> value, as with `--set`. */
  set: z.record(z.string(), z.unknown()).default({}),
});

const sequence = z.strictObject({ name: name.optional(), stages: z.array(stage).min(1) });

export interface SequenceStage {
  name: string;
  /** Absolute. */
  recipe: string;
  from: Record<string, string>;
  overrides: string[];
}

export interface Sequence {
  name: string;
  file: string;
  stages: SequenceStage[];
  place(keys: readonly (string | number)[]): Place;
}

/** Keys of a recipe, with which overrides of every stage begin: no stage is called so. */
const recipeKeys = ["name", "seed", "preset", "base", "components", "stages", "train", "evaluate", "trackers"];

/** Whether a file is a sequence rather than a recipe: its stages are a list. A file that cannot be read is neither. */
export function isSequence(file: string): boolean {
  try {
    return Array.isArray((parse(readFileSync(file, "utf8"), { logLevel: "error" }) as { stages?: unknown } | null)?.stages);
  } catch {
    return false; // what is wrong with it is said when it is read as a recipe
  }
}

/**
 * Reads a sequence. `set`: overrides; one that begins with a stage's name is that stage's (`s1.train.steps=10`), the others are for all.
 * Throws ERR_INPUT with every mistake of form.
 */
export function loadSequence(file: string, set: readonly string[] = []): Sequence {
  const { value, place } = readPlacedYamlFile(file, sequence, ["name", "stages", "recipe", "from", "set"]);
  const names = value.stages.map((one) => one.name ?? basename(one.recipe, extname(one.recipe)));
  names.forEach((one, i) => {
    const { line, column } = place(["stages", i, value.stages[i].name === undefined ? "recipe" : "name"]);
    const refuse = (what: string) => { throw new RuntimeError("ERR_INPUT", `${file}:${line}:${column}: stages.${i}: ${what}`, { file, stage: one }); };
    if (!name.safeParse(one).success) refuse(`"${one}" is no name of a stage (letters, digits, - and _, a letter first). Give it one: name: ...`);
    if (names.indexOf(one) !== i) refuse(`two stages are called ${one}. Give one of them another name: ...`);
    if (recipeKeys.includes(one)) refuse(`a stage cannot be called ${one}: overrides of all stages begin so. Give it another name: ...`);
  });
  const own = (override: string): string | undefined => names.find((one) => override.startsWith(`${one}.`));
  return {
    name: value.name ?? basename(file, extname(file)).replace(/[^A-Za-z0-9_-]/g, "-"), file, place,
    stages: value.stages.map((one, i) => ({
      name: names[i], recipe: resolve(dirname(file), one.recipe), from: one.from,
      overrides: [
        ...Object.entries(one.set).map(([path, set]) => `${path}=${JSON.stringify(set)}`),
        ...set.flatMap((override) => {
          const owner = own(override);
          return owner === undefined ? [override] : owner === names[i] ? [override.slice(owner.length + 1)] : [];
        }),
      ],
    })),
  };
}
