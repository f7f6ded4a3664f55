/** Weights in and out: what `octavo inspect|import|export` call, and programs too. */
import { existsSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { parse, stringify } from "yaml";
import {
  adapterOf, bytesOf, checkOptions, checkpointIn, copied, elements, families, familyOf, findCheckpoint, importProblems, openCheckpointTensors, openTensors, parseRecipe,
  planExport, planImport, readAdapter, readManifest, readSidecar, RecipeError, recognise, requireFit, RuntimeError, totalBytes, writeAdapter, writeImported, writeRelease,
  type ImportPlan, type Registry, type StoredDType, type TensorSource,
} from "../runtime/index.ts";
import { isAdapter, withAdapter, withLiveAdapter } from "./adapters.ts";
import { catalogue } from "./verbs.ts";

export interface Inspection {
  path: string;
  format: string;
  tensors: { name: string; dtype: StoredDType; shape: readonly number[]; bytes: number }[];
  parameters: number;
  bytes: number;
  /** What its names look like, and how many of them were understood. */
  guess?: { family: string; dialect: string; understood: number; plugins: string[] };
  metadata: Readonly<Record<string, string>>;
}

/** Names, shapes and dtypes of a file, a released model's folder, an adapter or a checkpoint of ours. Reads headers alone. */
export function inspect(path: string): Inspection {
  const source = open(path);
  try {
    const tensors = source.names.map((name) => {
      const { dtype, shape } = source.entry(name)!;
      return { name, dtype, shape, bytes: bytesOf({ dtype, shape }) };
    });
    const named = ["octavo checkpoint", "peft adapter"].includes(formatOf(source));
    const map = named ? undefined : recognise(source.names);
    return {
      path: source.path, format: formatOf(source), tensors, metadata: source.metadata,
      parameters: tensors.reduce((sum, { shape }) => sum + elements(shape), 0), bytes: tensors.reduce((sum, { bytes }) => sum + bytes, 0),
      ...(map && { guess: { family: map.family.name, dialect: map.dialect.name, understood: source.names.length - map.unexpected.length, plugins: Object.keys(map.family.targets) } }),
    };
  } finally {
    source.close();
  }
}

const formatOf = ({ format, names }: TensorSource): string => (names.length > 0 && names.every((name) => name.startsWith("base_model.model.")) ? "peft adapter" : format);

function open(path: string): TensorSource {
  const ours = checkpointIn(path);
  return ours === undefined ? openTensors(path) : openCheckpointTensors(ours);
}

export interface ImportChoice {
  /** kind/name of the component the weights are for. */
  as: string;
  /** The checkpoint to make; must not exist. */
  out: string;
  /** `option=value` of the component, laid over what config.json and the shapes say. */
  set?: readonly string[];
  /** Adapters to merge into the weights, in this order. */
  adapters?: readonly string[];
  /** An adapter to put beside the weights, where it goes on learning: the component's option `lora` says so afterwards. */
  attach?: string;
  /** Take an adapter although it names another base model; its shapes must fit all the same. */
  anyBase?: boolean;
  /** A checkpoint whose other components the result holds too; what it has of this one is left behind. */
  onto?: string;
  /** Go on with missing, mis-shaped and unsupported things: they start afresh, or are left out. */
  partial?: boolean;
  biasResize?: "bilinear" | "geometric";
  signal?: AbortSignal;
}

export interface ImportReport extends Omit<ImportPlan, "tensors"> { out: string; use: string; taken: number; bytes: number; adapters: string[]; attached?: string; warnings: string[] }

/**
 * Makes a checkpoint of released weights; of an adapter alone with the checkpoint of its base (`onto`). Throws ERR_CHECKPOINT listing what is
 * missing, mis-shaped or not supported, before anything is written.
 */
export async function importWeights(path: string, choice: ImportChoice): Promise<ImportReport> {
  const registry = await catalogue();
  if (isAdapter(path)) return attachToCheckpoint(path, choice, registry);
  const plugin = registry.resolve(choice.as);
  const source = openTensors(path);
  let base: TensorSource | undefined;
  try {
    const config = readSidecar(path, "config.json") ?? readSidecar(path, "params.json");
    base = choice.onto === undefined ? undefined : openCheckpointTensors(findCheckpoint(choice.onto));
    const plan = planImport({ source, plugin, config, options: optionsOf(choice.set ?? []), biasResize: choice.biasResize });
    const problems = importProblems(plan);
    if (problems !== undefined && !choice.partial) throw new RuntimeError("ERR_CHECKPOINT", `${path}: does not give all that ${plugin.id} needs:${problems}\nWith --partial the import goes on without these.`, { path, ...listsOf(plan) });
    const prefix = familyOf(choice.as).targets[choice.as];
    const adapters = (choice.adapters ?? []).map((folder) => ({ folder, adapter: readAdapter(folder) }));
    const baseName = choice.anyBase ? undefined : (config?._name_or_path as string | undefined);
    for (const { adapter } of adapters) requireFit(adapter, (name) => plan.tensors.get(prefix + name)?.shape, baseName);
    const merged = adapters.reduce((tensors, { adapter }) => withAdapter(tensors, prefix, adapter), plan.tensors);
    const { tensors: own, options, warnings } = choice.attach === undefined ? { tensors: merged, options: plan.options, warnings: [] }
      : withLiveAdapter(merged, { folder: choice.attach, plugin, options: plan.options, prefix, baseName });
    const beside = base;
    const others = beside?.names.filter((name) => !name.startsWith(prefix) && !own.has(name)).map((name) => [name, copied(beside, name)] as const) ?? [];
    const tensors = new Map([...own, ...others]);
    await writeImported(choice.out, {
      tensors, signal: choice.signal, recipe: recipeOf(prefix, choice, options),
      imported: { from: path, family: plan.family, dialect: plan.dialect, base: config?._name_or_path as string | undefined, attached: choice.attach, ...(adapters.length > 0 && { adapters: adapters.map(({ folder }) => folder) }) },
    });
    return { ...listsOf(plan), options, out: choice.out, use: choice.as, taken: plan.tensors.size, bytes: totalBytes(tensors), adapters: adapters.map(({ folder }) => folder), attached: choice.attach, warnings: [...adapters.flatMap(({ adapter }) => adapter.warnings), ...warnings] };
  } finally {
    source.close();
    base?.close();
  }
}

/** An adapter alone beside the base that a checkpoint holds; everything else of the checkpoint comes along. */
async function attachToCheckpoint(path: string, choice: ImportChoice, registry: Registry): Promise<ImportReport> {
  const refuse = (what: string): never => {
    throw new RuntimeError("ERR_INPUT", `${path}: is an adapter. ${what}`, { path });
  };
  const { onto } = choice;
  if (onto === undefined) return refuse("Name the checkpoint that holds its base with --onto, or import the base and give this folder with --attach (it goes on learning) or --adapter (it is merged).");
  const unused = ["set", "adapters", "attach", "partial"].filter((option) => [choice[option as keyof ImportChoice]].flat().some(Boolean));
  if (unused.length > 0) return refuse(`${unused.map((option) => `--${option.replace("adapters", "adapter")}`).join(" and ")} ${unused.length > 1 ? "are" : "is"} for imports of whole models; leave ${unused.length > 1 ? "them" : "it"} out.`);
  const folder = findCheckpoint(onto), plugin = registry.resolve(choice.as), { name: family, targets: { [choice.as]: prefix } } = familyOf(choice.as);
  const component = componentFor(folder, registry, { as: family });
  if (component.use !== choice.as) return refuse(`${onto} holds ${component.use}, not ${choice.as}.`);
  const source = openCheckpointTensors(folder);
  try {
    const { imported } = readManifest(folder);
    const { tensors, options, warnings } = withLiveAdapter(new Map(source.names.map((name) => [name, copied(source, name)])), {
      folder: path, plugin, options: component.options, prefix, baseName: choice.anyBase ? undefined : imported?.base,
    });
    await writeImported(choice.out, {
      tensors, signal: choice.signal, recipe: recipeOf(`${component.name}.`, choice, options),
      imported: { from: imported?.from ?? onto, family, dialect: "peft", base: imported?.base, attached: path },
    });
    return {
      family, dialect: "peft", options, resized: [], fresh: [], missing: [], misshapen: [], unexpected: [], unused: [], ignored: [], unsupported: [],
      out: choice.out, use: choice.as, taken: tensors.size - source.names.length, bytes: totalBytes(tensors), adapters: [], attached: path, warnings,
    };
  } finally {
    source.close();
  }
}

function listsOf({ tensors: _tensors, ...lists }: ImportPlan): Omit<ImportPlan, "tensors"> {
  return lists;
}

/** A recipe that names the components the checkpoint holds, and no data: export and `train.from` read it. */
function recipeOf(prefix: string, { as, onto }: ImportChoice, options: Record<string, unknown>): string {
  const others = onto === undefined ? {} : recipeIn(findCheckpoint(onto)).components;
  const component = { use: as, options };
  const name = prefix.split(".")[0];
  return stringify({ name: "imported", components: { ...Object.fromEntries(Object.entries(others).map(([key, { use, options }]) => [key, { use, options }])), [name]: component }, train: { steps: 0 } });
}

function optionsOf(set: readonly string[]): Record<string, unknown> {
  const options: Record<string, unknown> = {};
  for (const each of set) {
    const [, path, value] = /^([A-Za-z_][\w.]*)=(.*)$/s.exec(each) ?? [];
    if (path === undefined) throw new RuntimeError("ERR_INPUT", `--set expected option=value, got ${JSON.stringify(each)}.`, { set: each });
    const steps = path.split("."), last = steps.pop()!;
    let at = options;
    for (const step of steps) at = (at[step] ??= {}) as Record<string, unknown>;
    at[last] = parse(value);
  }
  return options;
}

export interface ExportChoice {
  /** A family (llama, beit, clip, bert, vq-kd, vlmo), or peft for the adapter beside the weights. */
  as: string;
  out: string;
  /** Which component of the checkpoint's recipe, where several would do. */
  component?: string;
  /** How the family's names are written: hugging-face, unilm, openai, meta ... */
  dialect?: string;
  dtype?: "f32" | "bf16" | "f16";
  maxShardBytes?: number;
  /** Of a peft adapter: no shape tells it. */
  alpha?: number;
  signal?: AbortSignal;
}

export interface ExportReport { out: string; as: string; dialect: string; component: string; files: string[]; tensors: number; bytes: number; left: string[] }

/** Said of weights as a family writes them; an adapter is written as it is stored, in PEFT's names. */
const familyOptions = ["dialect", "dtype", "maxShardBytes"] as const;

const dtypes: Record<string, StoredDType> = { f32: "F32", bf16: "BF16", f16: "F16" };

/** Writes one component of a checkpoint as released models are written, with config.json. */
export async function exportWeights(checkpoint: string, choice: ExportChoice): Promise<ExportReport> {
  const unused = choice.as === "peft" ? familyOptions.filter((option) => choice[option] !== undefined) : choice.alpha !== undefined ? ["alpha"] : [];
  if (unused.length > 0) {
    const said = unused.map((option) => `--${option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`).join(" and ");
    throw new RuntimeError("ERR_INPUT", `${said}: of no use to --as ${choice.as}: ${choice.as === "peft" ? "an adapter is written as it is stored, under PEFT's names, in one file" : "only an adapter has an alpha (--as peft)"}. Leave ${unused.length > 1 ? "them" : "it"} out.`, { as: choice.as, options: unused });
  }
  const folder = findCheckpoint(checkpoint);
  const registry = await catalogue();
  const source = openCheckpointTensors(folder);
  try {
    const { name, use, options } = componentFor(folder, registry, choice);
    if (choice.as === "peft") return await exportAdapter(source, { name, use, options }, choice);
    const plan = planExport({ source, use, options, dialect: choice.dialect, dtype: choice.dtype && dtypes[choice.dtype] });
    const files = await writeRelease(choice.out, {
      tensors: plan.tensors, files: { "config.json": `${JSON.stringify(plan.config, undefined, 2)}\n` }, maxShardBytes: choice.maxShardBytes, signal: choice.signal,
    });
    return { out: choice.out, as: plan.family, dialect: plan.dialect, component: name, files, tensors: plan.tensors.size, bytes: totalBytes(plan.tensors), left: plan.left };
  } finally {
    source.close();
  }
}

interface Component { name: string; use: string; options: Record<string, unknown> }

async function exportAdapter(source: TensorSource, { name, use, options }: Component, { out, alpha, signal }: ExportChoice): Promise<ExportReport> {
  const lora = options.lora as { alpha?: number; dropout?: number; rslora?: boolean; name?: string; train?: string[] } | undefined;
  const scale = alpha ?? lora?.alpha;
  if (scale === undefined) throw new RuntimeError("ERR_INPUT", "--alpha is needed: no shape of an adapter tells it.");
  const prefix = familyOf(use).targets[use];
  const causal = use.startsWith("decoder/");
  const adapter = adapterOf(source, prefix, { alpha: scale, dropout: lora?.dropout, useRslora: lora?.rslora, name: lora?.name, train: lora?.train, causal });
  const files = await writeAdapter(out, adapter, { wrapper: causal ? "causal" : "inner", signal });
  const stored = [...[...adapter.modules.values()].flatMap(({ a, b }) => [a, b]), ...adapter.replaced.values()];
  const bytes = stored.reduce((sum, tensor) => sum + bytesOf(tensor), 0);
  return { out, as: "peft", dialect: causal ? "causal" : "inner", component: name, files, tensors: stored.length, bytes, left: [] };
}

/** The component of the checkpoint's recipe that a family is for, with its options complete. */
function componentFor(folder: string, registry: Registry, { as, component }: Pick<ExportChoice, "as" | "component">): Component {
  const fitting = families.filter(({ name }) => as === "peft" || name === as);
  if (fitting.length === 0) throw new RuntimeError("ERR_INPUT", `--as expected one of ${[...families.map(({ name }) => name), "peft"].join(", ")}, got ${JSON.stringify(as)}.`, { as });
  const uses = fitting.flatMap(({ targets }) => Object.keys(targets));
  const found = Object.entries(recipeIn(folder).components).filter(([name, { use }]) => uses.includes(use) && (component === undefined || component === name));
  if (found.length !== 1) {
    throw new RuntimeError("ERR_INPUT", found.length === 0
      ? `${folder}: no component ${component === undefined ? "" : `"${component}" `}of ${uses.join(" or ")} is in its recipe.`
      : `${folder}: ${found.map(([name]) => name).join(" and ")} could be meant. Choose one with --component.`, { folder, as });
  }
  const [[name, { use, options }]] = found;
  const checked = checkOptions(registry.resolve(use), options, [], () => ({ file: join(folder, "recipe.yaml"), line: 0, column: 0 }));
  if (checked.value === undefined) throw new RecipeError(join(folder, "recipe.yaml"), checked.problems);
  return { name, use, options: checked.value as Record<string, unknown> };
}

function recipeIn(folder: string): ReturnType<typeof parseRecipe> {
  readManifest(folder); // a folder without one is no checkpoint
  const file = join(folder, "recipe.yaml");
  if (!existsSync(file)) throw new RuntimeError("ERR_CHECKPOINT", `${file}: not there. A checkpoint carries the recipe of its components; this one is incomplete.`, { path: file });
  return parseRecipe(readFileSync(file, "utf8"), basename(file));
}
