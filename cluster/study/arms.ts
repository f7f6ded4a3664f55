/** An arm as overrides of its parent, what it changes in the end, and whether the comparison stays fair. */
import { loadRecipe, nearest, RuntimeError, type Recipe } from "../../runtime/index.ts";
import { parentName, type Arm, type Study } from "./study-file.ts";

export interface Change { path: string; from: unknown; to: unknown }
/** One column of the study: a name, its overrides, and what they change in the resolved recipe. */
export interface StudyArm { name: string; overrides: string[]; changes: Change[] }

/** The parent first, then the arms in the order written. Throws ERR_INPUT for unknown components and unfair arms, ERR_RECIPE for wrong recipes. */
export function studyArms(study: Study, read: typeof loadRecipe = loadRecipe): StudyArm[] {
  const common = Object.entries(study.set).map(([path, value]) => override(path, value));
  const parent = read(study.parent, common);
  const arms = Object.entries(study.arms).map(([name, arm]): StudyArm => {
    const overrides = [...common, ...armOverrides(name, arm, parent, study.file)];
    const changes = changesBetween(parent, read(study.parent, overrides));
    if (!changes.length) throw new RuntimeError("ERR_INPUT", `${study.file}: arms.${name}: changes nothing in ${study.parent}. An arm needs set, replace or remove.`, { arm: name });
    refuseUnfair(name, arm, changes, parent, study.file);
    return { name, overrides, changes };
  });
  return [{ name: parentName, overrides: common, changes: [] }, ...arms];
}

/** The recipe of one run. The seed decides data order and initial weights: the same in every arm. */
export function recipeOf(study: Study, arm: StudyArm, seed: number, read: typeof loadRecipe = loadRecipe): Recipe {
  return read(study.parent, [...arm.overrides, override("seed", seed)]);
}

function armOverrides(name: string, arm: Arm, parent: Recipe, file: string): string[] {
  const components = Object.keys(parent.components);
  const known = (component: string): string => {
    if (components.includes(component)) return component;
    const guess = nearest(component, components);
    throw new RuntimeError("ERR_INPUT", `${file}: arms.${name}: no component "${component}" in ${parent.file}. ${guess ? `Did you mean "${guess}"?` : `Components: ${components.join(", ")}.`}`, { arm: name, component });
  };
  return [
    ...arm.remove.flatMap((what) => (what.includes(".") ? [override(what, null)] : removeComponent(known(what), parent))),
    ...Object.entries(arm.replace).flatMap(([component, { use, options }]) => [
      override(`components.${known(component)}.use`, use),
      override(`components.${component}.options`, options ?? null),
    ]),
    ...Object.entries(arm.set).map(([path, value]) => override(path, value)),
  ];
}

/** A component goes together with the connections that read from it; whether they were optional, `check` will say. */
function removeComponent(component: string, parent: Recipe): string[] {
  const readers = Object.entries(parent.components).flatMap(([reader, entry]) =>
    Object.entries(entry.in).filter(([, from]) => from.split(".")[0] === component).map(([port]) => `components.${reader}.in.${port}`));
  return [...readers, `components.${component}`].map((path) => override(path, null));
}

/** JSON is YAML: the value survives the way through an override unchanged. */
function override(path: string, value: unknown): string {
  return `${path}=${JSON.stringify(value)}`;
}

/** What must be the same in every arm for a difference to be the component's own. */
function refuseUnfair(name: string, arm: Arm, changes: readonly Change[], parent: Recipe, file: string): void {
  const loaders = Object.entries(parent.components).filter(([, entry]) => entry.use.includes("data-loader/")).map(([component]) => `components.${component}`);
  const equal = ["seed", "evaluate", "train.precision", "train.steps", "train.batch", "train.from", ...loaders];
  const covers = (rule: string, path: string): boolean => path === rule || path.startsWith(`${rule}.`);
  for (const change of changes) {
    const rule = equal.find((one) => covers(one, change.path));
    if (!rule || arm.unequal.some((declared) => covers(declared, change.path))) continue;
    throw new RuntimeError("ERR_INPUT", `${file}: arms.${name}: changes ${change.path} from ${show(change.from)} to ${show(change.to)}, so its runs cannot be compared with the parent's. ` +
      `Remove the change, or declare it: unequal: [${change.path}].`, { arm: name, path: change.path });
  }
}

/** Every leaf that differs between two resolved recipes, as dotted paths, in the order of the parent. */
export function changesBetween(parent: Recipe, arm: Recipe): Change[] {
  const [before, after] = [leavesOf(parent), leavesOf(arm)];
  return [...new Set([...before.keys(), ...after.keys()])]
    .filter((path) => JSON.stringify(before.get(path)) !== JSON.stringify(after.get(path)))
    .map((path) => ({ path, from: before.get(path), to: after.get(path) }));
}

/** The recipe without its history: where it lies and by which overrides it came about makes no difference to a run. */
export function contentOf(recipe: Recipe): Record<string, unknown> {
  const { file: _file, folder: _folder, source: _source, overrides: _overrides, ...content } = recipe;
  return content;
}

function leavesOf(recipe: Recipe): Map<string, unknown> {
  const leaves = new Map<string, unknown>();
  const walk = (value: unknown, path: string): void => {
    const map = typeof value === "object" && value !== null && !Array.isArray(value);
    if (map && Object.keys(value).length) for (const [key, inner] of Object.entries(value)) walk(inner, path ? `${path}.${key}` : key);
    else if (value !== undefined && !map) leaves.set(path, value);
  };
  walk(contentOf(recipe), "");
  return leaves;
}

export function show(value: unknown): string {
  return value === undefined ? "nothing" : typeof value === "string" ? value : JSON.stringify(value);
}
