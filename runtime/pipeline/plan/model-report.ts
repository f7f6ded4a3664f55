/**
 * What a model costs, said without allocating a weight: parameters, operations per page, bytes per rank.
 *
 * MR-1: parameters are counted from the shapes that components declare; nothing is allocated, no data is read.
 * MR-2: bytes of a rank = parameters, the partial sums of their gradients and what the optimizer remembers, all f32 (there are no other
 *       masters), and what the pages between forward and backward keep, in f32 or bf16: of a recipe as `octavo plan` counts them. Sums in
 *       the middle of a kernel and the pool's rounding are not in it.
 */
import { RuntimeError } from "../../errors.ts";
import type { Parameters } from "../../nn/index.ts";
import type { Plugin, PluginHost } from "../../plugin/define.ts";
import type { TensorComponent } from "../../plugin/kinds.ts";
import { checkOptions } from "../../plugin/options.ts";
import { RecipeError } from "../../plugin/problem.ts";
import type { Registry } from "../../plugin/registry.ts";
import type { CheckResult } from "./check.ts";
import { type Cost, type PageSizes, costOf, pageSizes } from "./costs.ts";
import { estimateStages } from "./estimate.ts";
import { type PresetName, presetComponents, presetTokens, presets } from "../recipe/presets.ts";
import { keptBytes, partialSumsOf, stateTensorsOf } from "./rank-memory.ts";
import { bytes, count, table } from "./report.ts";

export interface ComponentReport {
  name: string;
  use: string;
  parameters: number;
  trainable: number;
  /** By the first part of the parameters' names: a fusion has `proj` and `fusion`. */
  parts: Record<string, number>;
  /** Operations per page; undefined where a plugin has no row in `costs.ts`. */
  forwardFlops?: number;
  /** Forward and back. */
  trainFlops?: number;
  formula?: string;
  /** Numbers that one page keeps for the way back. */
  kept?: number;
}

export interface RankReport {
  name: string;
  components: string[];
  parameterBytes: number;
  gradientBytes: number;
  optimizerBytes: number;
  /** Of all pages that are between forward and backward at once. */
  activationBytes: { f32: number; bf16: number };
  totalBytes: { f32: number; bf16: number };
  pagesInFlight: number;
}

export interface ModelReport {
  name: string;
  components: ComponentReport[];
  /** Presets: what only earlier stages have. */
  stages?: ComponentReport[];
  parameters: number;
  trainable: number;
  forwardFlops: number;
  trainFlops: number;
  ranks: RankReport[];
  /** Tokens per page that operations and memory were counted for. */
  sizes: PageSizes;
  /** Components whose operations are not known, and so not in the sums. */
  uncounted: string[];
}

/** A preset whole on one rank, `pages` at once. */
export function presetReport(preset: PresetName, registry: Registry, pages = 1): ModelReport {
  const { T, Q, A } = presetTokens(preset), { side, merge } = presets[preset].page, cells = (side / patch / merge) ** 2;
  const sizes = { T, Q, A, M: 1 + cells + T, Nm: Math.round(maskedText * T), Np: Math.round(maskedCells * cells), Na: A };
  const { model, stages } = presetComponents(preset);
  const described = ({ name, use, options }: (typeof model)[number], tokens: PageSizes): ComponentReport => {
    const plugin = registry.resolve(use), checked = checkOptions(plugin, options, [], () => ({ file: `preset ${preset}`, line: 0, column: 0 }));
    if (checked.problems.length > 0) throw new RecipeError(`preset ${preset}`, checked.problems);
    return describe(name, use, plugin, checked.value, tokens);
  };
  const components = model.map((each) => described(each, sizes));
  const rank = rankOf("model", components, pages);
  return {
    ...summed(`preset ${preset}`, components, [rank], sizes),
    // masked pre-training hides cells of single patches
    stages: stages.map((each) => described(each, { ...sizes, Np: Math.round(maskedCells * (side / patch) ** 2) })),
  };
}

const patch = 16;
/** Shares hidden in joint pre-training: the loader's defaults. */
const maskedText = 0.3, maskedCells = 0.4;

/** A checked recipe: its components, and per stage what its schedule keeps. */
export function recipeReport(checked: CheckResult): ModelReport {
  const { recipe, graph, plan } = checked, sizes = pageSizes(plan.sizes);
  const components = graph.nodes.filter(({ kind }) => kind !== "data-loader")
    .map((node) => reportOf(node.name, node.use, node.parameters, node.frozen, costOf(node.use, node.options, sizes)));
  return summed(recipe.name, components, stageReports(checked), sizes);
}

function stageReports(checked: CheckResult): RankReport[] {
  const { recipe, graph, plan, layout, simulation } = checked;
  const estimates = estimateStages(graph, plan, { bf16: false, recompute: recipe.train.recompute === "block" });
  return plan.stages.flatMap((stage, index) => {
    const nodes = graph.nodes.filter(({ name, kind }) => kind !== "data-loader" && stage.components.includes(name));
    if (nodes.length === 0) return [];
    const slot = layout.slots.find(({ stages }) => stages.includes(stage.name))!, share = plan.microbatches / slot.layout.data;
    const inOrder = Array.from({ length: share }, (_, m) => m), alive = Math.max(1, Math.min(share, simulation.stageMicrobatches[index]));
    const { parameters, gradients, optimizer } = keptBytes(nodes, slot.layout, partialSumsOf(inOrder), { stateTensors: stateTensorsOf(checked), zero: recipe.train.zero });
    const kept = estimates[index].activations * alive + estimates[index].transient, weights = parameters + gradients + optimizer;
    return [{
      name: stage.name, components: nodes.map(({ name }) => name), parameterBytes: parameters, gradientBytes: gradients, optimizerBytes: optimizer,
      pagesInFlight: (plan.sizes.B ?? 1) * alive, activationBytes: { f32: kept, bf16: kept / 2 }, totalBytes: { f32: weights + kept, bf16: weights + kept / 2 },
    }];
  });
}

function describe(name: string, use: string, plugin: Plugin, options: unknown, sizes: PageSizes): ComponentReport {
  const component = plugin.create(options, shapesOnly) as TensorComponent;
  return reportOf(name, use, component.parameters(), component.frozen ?? false, costOf(use, options, sizes));
}

/** A model component builds no other plugin and reads no file to say its shapes. */
const shapesOnly: PluginHost = {
  seed: 0, resolvePath: (path) => path,
  build: (use) => { throw new RuntimeError("ERR_PLUGIN", `${use}: a component of a model builds no other plugin while its shapes are counted.`, { use }); },
};

function reportOf(name: string, use: string, parameters: Parameters, frozen: boolean, cost: Cost | undefined): ComponentReport {
  const parts: Record<string, number> = {};
  let all = 0, trainable = 0;
  for (const [parameter, { size, trainable: learns }] of Object.entries(parameters)) {
    const [part] = parameter.split(".");
    parts[part] = (parts[part] ?? 0) + size;
    all += size;
    if (learns && !frozen) trainable += size;
  }
  return {
    name, use, parameters: all, trainable, parts,
    ...(cost && { forwardFlops: cost.flops, trainFlops: cost.flops * (frozen ? 1 : 3), formula: cost.formula, kept: frozen ? 0 : cost.kept }),
  };
}

function rankOf(name: string, components: readonly ComponentReport[], pagesInFlight: number): RankReport {
  const total = (of: (each: ComponentReport) => number | undefined): number => components.reduce((sum, each) => sum + (of(each) ?? 0), 0);
  const parameterBytes = 4 * total(({ parameters }) => parameters), gradientBytes = 4 * total(({ trainable }) => trainable), optimizerBytes = 2 * gradientBytes;
  const kept = pagesInFlight * total((each) => each.kept), weights = parameterBytes + gradientBytes + optimizerBytes;
  return {
    name, components: components.map((each) => each.name), parameterBytes, gradientBytes, optimizerBytes, pagesInFlight,
    activationBytes: { f32: 4 * kept, bf16: 2 * kept }, totalBytes: { f32: weights + 4 * kept, bf16: weights + 2 * kept },
  };
}

function summed(name: string, components: ComponentReport[], ranks: RankReport[], sizes: PageSizes): ModelReport {
  const total = (of: (each: ComponentReport) => number | undefined): number => components.reduce((sum, each) => sum + (of(each) ?? 0), 0);
  return {
    name, components, ranks, sizes, parameters: total((each) => each.parameters), trainable: total((each) => each.trainable),
    forwardFlops: total((each) => each.forwardFlops), trainFlops: total((each) => each.trainFlops),
    uncounted: components.filter((each) => each.forwardFlops === undefined).map((each) => each.name),
  };
}

// ---------------------------------------------------------------------------------------------------------------- for people

/** Tables as text; ends without a newline. */
export function formatModel(report: ModelReport): string {
  const sizes = Object.entries(report.sizes).filter(([, value]) => value !== undefined).map(([name, value]) => `${name} = ${value}`);
  return [
    report.name,
    "", ...componentTable("component", report.components, { parameters: report.parameters, trainable: report.trainable, forwardFlops: report.forwardFlops, trainFlops: report.trainFlops }),
    ...(report.stages ? ["", ...componentTable("in earlier stages", report.stages)] : []),
    "", `operations per page${sizes.length > 0 ? `, with ${sizes.join(", ")}` : ""}`,
    ...[...report.components, ...(report.stages ?? [])].flatMap(({ name, formula }) => (formula ? [`  ${name}: ${formula}`] : [])),
    ...(report.uncounted.length > 0 ? [`  ? not known of ${report.uncounted.join(", ")}, and not in the sums`] : []),
    "", ...rankTable(report.ranks),
    "  parameters, gradients and what the optimizer remembers in f32; activations are an estimate, of an eager step",
  ].join("\n");
}

function componentTable(title: string, components: readonly ComponentReport[], totals?: Pick<ModelReport, "parameters" | "trainable" | "forwardFlops" | "trainFlops">): string[] {
  const rows = components.flatMap((each) => {
    const parts = Object.entries(each.parts);
    return [
      [each.name, each.use, count(each.parameters), count(each.trainable), flops(each.forwardFlops), flops(each.trainFlops)],
      ...(parts.length > 1 ? parts.map(([part, size]) => [`  ${part}`, "", count(size), "", "", ""]) : []),
    ];
  });
  const total = totals ? [["total", "", count(totals.parameters), count(totals.trainable), flops(totals.forwardFlops), flops(totals.trainFlops)]] : [];
  return table([title, "use", "parameters", "trainable", "forward", "forward and back"], [...rows, ...total], [2, 3, 4, 5]);
}

function rankTable(ranks: readonly RankReport[]): string[] {
  const rows = ranks.map((rank) => [
    rank.name, bytes(rank.parameterBytes), bytes(rank.gradientBytes), bytes(rank.optimizerBytes), String(rank.pagesInFlight),
    bytes(rank.activationBytes.f32), bytes(rank.activationBytes.bf16), bytes(rank.totalBytes.f32), bytes(rank.totalBytes.bf16),
  ]);
  return table(["memory per rank", "parameters", "gradients", "optimizer", "pages", "activations f32", "bf16", "total f32", "bf16"], rows, [1, 2, 3, 4, 5, 6, 7, 8]);
}

function flops(n: number | undefined): string {
  if (n === undefined) return "?";
  const steps = ["", "k", "M", "G", "T", "P"], at = Math.min(steps.length - 1, Math.floor(Math.log10(Math.max(1, n)) / 3));
  return `${(n / 1000 ** at).toPrecision(3)} ${steps[at]}FLOP`;
}
