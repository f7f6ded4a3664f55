/**
 * What the components of a recipe cost here, measured: each alone, forward and back, on real batches in one process.
 *
 * PF-1: a cost is the median over steps and microbatches of the time the device spent, the first step left out (memory grows, kernels are
 *       chosen). Nothing is trained: no parameter moves.
 * PF-2: the times are of this machine with the given threads, without other ranks beside it.
 */
import { type Span, createTimeline } from "../../metrics/index.ts";
import { native } from "../../native.ts";
import { type Tensor, clone, fence } from "../../tensor/index.ts";
import type { CheckResult } from "../plan/check.ts";
import type { ComponentProfile } from "../plan/estimate.ts";
import { Feed } from "./feed.ts";
import { type Edge, type GraphNode } from "../graph/graph.ts";
import { type Crossing, MicrobatchPass, edgeKey, outputKey } from "./microbatch.ts";
import { type StageModel, loadStageModel } from "./model.ts";

export async function profileRecipe(checked: CheckResult, { steps = 3, threads = 1 }: { steps?: number; threads?: number } = {}): Promise<ComponentProfile[]> {
  const { recipe } = checked, { batch, microbatches } = recipe.train;
  const model = await loadStageModel(checked, { seed: recipe.seed, precision: recipe.train.precision === "bf16" ? "bf16" : "f32", threads });
  const timeline = createTimeline(native());
  try {
    const feed = new Feed(model.loader!, { seed: recipe.seed, batch, microbatches, steps: steps + 1 });
    for (let step = 0; step <= steps; step++) {
      const { counts, microbatches: parts } = await feed.batch(step);
      for (const data of parts) {
        const pass = new AloneTogether(model, { training: true, step, seed: recipe.seed, counts, precision: model.precision, sampleIds: data.sampleIds });
        timeline.on = step > 0;
        try {
          pass.run(data, (what, node, work) => timeline.device({ kind: "compute", name: what, step, stage: node.name }, work));
        } finally {
          pass.close();
          await fence(); // a microbatch at a time: what is remembered stays small
        }
      }
    }
    const spans = timeline.take();
    return model.nodes.map(({ name }) => ({ component: name, forward: median(spans, name, "F"), inputGradient: median(spans, name, "I"), weightGradient: median(spans, name, "W") }));
  } finally {
    timeline.on = false;
    await fence();
    await model.close();
  }
}

function median(spans: readonly Span[], stage: string, what: string): number {
  const times = spans.filter((span) => span.stage === stage && span.name === what).map(({ begin, end }) => end - begin).sort((a, b) => a - b);
  return times.length === 0 ? 0 : times[Math.floor(times.length / 2)];
}

type Timed = <T>(what: "F" | "I" | "W", node: GraphNode, work: () => T) => T;

/** One microbatch through every component as if each were a stage of its own. */
class AloneTogether {
  readonly #passes = new Map<string, MicrobatchPass>();

  constructor(private readonly model: StageModel, private readonly context: ConstructorParameters<typeof MicrobatchPass>[2]) {}

  run(data: Parameters<MicrobatchPass["forward"]>[1], timed: Timed): void {
    const { graph, nodes } = this.model;
    for (const node of nodes) {
      const pass = new MicrobatchPass(graph, [node], this.context, `profile of ${node.name}`);
      this.#passes.set(node.name, pass);
      const received = this.#copies(graph.edges.filter((edge) => edge.to[0] === node.name), (edge) => [outputKey(...edge.from), this.#passes.get(edge.from[0])!.value(...edge.from)]);
      timed("F", node, () => pass.forward(received, data));
    }
    const back = new Map<string, Tensor>();
    for (const node of nodes.toReversed()) {
      const pass = this.#passes.get(node.name)!;
      const received = this.#copies(graph.edges.filter((edge) => edge.from[0] === node.name && back.has(edgeKey(edge))), (edge) => [edgeKey(edge), back.get(edgeKey(edge))!]);
      if (node.kind !== "objective" && Object.keys(received).length === 0) continue;
      for (const [key, gradient] of Object.entries(timed("I", node, () => pass.backwardInputs(received)))) back.set(key, gradient);
      timed("W", node, () => pass.backwardWeights());
    }
  }

  /** A pass owns what it is given: copies, as a message would bring them. */
  #copies(edges: readonly Edge[], named: (edge: Edge) => [string, Tensor]): Crossing {
    return Object.fromEntries(edges.map((edge) => {
      const [key, tensor] = named(edge);
      return [key, clone(tensor)];
    }));
  }

  close(): void {
    for (const pass of this.#passes.values()) pass.close();
  }
}
