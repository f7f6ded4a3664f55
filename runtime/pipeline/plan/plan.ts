/**
 * The plan: which process runs which components, and what travels between processes.
 *
 * PL-1: every component is in exactly one stage; stages form a DAG; they are listed in topological order, ties as the recipe has them.
 * PL-2: one output that several components of a stage use is sent to that stage once.
 * PL-3: bytes are those of the largest microbatch, as far as components say how large a dimension can be; never a guess.
 */
import { nearest } from "../../errors.ts";
import type { Dim } from "../../plugin/ports.ts";
import type { Locate, RecipeProblem } from "../../plugin/problem.ts";
import { problem } from "../../plugin/problem.ts";
import { type DType, bytesPerElement } from "../../tensor/index.ts";
import type { Edge, End, Graph, GraphNode } from "../graph/graph.ts";
import { topological } from "../graph/order.ts";

export interface StagePlan {
  name: string;
  /** In the order in which they run. */
  components: string[];
  /** Longest path from a stage without inputs. */
  depth: number;
  /** False for stages that only run forward: data loaders, frozen teachers. */
  backward: boolean;
  /** Has parameters that learn, hence an optimizer step. */
  steps: boolean;
  /** Numbers, not tensors. */
  parameters: number;
  trainable: number;
}

/** One output on its way to one stage. */
export interface EdgeTensor {
  from: End;
  to: End[];
  dtype: DType;
  dims: readonly Dim[];
  /** A gradient of the same shape comes back. */
  gradient: boolean;
  /** Of the largest microbatch, as it travels; undefined when a dimension has no known size. */
  bytes: number | undefined;
  /** f32 that travels as bf16. */
  compress?: true;
}

export interface StageEdge {
  /** "image->fusion" */
  id: string;
  from: string;
  to: string;
  tensors: EdgeTensor[];
  /** At least one tensor has a gradient coming back. */
  gradient: boolean;
  /** Per microbatch, forward and back. */
  bytes: number | undefined;
  gradientBytes: number | undefined;
  /** How many microbatches may be on their way at once. */
  credits: number;
}

export interface Plan {
  stages: StagePlan[];
  edges: StageEdge[];
  microbatches: number;
  /** The largest value of every dimension that has one. */
  sizes: Record<string, number>;
}

export interface PlanInput {
  graph: Graph;
  /** Every component of the recipe, also those that could not be built. */
  names: readonly string[];
  stages: Readonly<Record<string, readonly string[]>> | undefined;
  batch: number;
  microbatches: number;
  locate: Locate;
  /** Outputs that travel as bf16: "component.port". */
  compress?: ReadonlySet<string>;
}

export function buildPlan(input: PlanInput): { plan: Plan; problems: RecipeProblem[] } {
  const { graph, microbatches } = input;
  const stages = input.stages ?? defaultStages(graph.nodes);
  const problems = membership(stages, input);
  const stageOf = new Map<string, string>();
  for (const [stage, members] of Object.entries(stages)) for (const member of members) if (!stageOf.has(member)) stageOf.set(member, stage);
  const crossing = graph.edges.filter((e) => stageOf.has(e.from[0]) && stageOf.has(e.to[0]) && stageOf.get(e.from[0]) !== stageOf.get(e.to[0]));
  const arcs = crossing.map((e) => [stageOf.get(e.from[0])!, stageOf.get(e.to[0])!] as const);
  const { order, cycles } = topological(Object.keys(stages), arcs);
  for (const cycle of cycles) problems.push(cycleProblem(cycle, crossing, stageOf, input.locate));
  const sizes = sizesOf(graph, input.batch / microbatches);
  const depths = depthsOf(order, arcs);
  const plan: Plan = {
    stages: order.map((name) => stagePlan(name, stages[name], depths, graph)),
    edges: stageEdges(order, crossing, stageOf, { graph, sizes, depths, compress: input.compress }),
    microbatches, sizes,
  };
  return { plan, problems };
}

/** Without `stages:` the loader is one process and the model another. */
function defaultStages(nodes: readonly GraphNode[]): Record<string, string[]> {
  const loaders = nodes.filter((n) => n.kind === "data-loader").map((n) => n.name);
  const others = nodes.filter((n) => n.kind !== "data-loader").map((n) => n.name);
  return { ...Object.fromEntries(loaders.map((name) => [name, [name]])), ...(others.length > 0 ? { model: others } : {}) };
}

function membership(stages: Readonly<Record<string, readonly string[]>>, { names, locate, graph }: PlanInput): RecipeProblem[] {
  const problems: RecipeProblem[] = [];
  const seen = new Map<string, { stage: string; line: number }>();
  for (const [stage, members] of Object.entries(stages)) {
    members.forEach((member, index) => {
      const path = ["stages", stage, index];
      const place = locate(path);
      const first = seen.get(member);
      if (!names.includes(member)) {
        const guess = nearest(member, names);
        problems.push(problem(place, path, { expected: "a component of the recipe", found: `"${member}"`, fix: guess ? `Did you mean "${guess}"?` : `Known: ${names.join(", ")}.` }));
      } else if (first) {
        problems.push(problem(place, path, { expected: "every component in one stage", found: `"${member}" here and in ${first.stage}${first.line > 0 ? ` at line ${first.line}` : ""}`, fix: "Remove one of them." }));
      } else seen.set(member, { stage, line: place.line });
    });
  }
  for (const name of names.filter((n) => !seen.has(n))) {
    const loaders = graph.nodes.filter((node) => node.kind === "data-loader").map((node) => node.name);
    const neighbour = graph.edges.filter((e) => e.to[0] === name && !loaders.includes(e.from[0])).map((e) => seen.get(e.from[0])?.stage).findLast((s) => s !== undefined);
    problems.push(problem(locate(["stages"], "key"), "stages", {
      expected: "every component in one stage", found: `none for "${name}"`,
      fix: neighbour ? `Add it to one, for example ${neighbour}: [${[...stages[neighbour], name].join(", ")}].` : `Add a line "${name}: [${name}]".`,
    }));
  }
  return problems;
}

function cycleProblem(cycle: readonly string[], crossing: readonly Edge[], stageOf: ReadonlyMap<string, string>, locate: Locate): RecipeProblem {
  const steps = cycle.map((from, i) => {
    const to = cycle[(i + 1) % cycle.length];
    const edge = crossing.find((e) => stageOf.get(e.from[0]) === from && stageOf.get(e.to[0]) === to)!;
    return `${edge.from.join(".")} -> ${edge.to.join(".")}`;
  });
  return problem(locate(["stages", cycle[0]], "key"), ["stages", cycle[0]], {
    expected: "tensors to flow one way between stages", found: `the cycle ${[...cycle, cycle[0]].join(" -> ")} (${steps.join(", ")})`,
    fix: "Put the components of one of these connections into one stage.",
  });
}

function depthsOf(order: readonly string[], arcs: readonly (readonly [string, string])[]): Map<string, number> {
  const depths = new Map<string, number>();
  for (const name of order) {
    const before = arcs.filter(([, to]) => to === name).map(([from]) => depths.get(from) ?? -1);
    depths.set(name, Math.max(-1, ...before) + 1);
  }
  return depths;
}

function stagePlan(name: string, members: readonly string[], depths: ReadonlyMap<string, number>, graph: Graph): StagePlan {
  const nodes = graph.nodes.filter((node) => members.includes(node.name));
  const count = (of: GraphNode): number => numbersIn(of, false);
  return {
    name,
    components: nodes.map((node) => node.name),
    depth: depths.get(name)!,
    backward: nodes.some((node) => node.trainable || (!node.frozen && graph.edges.some((e) => e.gradient && e.to[0] === node.name))),
    steps: nodes.some((node) => node.trainable),
    parameters: nodes.reduce((sum, node) => sum + count(node), 0),
    trainable: nodes.reduce((sum, node) => sum + numbersIn(node, true), 0),
  };
}

/** How many numbers the parameters of a component hold; `learning` counts those that move. */
export function numbersIn(node: GraphNode, learning: boolean): number {
  return Object.values(node.parameters).filter((p) => !learning || (p.trainable && !node.frozen))
    .reduce((sum, p) => sum + p.shape.reduce((size, dim) => size * dim, 1), 0);
}

interface Sizing { graph: Graph; sizes: Record<string, number>; depths: ReadonlyMap<string, number>; compress: PlanInput["compress"] }

function stageEdges(order: readonly string[], crossing: readonly Edge[], stageOf: ReadonlyMap<string, string>, s: Sizing): StageEdge[] {
  const edges: StageEdge[] = [];
  for (const to of order) {
    for (const from of order) {
      const between = crossing.filter((e) => stageOf.get(e.from[0]) === from && stageOf.get(e.to[0]) === to);
      if (between.length === 0) continue;
      const tensors = edgeTensors(between, s);
      const gradients = tensors.filter((t) => t.gradient);
      edges.push({
        id: `${from}->${to}`, from, to, tensors,
        gradient: gradients.length > 0,
        bytes: total(tensors),
        gradientBytes: total(gradients),
        // 1F1B lets a stage run ahead of another by the difference of their depths; one more is on its way
        credits: s.depths.get(to)! - s.depths.get(from)! + 1,
      });
    }
  }
  return edges;
}

function edgeTensors(edges: readonly Edge[], { graph, sizes, compress }: Sizing): EdgeTensor[] {
  const tensors = new Map<string, EdgeTensor>();
  for (const edge of edges) {
    const key = edge.from.join(".");
    const tensor = tensors.get(key);
    if (tensor) {
      tensor.to.push(edge.to);
      tensor.gradient ||= edge.gradient;
    } else {
      const dims = edge.dims.map((dim) => graph.dimensions.lookup(dim, sizes));
      const known = dims.every((dim) => dim !== undefined);
      const narrow = edge.dtype === "f32" && compress?.has(key) === true;
      const bytes = known ? dims.reduce((size, dim) => size * dim!, bytesPerElement(narrow ? "bf16" : edge.dtype)) : undefined;
      tensors.set(key, { from: edge.from, to: [edge.to], dtype: edge.dtype, dims: edge.dims, gradient: edge.gradient, bytes, ...(narrow ? { compress: true as const } : {}) });
    }
  }
  return [...tensors.values()];
}

function total(tensors: readonly EdgeTensor[]): number | undefined {
  return tensors.reduce<number | undefined>((sum, t) => (sum === undefined || t.bytes === undefined ? undefined : sum + t.bytes), 0);
}

/** B is a microbatch's; the rest is what components say, each hearing those before it. */
function sizesOf(graph: Graph, perMicrobatch: number): Record<string, number> {
  const sizes: Record<string, number> = { ...graph.dimensions.known(), B: Math.ceil(perMicrobatch) };
  for (const node of graph.nodes) {
    for (const [name, value] of Object.entries(node.plugin.maxDims(node.options, sizes))) sizes[name] ??= value;
  }
  return sizes;
}
