/**
 * Everything that can be wrong with a sequence, before its first step: every mistake of every recipe, and whether each component is in
 * what the stage it comes from will save, in its shape. Nothing needs to be trained for that: names and shapes are known from recipes.
 */
import { existsSync } from "node:fs";
import { dirname, resolve } from "node:path";
import {
  afresh, checkFile, findCheckpoint, fitOf, misfit, nearest, parameterShapes, readManifest, RecipeError, RuntimeError, type CheckResult, type RecipeProblem, type Registry, type Shapes,
} from "../../runtime/index.ts";
import type { Sequence, SequenceStage } from "./sequence-file.ts";

export interface CheckedStage extends SequenceStage {
  checked: CheckResult;
  /** Component -> the stage or the absolute path of a checkpoint that it starts from. */
  sources: Record<string, { stage: string } | { checkpoint: string }>;
  /** What starts afresh in components that are loaded, and what the recipe's own check found. */
  warnings: string[];
}

export interface CheckedSequence { sequence: Sequence; stages: CheckedStage[] }

/** Throws RecipeError with the mistakes of all stages. */
export async function checkSequence(sequence: Sequence, registry: Registry): Promise<CheckedSequence> {
  const problems: RecipeProblem[] = [];
  const before = new Map<string, CheckResult | undefined>();
  const stages: CheckedStage[] = [];
  for (const [i, stage] of sequence.stages.entries()) {
    const checked = await attempt(stage, registry, problems);
    const found = sourcesOf(sequence, i, checked, before, problems);
    if (checked) stages.push({ ...stage, checked, sources: found.sources, warnings: [...checked.warnings, ...found.warnings] });
    before.set(stage.name, checked);
  }
  if (problems.length > 0) throw new RecipeError(sequence.file, problems);
  return { sequence, stages };
}

async function attempt(stage: SequenceStage, registry: Registry, problems: RecipeProblem[]): Promise<CheckResult | undefined> {
  try {
    return await checkFile(stage.recipe, registry, stage.overrides);
  } catch (error) {
    if (!(error instanceof RecipeError)) throw error;
    problems.push(...error.problems);
    return undefined;
  }
}

/** `checked` and values of `before` are undefined where a recipe is wrong: what follows from that is not said again. */
function sourcesOf(sequence: Sequence, i: number, checked: CheckResult | undefined, before: ReadonlyMap<string, CheckResult | undefined>, problems: RecipeProblem[]) {
  const sources: CheckedStage["sources"] = {}, warnings: string[] = [];
  for (const [component, from] of Object.entries(sequence.stages[i].from)) {
    const keys = ["stages", i, "from", component];
    const say = (said: { expected: string; found: string; fix: string }) => void problems.push({ ...sequence.place(keys), where: keys.join("."), ...said });
    const source = sourceOf(sequence, i, from);
    if ("expected" in source) say(source);
    if (!checked) continue;
    const node = checked.graph.nodes.find(({ name }) => name === component);
    if (!node) {
      const names = checked.graph.nodes.map(({ name }) => name), guess = nearest(component, names);
      say({ expected: `a component of ${checked.recipe.name}`, found: `"${component}"`, fix: guess ? `Did you mean "${guess}"?` : `Components: ${names.join(", ")}.` });
      continue;
    }
    if ("expected" in source) continue;
    const shapes = "stage" in source ? shapesOf(before.get(source.stage)) : savedShapes(source.checkpoint, say);
    if (!shapes) continue;
    const fit = fitOf(node.parameters, shapes), wrong = misfit(fit, component, from), fresh = afresh(fit, component, from);
    if (wrong) say(wrong);
    else if (fresh !== undefined) warnings.push(fresh);
    sources[component] = source;
  }
  return { sources, warnings };
}

function sourceOf({ file, stages }: Sequence, i: number, from: string): { stage: string } | { checkpoint: string } | { expected: string; found: string; fix: string } {
  const at = stages.findIndex(({ name }) => name === from);
  if (at >= 0 && at < i) return { stage: from };
  const earlier = stages.slice(0, i).map(({ name }) => name);
  const expected = `${earlier.length > 0 ? `a stage before (${earlier.join(", ")}) or ` : ""}the path of a checkpoint`;
  if (at >= 0) return { expected, found: `${from}, which comes ${at === i ? "from here" : "later"}`, fix: "A stage starts from what was saved before it." };
  const checkpoint = resolve(dirname(file), from);
  if (existsSync(checkpoint)) return { checkpoint };
  const guess = nearest(from, earlier);
  return { expected, found: `"${from}", and nothing at ${checkpoint}`, fix: guess ? `Did you mean "${guess}"?` : "Paths start at the sequence's file." };
}

/** What a recipe's run will save. */
function shapesOf(checked: CheckResult | undefined): Shapes | undefined {
  return checked && new Map(checked.graph.nodes.flatMap(({ parameters }) => Object.entries(parameters).map(([name, { shape }]) => [name, shape] as const)));
}

function savedShapes(checkpoint: string, say: (said: { expected: string; found: string; fix: string }) => void): Shapes | undefined {
  try {
    return parameterShapes(readManifest(findCheckpoint(checkpoint)));
  } catch (error) {
    if (!(error instanceof RuntimeError) || error.code !== "ERR_CHECKPOINT") throw error;
    say({ expected: "a checkpoint", found: `that ${error.message.replace(/\.$/, "")}`, fix: "" });
    return undefined;
  }
}

export function formatSequence({ sequence, stages }: CheckedSequence): string {
  return [`${sequence.name}: ${stages.length} stages`, ...stages.flatMap(({ name, checked, sources, warnings }, i) => {
    const from = Object.entries(sources).map(([component, source]) => `${component} from ${"stage" in source ? source.stage : source.checkpoint}`);
    return [
      `  ${i + 1}. ${name}: ${checked.recipe.train.steps} steps of ${checked.recipe.train.batch}, ${checked.graph.nodes.map((node) => node.name).join(", ")}`,
      ...(from.length > 0 ? [`     ${from.join(", ")}`] : []), ...warnings.map((warning) => `     warning: ${warning}`),
    ];
  })].join("\n");
}
