/**
 * The component graph: which output feeds which input, checked as a whole.
 *
 * G-1: nodes are in topological order, ties in the order of the recipe; edges in the order of their receivers.
 * G-2: every edge agrees in dtype and in every dimension; a dimension's name has one value in the whole graph.
 * G-3: an edge carries a gradient when both ports do and something before it learns. A gradient is never stopped silently.
 */
import { nearest } from "../errors.ts";
import type { Parameters } from "../nn/index.ts";
import type { DType } from "../tensor/index.ts";
import type { Plugin } from "../plugin/define.ts";
import type { Components, Kind } from "../plugin/kinds.ts";
import type { Dim, Port, Ports } from "../plugin/ports.ts";
import { formatDims } from "../plugin/ports.ts";
import type { Locate, Place, RecipeProblem } from "../plugin/problem.ts";
import { alternatives, problem } from "../plugin/problem.ts";
import { Dimensions } from "./unify.ts";

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
}

export type End = readonly [component: string, port: string];
export interface Edge { from: End; to: End; dtype: DType; dims: readonly Dim[]; gradient: boolean }

export interface Graph {
  nodes: GraphNode[];
  edges: Edge[];
  dimensions: Dimensions;
}

export interface GraphInput {
  /** In the order of the recipe. */
  nodes: readonly GraphNode[];
  /** Every component the recipe names, also those that could not be built. */
  names: readonly string[];
  removed: Readonly<Record<string, Place>>;
  locate: Locate;
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
  return { graph: { nodes, edges: resolved, dimensions: wires.dimensions }, problems: wires.problems };
}

/** Does the gradient of this output mean anything, as far as its component alone can tell? */
function givesGradient(node: GraphNode, port: Port): boolean {
  return port.gradient && node.kind !== "data-loader" && !node.frozen;
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

/** Reads the `in:` of every component, and says what is wrong with it. */
class Wires {
  readonly problems: RecipeProblem[] = [];
  readonly dimensions = new Dimensions();
  readonly #nodes: Map<string, GraphNode>;

  constructor(readonly input: GraphInput) {
    this.#nodes = new Map(input.nodes.map((node) => [node.name, node]));
  }

  into(node: GraphNode): Edge[] {
    return Object.entries(node.inputs).flatMap(([name, from]) => {
      const path = ["components", node.name, "in", name];
      const port = node.ports.in[name];
      if (port === undefined) {
        const known = Object.keys(node.ports.in);
        this.#say(path, { expected: known.length === 0 ? `no inputs: ${node.use} has none` : `an input of ${node.use}`, found: `"${name}"`, fix: suggest(name, known) || "Remove it." }, "key");
        return [];
      }
      const source = this.#source(from, path, port);
      return source === undefined ? [] : this.#connect(source, { node, port, name }, path);
    });
  }

  /** "text.states" -> that output; undefined with a problem, or without one where a removed component fed an optional port. */
  #source(from: string, path: string[], taker: Port): Output | undefined {
    const [component, name, ...rest] = from.split(".");
    const { names, removed } = this.input;
    if (rest.length > 0 || !component) {
      this.#say(path, { expected: "component.port", found: `"${from}"`, fix: "Write for example text.states." });
      return undefined;
    }
    if (!names.includes(component)) {
      const gone = removed[component];
      if (gone && taker.optional) return undefined;
      this.#say(path, {
        expected: "an output of a component", found: gone ? `"${from}", which ${gone.file} removed` : `"${from}"; there is no component ${component}`,
        fix: gone ? "This input is not optional: connect it to another output." : suggest(component, names),
      });
      return undefined;
    }
    const node = this.#nodes.get(component);
    if (node === undefined) return undefined; // could not be built; that is said elsewhere
    const known = Object.keys(node.ports.out);
    if (name === undefined || !Object.hasOwn(node.ports.out, name)) {
      this.#say(path, {
        expected: known.length === 0 ? `an output; ${component} (${node.use}) has none` : `an output of ${component} (${node.use})`, found: `"${from}"`,
        fix: name === undefined ? `Write ${alternatives(known.map((k) => `${component}.${k}`))}.` : suggest(name, known, `${component}.`),
      });
      return undefined;
    }
    return { node, name, port: node.ports.out[name] };
  }

  #connect(from: Output, to: Output, path: string[]): Edge[] {
    const by = `${from.node.name}.${from.name} -> ${to.node.name}.${to.name}`;
    const sameRank = from.port.dims.length === to.port.dims.length;
    const differences = !sameRank ? [] : from.port.dims.flatMap((dim, i) => {
      const conflict = this.dimensions.unify(dim, to.port.dims[i], by);
      return conflict ? [{ ...conflict, index: i }] : [];
    });
    const sameDtype = from.port.dtype === to.port.dtype;
    if (!sameRank || !sameDtype || differences.length > 0) {
      const shape = (end: Output): string => `${sameDtype ? "" : `${end.port.dtype} `}${formatDims(end.port.dims)}`;
      this.#say(path, {
        expected: `one ${[sameDtype ? "" : "dtype", sameRank && differences.length === 0 ? "" : "shape"].filter(Boolean).join(" and ")} at both ends`,
        found: `that ${from.node.name}.${from.name} gives ${shape(from)}, ${to.node.name}.${to.name} takes ${shape(to)}`,
        fix: [
          ...differences.map((d) => difference(d, from, to)),
          ...(sameRank ? [] : [`${from.port.dims.length} dimensions against ${to.port.dims.length}.`]),
          ...(sameDtype && sameRank ? [] : [this.#others(to)]),
        ].filter(Boolean).join(" "),
      });
      return [];
    }
    const gradient = givesGradient(from.node, from.port);
    if (gradient && !to.port.gradient) {
      this.#say(path, {
        expected: `an output without gradient, since none comes back from ${to.node.name}.${to.name}`, found: `${from.node.name}.${from.name}, which needs one`,
        fix: this.#others(to) || "Connect an output of the data loader or of a frozen component.",
      });
      return [];
    }
    return [{ from: [from.node.name, from.name], to: [to.node.name, to.name], dtype: from.port.dtype, dims: from.port.dims, gradient: gradient && to.port.gradient }];
  }

  missing(node: GraphNode): void {
    const known = Object.keys(node.ports.in);
    const misspelt = Object.keys(node.inputs).filter((name) => !known.includes(name)).map((name) => nearest(name, known));
    for (const [name, port] of Object.entries(node.ports.in)) {
      if (port.optional || Object.hasOwn(node.inputs, name) || misspelt.includes(name)) continue;
      const path = ["components", node.name, "in"];
      const others = this.#candidates({ node, name, port });
      this.#say(path, {
        expected: `input "${name}" of ${node.use}, ${port.dtype} ${formatDims(port.dims)}`, found: "nothing connected to it",
        fix: others.length > 0 ? `Add "${name}: ${others[0]}"${others.length > 1 ? ` (${others.slice(1).join(", ")} would fit too)` : ""}.` : "No component gives such a tensor: add one.",
      }, "key");
    }
  }

  cycle(names: readonly string[]): void {
    this.#say(["components", names[0]], { expected: "no component to wait for itself", found: `the cycle ${[...names, names[0]].join(" -> ")}`, fix: "Cut one of these connections." }, "key");
  }

  #others(to: Output): string {
    const fitting = this.#candidates(to);
    return fitting.length > 0 ? `${alternatives(fitting)} would fit.` : "";
  }

  /** Outputs that this input could take: where component or port bear its name, else any; at most three. */
  #candidates(to: Output): string[] {
    const fitting = this.input.nodes.filter((node) => node !== to.node).flatMap((node) => Object.entries(node.ports.out)
      .filter(([, port]) => port.dtype === to.port.dtype && port.dims.length === to.port.dims.length
        && port.dims.every((dim, i) => this.dimensions.fits(dim, to.port.dims[i])) && (to.port.gradient || !givesGradient(node, port)))
      .map(([name]) => ({ text: `${node.name}.${name}`, score: (node.name === to.name ? 2 : 0) + (name === to.name ? 1 : 0) })));
    const named = fitting.filter((f) => f.score > 0).sort((a, b) => b.score - a.score);
    return (named.length > 0 ? named : fitting).slice(0, 3).map((f) => f.text);
  }

  #say(path: readonly string[], said: { expected: string; found: string; fix: string }, part: "key" | "value" = "value"): void {
    this.problems.push(problem(this.input.locate(path, part), path, said));
  }
}

interface Output { node: GraphNode; name: string; port: Port }

function suggest(word: string, known: readonly string[], prefix = ""): string {
  const guess = nearest(word, known);
  if (guess !== undefined) return `Did you mean "${prefix}${guess}"?`;
  return known.length > 0 ? `Known: ${known.map((k) => prefix + k).join(", ")}.` : "";
}

/** Which numbers differ, and which options hold them. */
function difference(d: { left: number; right: number; because: string[]; index: number }, from: Output, to: Output): string {
  const holders = [...optionsHolding(from, d.left), ...optionsHolding(to, d.right)];
  const why = [...d.because, ...(holders.length > 0 ? [holders.join("; ")] : [])];
  return `Dimension ${d.index + 1} is ${d.left} against ${d.right}${why.length > 0 ? ` (${why.join("; ")})` : ""}.`;
}

/** Options that have the value; those that bear the name of the port, if there are such. */
function optionsHolding({ node, name }: Output, value: number): string[] {
  if (typeof node.options !== "object" || node.options === null) return [];
  const holding = Object.entries(node.options).filter(([, v]) => v === value).map(([key]) => key);
  const named = holding.filter((key) => key.includes(name));
  return (named.length > 0 ? named : holding).map((key) => `${node.name}.options.${key} = ${value}`);
}

/** Kahn's order, ties in the given order; what is left over is in cycles, each named once, and appended. */
export function topological(names: readonly string[], arcs: readonly (readonly [from: string, to: string])[]): { order: string[]; cycles: string[][] } {
  const left = new Set(names);
  const order: string[] = [];
  const cycles: string[][] = [];
  const before = (name: string): string[] => arcs.filter(([from, to]) => to === name && left.has(from)).map(([from]) => from);
  while (left.size > 0) {
    const free = names.find((name) => left.has(name) && before(name).length === 0);
    if (free !== undefined) {
      left.delete(free);
      order.push(free);
      continue;
    }
    // everything left has a predecessor in it: walking back must meet itself
    const walk: string[] = [];
    let here = names.find((name) => left.has(name))!;
    while (!walk.includes(here)) {
      walk.push(here);
      here = before(here)[0];
    }
    const cycle = walk.slice(walk.indexOf(here)).reverse();
    const start = cycle.indexOf(names.find((name) => cycle.includes(name))!);
    const named = [...cycle.slice(start), ...cycle.slice(0, start)];
    cycles.push(named);
    for (const name of named) left.delete(name);
    order.push(...named);
  }
  return { order, cycles };
}
