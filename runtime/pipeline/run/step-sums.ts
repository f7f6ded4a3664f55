/**
 * What a rank adds up in a step: gradients, by component, and what components want summed over the batch.
 *
 * SS-1: a copy's microbatches are a subtree of the tree over all (LY-2): it adds its own, then copies add theirs (DP-1).
 * SS-2: copies make the same calls in the same order: all at the end, in the order of the graph. With ZeRO 2 and 3, where all copies go
 *       through the same schedule, a component's sums are reduced as soon as they are complete and the rest of the backward is to come, so
 *       that the gradients of one component at a time are whole.
 */
import { GradientTree } from "../../autograd/index.ts";
import type { DataCopies } from "../../parallel/index.ts";
import type { Tensor } from "../../tensor/index.ts";
import type { GraphNode } from "../graph/graph.ts";

type Named = Map<string, Tensor>;

export interface StepSumsInput {
  /** Of this rank, in the order of the graph. */
  nodes: readonly GraphNode[];
  /** The microbatches of this rank: `count` from `first`. */
  share: { first: number; count: number };
  copies?: DataCopies;
  /** SS-2. */
  early: boolean;
}

export class StepSums {
  readonly #trees: ReadonlyMap<GraphNode, GradientTree>;
  readonly #left: Map<GraphNode, number>;
  /** Reduced already. */
  readonly #reduced = new Map<GraphNode, Named>();
  readonly #sumTrees = new Map<string, GradientTree>();
  readonly #moved: string[] = [];

  constructor(private readonly o: StepSumsInput) {
    const learning = o.nodes.filter((node) => node.trainable);
    this.#trees = new Map(learning.map((node) => [node, new GradientTree(o.share.count)]));
    this.#left = new Map(learning.map((node) => [node, o.share.count]));
  }

  /** Takes over the gradients of a microbatch; a component of `nodes` may have none. */
  push(nodes: readonly GraphNode[], microbatch: number, gradients: ReadonlyMap<string, Tensor>): void {
    for (const node of nodes) {
      const tree = this.#trees.get(node), left = (this.#left.get(node) ?? 0) - 1;
      if (!tree) continue;
      tree.push(microbatch - this.o.share.first, new Map([...gradients].filter(([name]) => Object.hasOwn(node.parameters, name))));
      this.#left.set(node, left);
      if (left === 0 && this.o.early) this.#reduce(node, tree);
    }
  }

  /** Takes over what the components of a stage want summed. */
  pushSums(stage: string, microbatch: number, sums: Named): void {
    let tree = this.#sumTrees.get(stage);
    if (!tree) this.#sumTrees.set(stage, tree = new GradientTree(this.o.share.count));
    tree.push(microbatch - this.o.share.first, sums);
  }

  /** After the last microbatch; the caller owns the tensors. `moved`: every name with a gradient, also where another copy has its sum. */
  result(): { gradients: Named; moved: string[]; sums: Named } {
    for (const [node, tree] of this.#trees) if (!this.#reduced.has(node) && this.#left.get(node) === 0) this.#reduce(node, tree);
    const gradients = new Map([...this.#reduced.values()].flatMap((found) => [...found]));
    this.#reduced.clear();
    const sums = new Map([...this.#sumTrees.values()].flatMap((tree) => [...tree.result()]));
    this.o.copies?.sum(sums);
    return { gradients, moved: this.#moved, sums };
  }

  #reduce(node: GraphNode, tree: GradientTree): void {
    const sum = tree.result();
    this.#moved.push(...sum.keys());
    this.#reduced.set(node, this.o.copies?.reduce(sum) ?? sum);
  }

  /** Frees what a failed step left. */
  dispose(): void {
    for (const tree of [...this.#trees.values(), ...this.#sumTrees.values()]) tree.dispose();
    for (const found of this.#reduced.values()) for (const tensor of found.values()) tensor.dispose();
  }
}
