/**
 * `octavo check`: everything that can be wrong with a recipe, found before a tensor is allocated, and shown at once.
 *
 * C-1: throws RecipeError with every problem found; what follows from a mistake already named is not named again.
 * C-2: components are created, which allocates no tensor (D-1 of plugins); data is not read.
 * C-3: the result is what training builds on: graph, plan and schedule are computed here and nowhere else.
 */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { findCheckpoint, parameterShapes, readManifest } from "../../checkpoint/index.ts";
import { RuntimeError, nearest } from "../../errors.ts";
import type { PluginHost } from "../../plugin/define.ts";
import type { DataLoader } from "../../plugin/kinds.ts";
import type { Path, RecipeProblem } from "../../plugin/problem.ts";
import { RecipeError } from "../../plugin/problem.ts";
import type { Registry } from "../../plugin/registry.ts";
import type { Chosen } from "../graph/build.ts";
import { Builder } from "../graph/build.ts";
import type { Graph, GraphNode } from "../graph/graph.ts";
import { buildGraph } from "../graph/graph.ts";
import { layOut } from "./layout-rules.ts";
import type { LayoutPlan } from "./layout.ts";
import type { Plan } from "./plan.ts";
import { buildPlan } from "./plan.ts";
import { rankAuthors } from "../schedule/authors.ts";
import { placeSchedule, scheduleNamed } from "./choice.ts";
import type { RankSchedule } from "../schedule/schedule.ts";
import type { RankSimulation } from "../schedule/simulate.ts";
import { equalCosts, simulateRanks } from "../schedule/simulate.ts";
import type { Recipe } from "../recipe/recipe.ts";
import { readRecipe, readText } from "../recipe/recipe.ts";
import { afresh, fitOf, misfit } from "../graph/start-from.ts";

export type { Chosen } from "../graph/build.ts";

export interface CheckResult {
  recipe: Recipe;
  graph: Graph;
  plan: Plan;
  /** Which ranks there are, and who sends what to whom. */
  layout: LayoutPlan;
  /** A row per rank; the tensor and context ranks of a data copy all do what their leader does. */
  schedule: RankSchedule;
  /** With the credits of the edges, and stages of equal speed. */
  simulation: RankSimulation;
  /** Components of kind objective, in the order in which they run. */
  objectives: string[];
  loader: string;
  optimizer: Chosen;
  evaluator?: Chosen;
  trackers: Chosen[];
  /** What the components were built with. */
  host: PluginHost;
  /** Not wrong, but probably not meant. */
  warnings: string[];
}

/** Reads and checks in one go: mistakes of form and mistakes of meaning are shown together. */
export async function checkFile(path: string, registry: Registry, overrides: readonly string[] = []): Promise<CheckResult> {
  const { recipe, problems } = readRecipe(readText(path), path, overrides);
  if (recipe === undefined) throw new RecipeError(path, problems);
  return checkRecipe(recipe, registry, problems);
}

/**
 * `found`: mistakes of form that are already known; they are thrown together with those found here. `copies`: files of the recipe that a
 * checkpoint has of its own, by the absolute path the recipe gives them.
 */
export async function checkRecipe(recipe: Recipe, registry: Registry, found: readonly RecipeProblem[] = [], copies?: ReadonlyMap<string, string>): Promise<CheckResult> {
  const check = new Check(recipe, registry, copies);
  check.problems.push(...found);
  const names = Object.keys(recipe.components);
  const nodes: GraphNode[] = [];
  for (const name of names) {
    const node = await check.component(name);
    if (node) nodes.push(node);
  }
  const optimizer = await check.chosen(recipe.train.optimizer, "optimizer", ["train", "optimizer"], true);
  const evaluator = recipe.evaluate?.evaluator && await check.chosen(recipe.evaluate.evaluator, "evaluator", ["evaluate", "evaluator"], true);
  const trackers: (Chosen | undefined)[] = [];
  for (const [i, tracker] of recipe.trackers.entries()) trackers.push(await check.chosen(tracker, "tracker", ["trackers", i], false));

  check.owners(nodes);
  check.training(nodes, nodes.length === names.length);
  const { graph, problems: wiring } = buildGraph({ nodes, names, removed: recipe.source.removed, locate: check.locate, recompute: recipe.train.recompute === "block" });
  const { batch, microbatches } = recipe.train;
  const { plan, problems: staging } = buildPlan({ graph, names, stages: recipe.stages, batch, microbatches, locate: check.locate, compress: check.compressed(nodes) });
  check.problems.push(...wiring, ...staging);
  if (check.problems.length === 0) check.learning(graph);
  const scheduled = check.problems.length === 0 ? check.schedule(graph, plan) : undefined;
  if (check.problems.length > 0 || !scheduled) throw new RecipeError(recipe.file, check.problems, check.causes.length > 0 ? { cause: check.causes[0] } : undefined);
  return {
    recipe, graph, plan, ...scheduled,
    objectives: graph.nodes.filter((n) => n.kind === "objective").map((n) => n.name),
    loader: graph.nodes.find((n) => n.kind === "data-loader")!.name,
    optimizer: optimizer!, evaluator, trackers: trackers as Chosen[], host: check.host,
    warnings: [...unused(graph), ...check.fresh, ...scheduled.warnings, ...rounding(plan)],
  };
}

/** The rules that no single component can know. */
class Check extends Builder {
  /** What starts afresh in components that are loaded, one warning per component. */
  readonly fresh: string[] = [];

  /** Two components that own one parameter name would overwrite each other in the checkpoint. */
  owners(nodes: readonly GraphNode[]): void {
    const owner = new Map<string, string>();
    for (const node of nodes) {
      const shared = Object.keys(node.parameters).filter((parameter) => owner.has(parameter));
      for (const parameter of Object.keys(node.parameters)) if (!owner.has(parameter)) owner.set(parameter, node.name);
      if (shared.length === 0) continue;
      const first = owner.get(shared[0])!;
      this.say(["components", node.name], {
        expected: "every parameter to have one owner", found: `${first} and ${node.name} both owning "${shared[0]}"${shared.length > 1 ? ` and ${shared.length - 1} more` : ""}`,
        fix: "Remove one of the two, or connect both to one component's output.",
      }, "key");
    }
  }

  /** The outputs that the recipe wants to travel as bf16. */
  compressed(nodes: readonly GraphNode[]): ReadonlySet<string> {
    return new Set(nodes.flatMap((node) => (this.recipe.components[node.name].compress ?? []).flatMap((output, i) => {
      const ports = node.ports.out, known = Object.keys(ports).filter((name) => ports[name].dtype === "f32"), guess = nearest(output, known);
      if (known.includes(output)) return [`${node.name}.${output}`];
      this.say(["components", node.name, "compress", i], {
        expected: known.length > 0 ? `an output of ${node.name} in f32: ${known.join(", ")}` : `nothing here: ${node.name} has no output in f32`,
        found: Object.hasOwn(ports, output) ? `"${output}", which is ${ports[output].dtype}` : `"${output}"`, fix: guess ? `Did you mean "${guess}"?` : "",
      });
      return [];
    })));
  }

  /** What the loader, the objectives and the batch must say to each other. `complete`: all components could be built. */
  training(nodes: readonly GraphNode[], complete: boolean): void {
    const { batch, microbatches, from } = this.recipe.train;
    const loaders = nodes.filter((node) => node.kind === "data-loader");
    const objectives = nodes.filter((node) => node.kind === "objective");
    if (complete && loaders.length === 0) this.say("components", { expected: "a data loader", found: "none", fix: "Add one, for example pages: { use: data-loader/shards }." }, "key");
    for (const second of loaders.slice(1)) this.say(["components", second.name], { expected: "one data loader", found: `${second.name} beside ${loaders[0].name}`, fix: "Remove one of them." }, "key");
    if (complete && objectives.length === 0) this.say("components", { expected: "an objective: without a loss nothing is learned", found: "none", fix: "Add one, for example mlm: { use: objective/mlm }." }, "key");
    if (batch % microbatches !== 0) {
      this.say(["train", "batch"], { expected: `a batch that ${microbatches} microbatches divide`, found: String(batch), fix: `Write ${Math.ceil(batch / microbatches) * microbatches}, or change train.microbatches.` });
    }
    for (const node of objectives) {
      if (!node.plugin.separable && microbatches > 1) {
        this.say(["components", node.name], { expected: `train.microbatches: 1, since ${node.use} compares pages with each other`, found: String(microbatches), fix: "Set train.microbatches to 1." }, "key");
      }
      if (loaders.length === 1) this.#counts(node, loaders[0]);
    }
    if (loaders.length === 1) this.#vocabularies(nodes, loaders[0]);
    this.#scheduleName();
    if (typeof from === "string") this.#isThere(from, ["train", "from"]);
    else if (from) for (const [component, path] of Object.entries(from)) this.#start(component, path, nodes);
  }

  #isThere(from: string, path: Path): boolean {
    const folder = resolve(this.recipe.folder, from), there = existsSync(folder);
    if (!there) this.say(path, { expected: "the folder of a checkpoint", found: `nothing at ${folder}`, fix: "Check the path; relative paths start at the recipe." });
    return there;
  }

  /** A component that starts from a checkpoint of its own: the checkpoint must hold it. */
  #start(component: string, from: string, nodes: readonly GraphNode[]): void {
    const path = ["train", "from", component], names = Object.keys(this.recipe.components);
    if (!names.includes(component)) {
      const guess = nearest(component, names);
      return this.say(path, { expected: "a component of the recipe", found: `"${component}"`, fix: guess ? `Did you mean "${guess}"?` : `Components: ${names.join(", ")}.` }, "key");
    }
    const node = nodes.find(({ name }) => name === component);
    if (!this.#isThere(from, path) || !node) return;
    try {
      const shapes = parameterShapes(readManifest(findCheckpoint(resolve(this.recipe.folder, from))));
      const fit = fitOf(node.parameters, shapes);
      const wrong = misfit(fit, component, from), fresh = afresh(fit, component, from);
      if (wrong) this.say(path, wrong);
      else if (fresh !== undefined) this.fresh.push(fresh);
    } catch (error) {
      if (!(error instanceof RuntimeError) || error.code !== "ERR_CHECKPOINT") throw error;
      this.causes.push(error);
      this.say(path, { expected: "a checkpoint", found: `that ${error.message.replace(/\.$/, "")}`, fix: "" });
    }
  }

  /** A table needs a row for every id that the loader may send it (more rows do no harm), and what is told of single ids must be the tokenizer's. */
  #vocabularies(nodes: readonly GraphNode[], loader: GraphNode): void {
    const { tokenizer, promptTokenizer } = loader.component as Partial<DataLoader>;
    if (!tokenizer) return; // a loader whose pages have no words
    for (const node of nodes) {
      const { vocabulary, ...said } = node.options as Readonly<Record<string, unknown>>, from = Object.values(node.inputs);
      const fed = (...ports: string[]): boolean => ports.some((port) => from.includes(`${loader.name}.${port}`));
      const words = fed("prompt_ids") ? promptTokenizer ?? tokenizer : from.some((port) => port.startsWith(`${loader.name}.`) && port.endsWith("_ids")) ? tokenizer : undefined;
      const of = `${loader.name}'s tokenizer${words?.file ?? tokenizer.file ? ` ${words?.file ?? tokenizer.file}` : ""}`;
      if (words && typeof vocabulary === "number" && vocabulary < words.vocabulary) {
        this.say(["components", node.name, "options", "vocabulary"], {
          expected: `at least ${words.vocabulary}, the words of ${of}`, found: String(vocabulary),
          fix: `Set vocabulary to ${words.vocabulary}, or give ${loader.name} the tokenizer that these weights were made with.`,
        });
      }
      const places = { ...(fed("dec_labels", "dec_targets") && { location_base: tokenizer.locationBase, location_bins: tokenizer.locationBins }), ...(fed("dec_ids") && { pad_id: tokenizer.special.pad }) };
      for (const [option, value] of Object.entries(places)) {
        if (typeof said[option] !== "number" || said[option] === value) continue;
        this.say(["components", node.name, "options", option], { expected: `${value}, as ${of} has it`, found: String(said[option]), fix: `Set ${option} to ${value}.` });
      }
    }
  }

  #counts(objective: GraphNode, loader: GraphNode): void {
    const given = loader.plugin.counts(loader.options);
    for (const count of objective.plugin.counts(objective.options)) {
      if (given.length === 0 || given.includes(count)) continue;
      const guess = nearest(count, given);
      this.say(["components", objective.name], {
        expected: `the count "${count}" from ${loader.name}, which normalises the loss of ${objective.use}`, found: `only ${given.join(", ")}`,
        fix: guess ? `Is it "${guess}"?` : `Give ${loader.name} the options that make it count them.`,
      }, "key");
    }
  }

  /** A loss that reaches no parameter teaches nobody. */
  learning(graph: Graph): void {
    for (const node of graph.nodes) {
      if (node.kind !== "objective" || node.trainable || graph.edges.some((edge) => edge.gradient && edge.to[0] === node.name)) continue;
      this.say(["components", node.name, "in"], { expected: "an input from something that learns", found: "only data and frozen components", fix: "Connect an encoder, fusion or decoder." }, "key");
    }
  }

  /**
   * Where stages are, their layouts, and the schedule; what cannot be is said. A schedule that cannot finish with the credits of its edges
   * is refused here, before anything runs.
   */
  schedule(graph: Graph, plan: Plan): { schedule: RankSchedule; simulation: RankSimulation; layout: LayoutPlan; warnings: string[] } | undefined {
    const { schedule: wanted, ranks } = this.recipe.train, learning = plan.stages.filter((stage) => stage.backward).length;
    if (ranks !== undefined && ranks > learning) {
      this.say(["train", "ranks"], { expected: `at most ${learning}, the stages that learn`, found: String(ranks), fix: "Cut the model into more stages, or leave ranks out: a process for each." });
      return undefined;
    }
    try {
      const placed = placeSchedule(plan, { ...scheduleNamed(wanted, this.recipe.folder), ranks });
      const { layout, warnings } = layOut({ recipe: this.recipe, graph, plan, placement: placed.placement, say: (path, said, part) => this.say(path, said, part) });
      if (!layout) return undefined;
      const schedule = placed.schedule(layout.slots.map((slot) => slot.layout));
      return { schedule, layout, warnings, simulation: simulateRanks(schedule, equalCosts(schedule), { credits: true }) };
    } catch (error) {
      if (!(error instanceof RuntimeError) || error.code !== "ERR_SCHEDULE") throw error;
      this.causes.push(error);
      this.say(["train", "schedule"], { expected: "a schedule that keeps the rules", found: `that ${error.message.replace(/\.$/, "")}`, fix: "" });
      return undefined;
    }
  }

  #scheduleName(): void {
    const { schedule } = this.recipe.train, known = Object.keys(rankAuthors);
    if (known.includes(schedule)) return;
    const file = resolve(this.recipe.folder, schedule), guess = nearest(schedule, known);
    if (!schedule.endsWith(".csv")) this.say(["train", "schedule"], { expected: `${known.join(", ")}, or the path of a .csv`, found: `"${schedule}"`, fix: guess ? `Did you mean "${guess}"?` : "" });
    else if (!existsSync(file)) this.say(["train", "schedule"], { expected: "a readable schedule", found: `nothing at ${file}`, fix: "Check the path; relative paths start at the recipe." });
  }
}

/** What makes this layout's bits others than those of one process. */
function rounding({ edges }: Plan): string[] {
  return edges.flatMap((edge) => edge.tensors.filter(({ compress }) => compress).map(({ from, gradient }) =>
    `${from.join(".")} travels as bf16 from ${edge.from} to ${edge.to}${gradient ? ", and so does its gradient back" : ""} (compress): the numbers are not those of a single process.`));
}

/** Components whose work reaches no objective. */
function unused(graph: Graph): string[] {
  const useful = new Set(graph.nodes.filter((n) => n.kind === "objective").map((n) => n.name));
  for (const node of [...graph.nodes].reverse()) if (graph.edges.some((e) => e.from[0] === node.name && useful.has(e.to[0]))) useful.add(node.name);
  return graph.nodes.filter((n) => !useful.has(n.name)).map((n) => `${n.name} (${n.use}) feeds no objective: it is computed and thrown away.`);
}
