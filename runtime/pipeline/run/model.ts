import { openCheckpoint } from "../../checkpoint/index.ts";
import { type Parameters, countParameters, materialise, release, shareOfValues } from "../../nn/index.ts";
import { RuntimeError } from "../../errors.ts";
import type { DataLoader, OptimizerComponent, OptimizerLike } from "../../plugin/index.ts";
import { type TensorPlace, membersOf, shareOut, tokenShare } from "../../parallel/index.ts";
import { type Precision, configureIdleDevice } from "../../tensor/index.ts";
import type { CheckResult } from "../plan/check.ts";
import type { Graph, GraphNode } from "../graph/graph.ts";

export interface StageModelOptions {
  /** The stages whose components to hold; undefined: all components, as one stage. */
  stages?: readonly string[];
  seed: number;
  threads?: number;
  precision: Precision;
  load?: Load;
  /** The components are shared out with other processes. */
  tensor?: Omit<TensorPlace, "sharesTokens">;
  /** The tokens of their sequences are shared out with other processes. */
  context?: TensorPlace;
  /** Which parameters' states of the optimizer are kept here, where data copies share them out. Default: all. */
  remembers?: (name: string) => boolean;
  /** Read the loader's data now, so that what is wrong with it shows before the first step. Default true. */
  openData?: boolean;
}

/**
 * Start from the parameters of a checkpoint, with `optimizer` also from what the optimizer remembered (a resume); or each component named
 * from a checkpoint of its own.
 */
export type Load = { checkpoint: string; optimizer: boolean } | { components: Readonly<Record<string, string>> };

/** The part of a process that goes through a schedule of its own, and is one shard of a checkpoint. */
export interface StageShare {
  readonly name: string;
  /** In the order in which they run. */
  readonly nodes: readonly GraphNode[];
  readonly parameters: Parameters;
  readonly learns: boolean;
}

/** The components of one process, with values. */
export interface StageModel {
  readonly stages: readonly StageShare[];
  readonly graph: Graph;
  /** In the order in which they run. */
  readonly nodes: readonly GraphNode[];
  /** Of all components here, by full name. */
  readonly parameters: Parameters;
  readonly optimizer: OptimizerLike;
  learningRate(step0: number): number;
  readonly loader?: DataLoader;
  readonly seed: number;
  readonly precision: Precision;
  /** Numbers in the parameters here. */
  readonly size: number;
  /** What was left out of the data, one line per place. */
  readonly warnings: string[];
  close(): Promise<void>;
}

/**
 * Gives the components of a process their values: from a checkpoint by name where one is given (a name it lacks starts afresh,
 * unless the run is being resumed), else by seed and name alone, so that every layout starts from the same bits.
 */
export async function loadStageModel(checked: CheckResult, o: StageModelOptions): Promise<StageModel> {
  const { graph, plan, recipe } = checked;
  const stages = o.stages === undefined ? [shareOf("model", graph.nodes)] : o.stages.map((name) => {
    const found = plan.stages.find((stage) => stage.name === name);
    if (!found) throw new RuntimeError("ERR_RECIPE", `stage ${name}: expected one of ${plan.stages.map((s) => s.name).join(", ")}.`, { stage: name });
    return shareOf(name, graph.nodes.filter((node) => found.components.includes(node.name)));
  });
  const nodes = graph.nodes.filter((node) => stages.some((stage) => stage.nodes.includes(node)));
  if (o.threads !== undefined) await configureIdleDevice({ threads: o.threads }); // other models of this process may be at work
  if (o.tensor && o.tensor.size > 1) for (const node of nodes) shareOutComponent(node, { ...o.tensor, sharesTokens: recipe.train.sequence_parallel });
  if (o.context && o.context.size > 1) for (const node of nodes) if (node.plugin.context) node.tokens = tokenShare(o.context);
  const parameters: Parameters = Object.assign({}, ...stages.map((stage) => stage.parameters));
  const optimizerPlugin = checked.optimizer.plugin.create(checked.optimizer.options, checked.host) as OptimizerComponent;
  const optimizer = optimizerPlugin.create();
  if (o.load && "components" in o.load) loadComponents(nodes, o.seed, o.load.components);
  else initialise(parameters, optimizer, o);
  const loader = nodes.find((node) => node.kind === "data-loader")?.component as DataLoader | undefined;
  if (o.openData ?? true) await loader?.open();
  return {
    stages, graph, nodes, parameters, optimizer, loader, seed: o.seed, precision: o.precision,
    learningRate: (step0) => optimizerPlugin.learningRate(step0, recipe.train.steps),
    size: countParameters(parameters),
    warnings: (loader?.faults?.() ?? []).map(({ file, member, problem }) => `${file}${member === undefined ? "" : `: ${member}`}: ${problem}; left out`),
    async close() {
      optimizer.dispose();
      release(parameters);
      await loader?.close();
    },
  };
}

/** Before its parameters have values. That the plugin can be shared out was checked with the layout. */
function shareOutComponent(node: GraphNode, place: TensorPlace): void {
  const plan = node.plugin.tensor?.(node.options);
  if (!plan || "refused" in plan) return;
  node.members = membersOf(place);
  shareOut(node.parameters, plan, node.members);
}
const shareOf = (name: string, nodes: readonly GraphNode[]): StageShare =>
  ({ name, nodes, parameters: Object.assign({}, ...nodes.map((node) => node.parameters)) as Parameters, learns: nodes.some((node) => node.trainable) });

function loadComponents(nodes: readonly GraphNode[], seed: number, components: Readonly<Record<string, string>>): void {
  for (const node of nodes) {
    const from = Object.hasOwn(components, node.name) ? openCheckpoint(components[node.name]) : undefined;
    try {
      materialise(node.parameters, { seed, prefix: "", load: from && ((name) => from.parameter(name)) });
    } finally {
      from?.close();
    }
  }
}

function initialise(parameters: Parameters, optimizer: OptimizerLike, { seed, load, remembers = () => true }: StageModelOptions): void {
  if (!load || "components" in load) return materialise(parameters, { seed, prefix: "" });
  const reader = openCheckpoint(load.checkpoint);
  try {
    materialise(parameters, {
      seed, prefix: "",
      load: (name, parameter) => {
        const values = reader.parameter(name);
        if (!values && load.optimizer) {
          throw new RuntimeError("ERR_CHECKPOINT", `${load.checkpoint}: holds no "${name}" (${parameter.wholeShape.join(", ")}), which the recipe needs. Resume with the recipe that the checkpoint was written by.`, { name });
        }
        return values;
      },
    });
    if (!load.optimizer) return;
    for (const [name, parameter] of Object.entries(parameters).filter(([name]) => remembers(name))) {
      const state = reader.optimizerState(name);
      const here = Object.fromEntries(Object.entries(state).map(([slot, values]) => [slot, shareOfValues(parameter, values)]));
      if (Object.keys(here).length > 0) optimizer.load(parameter, here);
    }
  } finally {
    reader.close();
  }
}
