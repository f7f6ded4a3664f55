import type { ForwardContext, HostMicrobatch, TensorComponent } from "../../plugin/index.ts";
import { Scope, type Tensor, clone } from "../../tensor/index.ts";
import { type ComponentPass, forwardPass, lossSeed, sumInEdgeOrder } from "./component-pass.ts";
import { upload } from "./feed.ts";
import type { Edge, Graph, GraphNode } from "../graph/graph.ts";

/** Tensors that cross a border of processes, by `component.port` (forward) or by edge (backward). */
export type Crossing = Record<string, Tensor>;

export const outputKey = (component: string, port: string): string => `${component}.${port}`;
export const edgeKey = (edge: Edge): string => `${outputKey(...edge.from)}>${outputKey(...edge.to)}`;

/** Values that are with other processes between uses (ZeRO 3): asked for before a component runs, in either direction, and told after it. */
export interface Residence { take(node: GraphNode): void; leave(node: GraphNode): void }

/**
 * One microbatch on its way through the components that live in this process: all of them when training in one process, the
 * stage's share in a pipeline. Everything it makes belongs to its scope and is freed by `close`.
 *
 * MB-1: `backward` adds the gradients of one output in the order of the graph's edges, wherever their consumers ran.
 * MB-2: inputs from elsewhere are adopted; what `forward` and `backward` return stays owned by the scope.
 * MB-3: `backwardInputs` and then `backwardWeights` give the bits of `backward`; between them only what the weights need is kept, and
 *       what `value` may be asked for.
 * MB-4: with a `residence` a component's values are there while it runs, and an output that is one of them is a copy.
 */
export class MicrobatchPass {
  readonly scope: Scope;
  readonly #passes = new Map<string, ComponentPass>();
  readonly #values = new Map<string, Tensor>();
  readonly #sums = new Map<string, Tensor>();
  /** Those that `backwardInputs` went through, in its order. */
  readonly #halfway: (readonly [GraphNode, ComponentPass])[] = [];

  constructor(
    private readonly graph: Graph, private readonly nodes: readonly GraphNode[], private readonly context: ForwardContext, label: string,
    private readonly residence?: Residence,
  ) {
    this.scope = new Scope(label);
  }

  /** Runs the components in graph order. `received`: outputs of components elsewhere; `data`: what the loader gives, where it is here. */
  forward(received: Crossing, data?: HostMicrobatch): void {
    for (const [key, tensor] of Object.entries(received)) this.#values.set(key, this.scope.adopt(tensor));
    this.scope.enter(() => {
      for (const node of this.nodes) this.#runForward(node, data);
    });
  }

  #runForward(node: GraphNode, data: HostMicrobatch | undefined): void {
    let outputs: Readonly<Record<string, Tensor>>;
    if (node.kind === "data-loader") {
      if (!data) throw new Error(`microbatch: ${node.name} was given no data`);
      outputs = upload(data);
    } else {
      const { edges, inputs } = this.#inputs(node);
      const wants = new Set(edges.filter((edge) => edge.gradient).map((edge) => edge.to[1]));
      const addUp = this.context.training ? (name: string, tensor: Tensor) => void this.#sums.set(outputKey(node.name, name), tensor) : undefined;
      outputs = this.#withValues(node, () => {
        const pass = forwardPass(node.component as TensorComponent, inputs, wants, told(this.context, { recompute: this.graph.recompute, members: node.members, tokens: node.tokens, addUp }));
        this.#passes.set(node.name, pass);
        return this.residence ? outliving(node, pass.outputs) : pass.outputs;
      });
    }
    for (const [port, tensor] of Object.entries(outputs)) this.#values.set(outputKey(node.name, port), tensor);
  }

  #withValues<T>(node: GraphNode, work: () => T): T {
    this.residence?.take(node);
    const result = work();
    this.residence?.leave(node);
    return result;
  }

  #inputs(node: GraphNode): { edges: Edge[]; inputs: Record<string, Tensor> } {
    const edges = this.graph.edges.filter((edge) => edge.to[0] === node.name);
    return { edges, inputs: Object.fromEntries(edges.map((edge) => [edge.to[1], this.value(...edge.from)])) };
  }

  /** After `forward`: the classes that the objectives here asked for, by objective; of those that choose among classes. */
  targets(): [name: string, classes: Tensor][] {
    return this.scope.enter(() => this.nodes.flatMap((node): [string, Tensor][] => {
      const classes = (node.component as Partial<TensorComponent>).targets?.(this.#inputs(node).inputs);
      return classes ? [[node.name, classes]] : [];
    }));
  }

  /** An output of `forward`, or a tensor that was received. */
  value(component: string, port: string): Tensor {
    const tensor = this.#values.get(outputKey(component, port));
    if (!tensor) throw new Error(`microbatch: ${component}.${port} was not computed here`);
    return tensor;
  }

  /** What the components here want summed over the batch, by `component.name`: `addUp`. */
  sums(): Map<string, Tensor> {
    return this.#sums;
  }

  /** The scalars of the objectives here: `name` for the loss, `name.metric` for the rest; in graph order. */
  scalars(): [name: string, tensor: Tensor][] {
    return scalarPorts(this.nodes).map(({ name, node, port }) => [name, this.value(node, port)]);
  }

  /**
   * Walks back. `received`: gradients of edges whose consumer is elsewhere, by edge; an edge may be missing when no gradient
   * reached it. Returns the gradients of the parameters here, and of the edges whose producer is elsewhere. `found` hears those of a
   * component as soon as they are enqueued, the last component first.
   */
  backward(received: Crossing, found?: (node: GraphNode, parameters: Map<string, Tensor>) => void): { parameters: Map<string, Tensor>; crossing: Crossing } {
    const parameters = new Map<string, Tensor>();
    const crossing = this.#walkBack(received, (pass, seeds, node) => {
      const gradients = pass.backward(seeds);
      for (const [name, gradient] of gradients.parameters) parameters.set(name, gradient);
      found?.(node, gradients.parameters);
      return gradients.inputs;
    });
    return { parameters, crossing };
  }

  /** The first half of `backward`, as far as the edges whose producer is elsewhere: their gradients. */
  backwardInputs(received: Crossing): Crossing {
    return this.#walkBack(received, (pass, seeds, node) => {
      this.#halfway.push([node, pass]);
      return pass.backwardInputs(seeds);
    });
  }

  /** The second half, after `backwardInputs`: the gradients of the parameters here. */
  backwardWeights(): Map<string, Tensor> {
    return this.scope.enter(() => new Map(this.#halfway.splice(0).flatMap(([node, pass]) => [...this.#withValues(node, () => pass.backwardWeights())])));
  }

  #walkBack(received: Crossing, back: (pass: ComponentPass, seeds: Record<string, Tensor>, node: GraphNode) => Readonly<Record<string, Tensor>>): Crossing {
    const gradients = new Map(Object.entries(received).map(([key, tensor]) => [key, this.scope.adopt(tensor)]));
    const crossing: Crossing = {};
    const here = new Set(this.nodes.map((node) => node.name));
    this.scope.enter(() => {
      for (const node of this.nodes.toReversed()) {
        const pass = this.#passes.get(node.name);
        if (!pass || node.frozen) continue;
        const seeds = this.#outputGradients(node, gradients);
        if (Object.keys(seeds).length === 0) continue;
        const inputs = this.#withValues(node, () => back(pass, seeds, node));
        for (const edge of this.graph.edges.filter((edge) => edge.to[0] === node.name && edge.gradient)) {
          const gradient = inputs[edge.to[1]];
          if (!gradient) continue;
          gradients.set(edgeKey(edge), gradient);
          if (!here.has(edge.from[0])) crossing[edgeKey(edge)] = gradient;
        }
      }
    });
    return crossing;
  }

  #outputGradients(node: GraphNode, gradients: ReadonlyMap<string, Tensor>): Record<string, Tensor> {
    if (node.kind === "objective") return { loss: lossSeed(this.value(node.name, "loss")) };
    const seeds: Record<string, Tensor> = {};
    for (const port of Object.keys(node.ports.out)) {
      const back = this.graph.edges
        .filter((edge) => edge.from[0] === node.name && edge.from[1] === port)
        .flatMap((edge) => gradients.get(edgeKey(edge)) ?? []);
      if (back.length > 0) seeds[port] = sumInEdgeOrder(back);
    }
    return seeds;
  }

  close(): void {
    this.scope.close();
  }
}

/** Where the scalars of objectives come from, in graph order, and what they are called. */
export function scalarPorts(nodes: readonly GraphNode[]): { name: string; node: string; port: string }[] {
  return nodes.filter((node) => node.kind === "objective").flatMap((node) =>
    Object.keys(node.ports.out).map((port) => ({ name: port === "loss" ? node.name : `${node.name}.${port}`, node: node.name, port })));
}

/** An output that shares the memory of a parameter (a table that an objective borrows) would be gone with it. */
function outliving(node: GraphNode, outputs: Readonly<Record<string, Tensor>>): Record<string, Tensor> {
  const roots = new Set(Object.values(node.parameters).map(({ value }) => value.root));
  return Object.fromEntries(Object.entries(outputs).map(([port, tensor]) => [port, roots.has(tensor.root) ? clone(tensor) : tensor]));
}

/** The context with more; what it computes when asked (`trainer/compiled-step.ts` watches that) is not asked here. */
function told(context: ForwardContext, more: Pick<ForwardContext, "addUp" | "recompute" | "members" | "tokens">): ForwardContext {
  return Object.defineProperties({}, { ...Object.getOwnPropertyDescriptors(context), ...Object.getOwnPropertyDescriptors(more) }) as ForwardContext;
}
