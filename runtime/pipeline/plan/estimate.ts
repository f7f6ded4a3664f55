/**
 * What a stage costs: operations and bytes of one microbatch. Nothing is measured.
 *
 * ES-0: a component with a row in `costs.ts` costs what that says, forward, and as much for each of the two gradients; ES-1, ES-2 and
 *       ES-4 are for the others, whose weights are all that is known of them.
 * ES-1: a weight (out, in) that meets n rows costs 2 n in out operations forward, as many for the gradient of its input and again for that
 *       of itself. Attention between tokens, norms and activations are left out.
 * ES-2: between forward and backward a weight keeps what went in and what came out: n (in + out) numbers.
 * ES-3: with `recompute`, a layer keeps its input, runs forward twice, and one layer at a time keeps what is inside it. What stays for
 *       the whole run is in `rank-memory.ts`.
 * ES-4: a table of words is looked up, not multiplied; an objective that borrows one multiplies it.
 */
import type { Dim } from "../../plugin/ports.ts";
import { bytesPerElement } from "../../tensor/index.ts";
import { type Cost, costOf, pageSizes } from "./costs.ts";
import type { Graph, GraphNode } from "../graph/graph.ts";
import type { Plan } from "./plan.ts";

export interface StageEstimate {
  /** Operations of one microbatch. */
  forward: number;
  inputGradient: number;
  weightGradient: number;
  /** Bytes remembered from the forward of one microbatch to its backward. */
  activations: number;
  /** Bytes more while its backward runs. */
  transient: number;
}

/** What was measured of a component (`run/profile.ts`). Microseconds per microbatch. Without a gradient both are 0; the gradients of inputs come with those of weights that share a kernel with them. */
export interface ComponentProfile { component: string; forward: number; inputGradient: number; weightGradient: number }

export interface EstimateSettings {
  /** Activations are bf16, not f32. */
  bf16: boolean;
  /** Layers keep their input only. */
  recompute: boolean;
}

/** One estimate per stage, in the order of the plan. */
export function estimateStages(graph: Graph, plan: Plan, o: EstimateSettings): StageEstimate[] {
  const byName = new Map(graph.nodes.map((node) => [node.name, node]));
  return plan.stages.map((stage) => stage.components.map((name) => estimateComponent(byName.get(name)!, graph, plan, o))
    .reduce((sum, one) => ({ ...mapValues(sum, (value, what) => value + one[what]), transient: Math.max(sum.transient, one.transient) }), nothing));
}

/** A component's part of what its stage costs. */
export function estimateComponent(node: GraphNode, graph: Graph, plan: Plan, { bf16, recompute }: EstimateSettings): StageEstimate {
  const learns = !node.frozen && plan.stages.some((stage) => stage.backward && stage.components.includes(node.name));
  const { flops, kept, layers } = costOfMicrobatch(node, graph, plan.sizes);
  if (!learns) return { ...nothing, forward: flops };
  const bytes = bytesPerElement(bf16 ? "bf16" : "f32"), again = recompute && layers ? layers : { count: 0, inside: 0 };
  return {
    forward: flops, inputGradient: flops * (again.count > 0 ? 2 : 1), weightGradient: flops,
    activations: (kept - again.count * again.inside) * bytes, transient: again.inside * bytes,
  };
}

/** Operations of a forward, and numbers kept until the backward. */
function costOfMicrobatch(node: GraphNode, graph: Graph, sizes: Readonly<Record<string, number>>): Pick<Cost, "flops" | "kept" | "layers"> {
  const counted = costOf(node.use, node.options, pageSizes(sizes)), pages = sizes.B ?? 1;
  if (counted) return { flops: counted.flops * pages, kept: counted.kept * pages, ...(counted.layers && { layers: { count: counted.layers.count, input: counted.layers.input * pages, inside: counted.layers.inside * pages } }) };
  const rows = rowsOf(node, graph, sizes), weights = multiplied(node, graph);
  return {
    flops: weights.reduce((sum, { inputs, outputs }) => sum + 2 * rows * inputs * outputs, 0),
    kept: weights.reduce((sum, { inputs, outputs }) => sum + rows * (inputs + outputs), 0),
  };
}

const nothing: StageEstimate = { forward: 0, inputGradient: 0, weightGradient: 0, activations: 0, transient: 0 };
const mapValues = (of: StageEstimate, change: (value: number, what: keyof StageEstimate) => number): StageEstimate =>
  Object.fromEntries((Object.keys(of) as (keyof StageEstimate)[]).map((what) => [what, change(of[what], what)])) as unknown as StageEstimate;

/** Weights by which a component multiplies its rows: its own, and those an objective borrows. */
function multiplied(node: GraphNode, graph: Graph): { inputs: number; outputs: number }[] {
  const { vocabulary } = node.options as { vocabulary?: unknown };
  const own = Object.values(node.parameters).map((p) => p.shape).filter((shape) => shape.length >= 2 && shape[0] !== vocabulary);
  const borrowed = graph.edges.filter((edge) => edge.to[0] === node.name && edge.dims.length === 2 && edge.dims.every((dim) => typeof dim === "number")).map((edge) => edge.dims as number[]);
  return [...own, ...borrowed].map(([outputs, ...rest]) => ({ outputs, inputs: rest.reduce((size, dim) => size * dim, 1) }));
}

/**
 * How many rows a component works on: of its widest output (..., D), or where nobody says how large that is, of its inputs together,
 * equal shapes once; an objective on the places it is told, else on what it gets. 0 when nothing is known.
 */
function rowsOf(node: GraphNode, graph: Graph, sizes: Readonly<Record<string, number>>): number {
  const size = (dims: readonly Dim[]): number | undefined =>
    dims.reduce<number | undefined>((product, dim) => ((known) => (product === undefined || known === undefined ? undefined : product * known))(graph.dimensions.lookup(dim, sizes)), 1);
  const known = (shapes: readonly (readonly Dim[])[]): number[] => shapes.map(size).filter((rows) => rows !== undefined);
  const rows = (shapes: readonly (readonly Dim[])[]): number[] => known(shapes.filter((dims) => dims.length >= 3).map((dims) => dims.slice(0, -1)));
  const incoming = graph.edges.filter((edge) => edge.to[0] === node.name);
  if (node.kind === "objective") {
    const places = known(incoming.filter((edge) => edge.dtype === "i32").map((edge) => edge.dims));
    return Math.max(0, ...(places.length > 0 ? places : rows(incoming.map((edge) => edge.dims))));
  }
  const out = rows(Object.values(node.ports.out).map((port) => port.dims));
  if (out.length > 0) return Math.max(...out);
  const distinct = new Map(incoming.map((edge) => [edge.dims.join(), edge.dims]));
  return rows([...distinct.values()]).reduce((sum, n) => sum + n, 0);
}

/** Components with weights for which no number of rows is known: they count as nothing, and whoever reads the plan must know. */
export function unsizedComponents(graph: Graph, sizes: Readonly<Record<string, number>>): string[] {
  return graph.nodes.filter((node) => costOf(node.use, node.options, pageSizes(sizes)) === undefined && multiplied(node, graph).length > 0 && rowsOf(node, graph, sizes) === 0).map((node) => node.name);
}
