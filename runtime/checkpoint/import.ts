import { resizePositions, resizeRelativeBias } from "../nn/index.ts";
import { RuntimeError } from "../errors.ts";
import { type Plugin, type TensorComponent, aloneHost, checkOptions, RecipeError } from "../plugin/index.ts";
import { keysOf } from "../plugin/options.ts";
import { familyOf } from "./families/index.ts";
import type { Config, Family, Setting } from "./families/family.ts";
import { type Found, type NameMap, recognise } from "./families/name-map.ts";
import { type Heads, joinedEntry, moved, movedShape } from "./families/moves.ts";
import { gridOfTable } from "./families/vit.ts";
import { fromFloat32, pieces, readNumbers, readStored, type StoredEntry, type TensorSource } from "./stored.ts";
import type { WritableTensor } from "./safetensors.ts";

export interface ImportRequest {
  source: TensorSource;
  /** The component that the weights are for. */
  plugin: Plugin;
  config?: Config;
  /** Options of the component that the user decides; they win over what the source says. */
  options?: Record<string, unknown>;
  /** How a relative bias table is made to fit another grid. */
  biasResize?: "bilinear" | "geometric";
}

/** What an import would do, and everything it leaves open. Names are full names of ours, except where a source's are meant. */
export interface ImportPlan {
  family: string;
  dialect: string;
  /** Complete options of the component. */
  options: Record<string, unknown>;
  tensors: ReadonlyMap<string, WritableTensor>;
  resized: { name: string; from: readonly number[]; to: readonly number[]; how: string }[];
  /** Parameters that this format does not hold: they start afresh. */
  fresh: string[];
  /** Parameters that this format holds and the source does not. */
  missing: string[];
  misshapen: { name: string; expected: readonly number[]; found: readonly number[]; from: readonly string[] }[];
  /** Names of the source that no rule knows; that are known and of no use to this component; that carry nothing. */
  unexpected: string[];
  unused: string[];
  ignored: string[];
  /** What the source computes with and the component cannot. */
  unsupported: Setting[];
}

/**
 * Reads names and shapes, no data: that happens while `tensors` are written. Throws ERR_CHECKPOINT when the source is no checkpoint of
 * this component's family or an option can be told by neither source nor user, RecipeError for options the component refuses.
 */
export function planImport(request: ImportRequest): ImportPlan {
  const { source, plugin } = request;
  const use = `${plugin.kind}/${plugin.name}`;
  const family = familyOf(use);
  const map = recognise(source.names, [family]);
  if (!map) throw new RuntimeError("ERR_CHECKPOINT", `${source.path}: none of its ${source.names.length} names is one of ${family.name}'s (${source.names.slice(0, 3).join(", ")} ...). Choose another --as; octavo inspect shows what it may be.`, { path: source.path, family: family.name });
  const { options, unsupported } = decideOptions(request, family, map, use);
  const component = plugin.create(options, aloneHost) as TensorComponent;
  const plan: ImportPlan = {
    family: family.name, dialect: map.dialect.name, options: options as Record<string, unknown>, unsupported,
    tensors: new Map(), resized: [], fresh: [], missing: [], misshapen: [], unexpected: [...map.unexpected], unused: [], ignored: [...map.ignored],
  };
  const used = new Set<string>();
  for (const [name, { shape }] of Object.entries(component.parameters())) place(plan, used, map, request, family.targets[use], name, shape);
  plan.unused = [...map.ours.values()].flatMap(({ sources }) => sources).filter((name) => !used.has(name));
  return plan;
}

/** Everything that keeps the component from computing what the source computes, as one message; undefined when nothing does. */
export function importProblems(plan: ImportPlan): string | undefined {
  const shape = (dims: readonly number[]): string => `(${dims.join(", ")})`;
  const lines = [
    ...plan.missing.map((name) => `missing: ${name}`),
    ...plan.misshapen.map(({ name, expected, found, from }) => `mis-shaped: ${name} is ${shape(expected)} here and ${shape(found)} in ${from.join(" + ")}`),
    ...plan.unsupported.map(({ option, value, from }) => `not supported: ${from} says ${option} = ${JSON.stringify(value)}, for which the component has no option`),
  ];
  return lines.length === 0 ? undefined : lines.map((line) => `\n  ${line}`).join("");
}

function place(plan: ImportPlan, used: Set<string>, map: NameMap, { source, biasResize }: ImportRequest, prefix: string, name: string, shape: readonly number[]): void {
  const found = name.startsWith(prefix) ? map.find(name.slice(prefix.length)) : undefined;
  if (!found || (found.sources.length === 0 && found.rule.optional)) return void plan.fresh.push(name);
  if (found.sources.length === 0 || found.incomplete) return void plan.missing.push(name);
  found.sources.forEach((each) => used.add(each));
  const heads = headsIn(plan.options);
  const entry = entryOf(source, found, name);
  const tensors = plan.tensors as Map<string, WritableTensor>;
  if (entry.shape.join() === shape.join()) return void tensors.set(name, { ...entry, pieces: () => piecesOf(source, found, heads, name) });
  const resized = resize(source, found, entry, shape, biasResize ?? "bilinear");
  if (!resized) return void plan.misshapen.push({ name, expected: shape, found: entry.shape, from: found.sources });
  tensors.set(name, { dtype: entry.dtype, shape, pieces: () => [fromFloat32(Float32Array.from(resized.values()), entry.dtype)] });
  plan.resized.push({ name, from: entry.shape, to: shape, how: resized.how });
}

const headsIn = (options: Record<string, unknown>): Heads => ({ heads: options.heads as number | undefined, kvHeads: options.kv_heads as number | undefined });

function entryOf(source: TensorSource, { rule, sources }: Found, name: string): StoredEntry {
  const parts = sources.map((each) => source.entry(each)!);
  const { dtype, shape } = parts.length === 1 ? parts[0] : joinedEntry(parts, name);
  return { dtype, shape: movedShape(shape, rule.move) };
}

function* piecesOf(source: TensorSource, { rule, sources }: Found, heads: Heads, name: string): Generator<Uint8Array> {
  for (const each of sources) {
    if (rule.move === undefined) yield* pieces(source, each);
    else yield moved(readStored(source, each), rule.move, heads, name).data;
  }
}

/** How a table is made to fit, undefined when it cannot be. Nothing is computed before `values`. */
function resize(source: TensorSource, { rule, sources: [from] }: Found, { shape }: StoredEntry, to: readonly number[], mode: "bilinear" | "geometric"): { values(): ArrayLike<number>; how: string } | undefined {
  if (rule.resize === undefined || shape.length !== to.length || shape.at(-1) !== to.at(-1)) return undefined;
  const numbers = (): ArrayLike<number> => readNumbers(source, from);
  const width = to.at(-1)!;
  if (rule.resize === "vocabulary") return to[0] > shape[0] ? { how: "more rows, each the mean of the former", values: () => grown(numbers(), width, to[0]) } : undefined;
  const [grid, newGrid] = [shape, to].map((dims) => (rule.resize === "relative-bias" ? gridOfTable(dims[0]) : Math.sqrt(dims.at(-2)! - 1)));
  if (!Number.isInteger(grid) || !Number.isInteger(newGrid)) return undefined;
  const grids = { from: [grid, grid], to: [newGrid, newGrid] } as const;
  return rule.resize === "relative-bias"
    ? { how: `${mode}, grid ${grid} to ${newGrid}`, values: () => resizeRelativeBias(numbers(), { ...grids, heads: width, mode }) }
    : { how: `bicubic, grid ${grid} to ${newGrid}`, values: () => resizePositions(numbers(), { ...grids, width }) };
}

/** rows (V, D) -> (count, D): the mean of all rows for each new one. Source: Hewitt 2021, initialising new word embeddings. */
function grown(rows: ArrayLike<number>, width: number, count: number): Float32Array {
  const result = new Float32Array(count * width), old = rows.length / width;
  result.set(rows);
  const mean = Float64Array.from({ length: width }, (_, d) => {
    let sum = 0;
    for (let row = 0; row < old; row++) sum += rows[row * width + d];
    return sum / old;
  });
  for (let row = old; row < count; row++) result.set(mean, row * width);
  return result;
}

/** What the user says, else config.json, else the shapes, else the component's defaults. */
function decideOptions(request: ImportRequest, family: Family, map: NameMap, use: string): { options: unknown; unsupported: Setting[] } {
  const { source, plugin, options: given = {} } = request;
  const settings = settingsOf(request, family, map, use);
  const known = keysOf(plugin.options);
  const untold = family.mustBeTold.filter((option) => known.includes(option) && !settings.some((setting) => setting.option === option) && !(option in given));
  if (untold.length > 0) {
    throw new RuntimeError("ERR_CHECKPOINT", `${source.path}: ${untold.join(" and ")} ${untold.length > 1 ? "are" : "is"} not told by any shape, and a wrong number would load without an error. Put a config.json beside it, or say --set ${untold[0]}=...`, { path: source.path, untold });
  }
  const options: Record<string, unknown> = {}, parts: Record<string, object> = {}, unsupported: Setting[] = [];
  for (const setting of settings) {
    const [outer, inner] = setting.option.split(".");
    if (inner !== undefined) {
      if (known.includes(outer) && typeof given[outer] === "object" && given[outer] !== null) parts[outer] = { ...parts[outer], [inner]: setting.value };
    } else if (known.includes(outer)) options[outer] = setting.value;
    else if (JSON.stringify(setting.value) !== JSON.stringify(setting.neutral)) unsupported.push(setting);
  }
  for (const outer of Object.keys(parts)) parts[outer] = { ...parts[outer], ...(given[outer] as object) };
  const checked = checkOptions(plugin, { ...options, ...given, ...parts }, [], () => ({ file: source.path, line: 0, column: 0 }));
  if (checked.value === undefined) throw new RecipeError(source.path, checked.problems);
  return { options: checked.value, unsupported };
}

/** One setting per option: config.json's where it has one, else that of the shapes. */
function settingsOf({ source, config }: ImportRequest, family: Family, map: NameMap, use: string): Setting[] {
  const shapes = (ours: string): readonly number[] | undefined => {
    const found = map.ours.get(ours); // substitutes tell nothing
    return found && !found.incomplete ? entryOf(source, found, ours).shape : undefined;
  };
  const layers: Setting[] = map.layers > 0 ? [{ option: "layers", value: map.layers, from: "the shapes" }] : [];
  const all = [...layers, ...family.fromShapes(shapes, map.layers), ...(config ? family.fromConfig(config, use) : [])];
  return [...new Map(all.map((setting) => [setting.option, setting])).values()];
}

