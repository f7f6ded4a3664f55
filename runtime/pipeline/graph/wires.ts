/**
 * The wires of a recipe: what each `in:` says, made into edges, with one problem for everything it says wrongly.
 *
 * W-1: a problem names both ends, and what would fit instead where something does.
 * W-2: what follows from a mistake already named (an input misspelt, a component that could not be built) is not named again.
 */
import { nearest } from "../../errors.ts";
import type { Port } from "../../plugin/ports.ts";
import { formatDims } from "../../plugin/ports.ts";
import type { RecipeProblem } from "../../plugin/problem.ts";
import { alternatives, problem } from "../../plugin/problem.ts";
import type { Edge, GraphInput, GraphNode } from "./graph.ts";
import { Dimensions } from "./unify.ts";

/** Reads the `in:` of every component, and says what is wrong with it. */
export class Wires {
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

/** Does the gradient of this output mean anything, as far as its component alone can tell? */
function givesGradient(node: GraphNode, port: Port): boolean {
  return port.gradient && node.kind !== "data-loader" && !node.frozen;
}
