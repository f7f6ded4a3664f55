/**
 * The component graph: which output feeds which input, checked as a whole.
 *
 * G-1: nodes are in topological order, ties in the order of the recipe; edges in the order of their receivers.
 * G-2: every edge agrees in dtype and in every dimension; a dimension's name has one value in the whole graph.
 * G-3: an edge carries a gradient when both ports do and something before it learns. A gradient is never stopped silently.
 */
import type { Members, Parameters, TokenShare } from "../../nn/index.ts";
import type { Plugin } from "../../plugin/define.ts";
import type { Components, Kind } from "../../plugin/kinds.ts";
import type { Dim, Ports } from "../../plugin/ports.ts";
import type { Locate, Place, RecipeProblem } from "../../plugin/problem.ts";
import type { DType } from "../../tensor/index.ts";
import { topological } from "./order.ts";
import type { Dimensions } from "./unify.ts";
import { Wires } from "./wires.ts";

export interface GraphNode {
  name: string;
  use: string;
  kind: Kind;
  plugin: Plugin;
  /** Accepted and filled. */
  options: unknown;
  ports: Ports;
  /** Input port -> "component.port", as the recipe says. */
  inputs: Record<string, string>;
  /** What `create` gave; it holds no tensors yet. */
  component: Components[Kind];
  /** By full name; empty for a data loader. */
  parameters: Parameters;
  /** Has a parameter that learns. */
  trainable: boolean;
  frozen: boolean;
  /** Where the component is shared out over a tensor group. */
  members?: Members;
  /** Where the tokens of its sequences are shared out over a context group. */
  tokens?: TokenShare;
}

export type End = readonly [component: string, port: string];
export interface Edge { from: End; to: End; dtype: DType; dims: readonly Dim[]; gradient: boolean }

export interface Graph {
  nodes: GraphNode[];
  edges: Edge[];
  dimensions: Dimensions;
  /** Blocks run again on the way back (`train.recompute`). */
  recompute: boolean;
}

export interface GraphInput {
  /** In the order of the recipe. */
  nodes: readonly GraphNode[];
  /** Every component the recipe names, also those that could not be built. */
  names: readonly string[];
  removed: Readonly<Record<string, Place>>;
  locate: Locate;
  recompute?: boolean;
}

/** The graph, with everything that is wrong with it. Edges that are wrong are left out. */
export function buildGraph(input: GraphInput): { graph: Graph; problems: RecipeProblem[] } {
  const wires = new Wires(input);
  const edges = input.nodes.flatMap((node) => wires.into(node));
  for (const node of input.nodes) wires.missing(node);
  const { order, cycles } = topological(input.nodes.map((n) => n.name), edges.map((e) => [e.from[0], e.to[0]]));
  for (const cycle of cycles) wires.cycle(cycle);
  const byName = new Map(input.nodes.map((node) => [node.name, node]));
  const nodes = order.map((name) => byName.get(name)!);
  // only now is every equation known: an edge shows the numbers that later edges gave its names
  const ordered = nodes.flatMap((node) => edges.filter((edge) => edge.to[0] === node.name));
  const resolved = withGradients(nodes, ordered).map((edge) => ({ ...edge, dims: wires.dimensions.resolve(edge.dims) }));
  return { graph: { nodes, edges: resolved, dimensions: wires.dimensions, recompute: input.recompute ?? false }, problems: wires.problems };
}

/** Gradient flows over an edge only when something at or before its start learns (G-3). */
function withGradients(ordered: readonly GraphNode[], edges: readonly Edge[]): Edge[] {
  const learns = new Set<string>();
  const carried = new Map<Edge, Edge>();
  for (const node of ordered) {
    const incoming = edges.filter((edge) => edge.to[0] === node.name);
    for (const edge of incoming) carried.set(edge, { ...edge, gradient: edge.gradient && learns.has(edge.from[0]) });
    if (node.trainable || (!node.frozen && incoming.some((edge) => carried.get(edge)!.gradient))) learns.add(node.name);
  }
  return edges.map((edge) => carried.get(edge) ?? edge);
}
