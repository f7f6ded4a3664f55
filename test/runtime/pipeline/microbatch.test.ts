import assert from "node:assert/strict";
import { join } from "node:path";
import { builtins } from "../../../plugins/index.ts";
import { type CheckResult, checkRecipe, createRegistry, loadRecipe } from "../../../runtime/index.ts";
import { type Crossing, MicrobatchPass, outputKey } from "../../../runtime/pipeline/run/microbatch.ts";
import { forwardPass } from "../../../runtime/pipeline/run/component-pass.ts";
import { type StageModel, loadStageModel } from "../../../runtime/pipeline/run/model.ts";
import { Parameter, materialise, release } from "../../../runtime/nn/index.ts";
import type { GraphNode } from "../../../runtime/pipeline/graph/graph.ts";
import { gelu, linear, scale } from "../../../runtime/ops/index.ts";
import type { HostBatch } from "../../../runtime/plugin/index.ts";
import { type Precision, type Tensor, Scope, assign, clone, fence, full } from "../../../runtime/tensor/index.ts";
import { root } from "../../process/octavo.ts";

const registry = createRegistry(builtins);
type Bits = Map<string, Uint8Array>;

const bitsOf = async (gradients: ReadonlyMap<string, Tensor>): Promise<Bits> =>
  new Map(await Promise.all([...gradients].map(async ([name, tensor]) => { const { buffer, byteOffset, byteLength } = await tensor.read() as Float32Array; return [name, new Uint8Array(buffer, byteOffset, byteLength)] as const; })));
const inOrder = (gradients: Bits): [string, Uint8Array][] => [...gradients].sort(([a], [b]) => (a < b ? -1 : 1));

/** A model and one microbatch for it. */
async function world(recipe: string, precision: Precision, work: (model: StageModel, batch: HostBatch, checked: CheckResult) => Promise<void>): Promise<void> {
  const checked = await checkRecipe(loadRecipe(join(root, "test/recipes", recipe), ["train.microbatches=1"]), registry);
  const model = await loadStageModel(checked, { seed: 5, threads: 2, precision });
  try {
    await work(model, await model.loader!.batch({ step: 0, seed: 5, batch: 4, microbatches: 1 }), checked);
  } finally {
    await model.close();
    await fence();
  }
}

const passOf = ({ graph, precision, seed }: StageModel, nodes: StageModel["nodes"], { counts, microbatches: [{ sampleIds }] }: HostBatch): MicrobatchPass =>
  new MicrobatchPass(graph, nodes, { training: true, step: 0, seed, counts, precision, sampleIds }, "microbatch");

function freeSums(pass: MicrobatchPass): void {
  for (const tensor of pass.sums().values()) if (tensor.scope === undefined) tensor.dispose();
}

/** The gradients of all parameters, by one walk back. */
async function whole(model: StageModel, batch: HostBatch): Promise<Bits> {
  const pass = passOf(model, model.nodes, batch);
  try {
    pass.forward({}, batch.microbatches[0]);
    return await bitsOf(pass.backward({}).parameters);
  } finally {
    freeSums(pass);
    pass.close();
  }
}

describe("a microbatch that goes back in two halves", function () {
  this.timeout(120_000);

  for (const [recipe, precision] of [
    ["mini.yaml", "f32"], ["mini.yaml", "bf16"], ["mini-answer.yaml", "f32"], ["mini-clip.yaml", "f32"], ["mini-mim.yaml", "f32"], ["mini-vq-kd.yaml", "f32"], ["mini-mntp.yaml", "f32"],
  ] as const) {
    it(`MB-3: gives the bits of the whole way: ${recipe} in ${precision}`, () => world(recipe, precision, async (model, batch) => {
      const expected = await whole(model, batch);
      const pass = passOf(model, model.nodes, batch);
      try {
        pass.forward({}, batch.microbatches[0]);
        assert.deepEqual(pass.backwardInputs({}), {}, "nothing is elsewhere");
        const got = await bitsOf(pass.backwardWeights());
        assert.deepEqual(inOrder(got), inOrder(expected));
      } finally {
        freeSums(pass);
        pass.close();
      }
    }));
  }

  it("MB-3: frees between the halves what no weight needs, but not what it gave out", () => {
    const scope = new Scope("halves"), made: Record<string, Tensor> = {};
    const [first, second] = [1, 2].map(() => new Parameter([4, 4], { kind: "normal", std: 1 }));
    materialise({ first, second }, { seed: 1, prefix: "" });
    const component = {
      parameters: () => ({ first, second }),
      forward({ x }: Record<string, Tensor>) {
        const inner = linear(x, first.value), active = gelu(inner), memory = linear(active, second.value), states = scale(memory, 2);
        Object.assign(made, { x, inner, active, memory, states });
        return { memory, states };
      },
    };
    try {
      scope.enter(() => {
        const pass = forwardPass(component, { x: full([2, 4], 1) }, new Set(["x"]), { training: true, step: 0, seed: 1, counts: {}, precision: "f32", sampleIds: [0, 1] });
        pass.backwardInputs({ states: full([2, 4], 1) });
        assert.deepEqual(Object.keys(made).filter((name) => made[name].disposed), ["inner"]);
        assert.deepEqual([...pass.backwardWeights().keys()], ["first", "second"]);
      });
    } finally {
      scope.close();
      release({ first, second });
    }
  });

  it("MB-1: stage by stage, with what crosses between them handed over, W of all stages after the last I", () => world("mini.yaml", "f32", async (model, batch, { plan }) => {
    const expected = await whole(model, batch), passes = new Map<string, MicrobatchPass>();
    const values = new Map<string, Tensor>();
    try {
      for (const stage of plan.stages) {
        const nodes = model.nodes.filter(({ name }) => stage.components.includes(name)), pass = passOf(model, nodes, batch);
        passes.set(stage.name, pass);
        const received: Crossing = {};
        for (const { tensors } of plan.edges.filter(({ to }) => to === stage.name)) for (const { from } of tensors) received[outputKey(...from)] = clone(values.get(outputKey(...from))!);
        pass.forward(received, batch.microbatches[0]);
        for (const node of nodes) for (const port of Object.keys(node.ports.out)) values.set(outputKey(node.name, port), pass.value(node.name, port));
      }
      const back: Crossing = {};
      for (const stage of plan.stages.toReversed().filter(({ backward }) => backward)) {
        const mine = Object.entries(back).filter(([edge]) => stage.components.includes(edge.split(".")[0]));
        Object.assign(back, passes.get(stage.name)!.backwardInputs(Object.fromEntries(mine.map(([edge, tensor]) => [edge, clone(tensor)]))));
      }
      const got: Bits = new Map();
      for (const pass of passes.values()) for (const [name, bits] of await bitsOf(pass.backwardWeights())) got.set(name, bits);
      assert.deepEqual(inOrder(got), inOrder(expected));
    } finally {
      for (const pass of passes.values()) pass.close();
    }
  }));
});

describe("a microbatch whose values are elsewhere between uses", function () {
  this.timeout(120_000);

  for (const recipe of ["mini.yaml", "mini-answer.yaml", "mini-vq-kd.yaml"]) {
    it(`MB-4: has them while a component runs, and gives the same bits: ${recipe}`, () => world(recipe, "f32", async (model, batch) => {
      const expected = await whole(model, batch), kept = new Map<Parameter, Tensor>();
      const trained = (node: GraphNode): Parameter[] => (node.frozen ? [] : Object.values(node.parameters).filter(({ trainable }) => trainable));
      for (const parameter of model.nodes.flatMap(trained)) kept.set(parameter, clone(parameter.value));
      const away = (parameter: Parameter): void => parameter.value.vacate();
      model.nodes.flatMap(trained).forEach(away);
      const log: string[] = [];
      const pass = new MicrobatchPass(model.graph, model.nodes, { training: true, step: 0, seed: model.seed, counts: batch.counts, precision: "f32", sampleIds: batch.microbatches[0].sampleIds }, "shared out", {
        take: (node) => { log.push(node.name); for (const parameter of trained(node)) parameter.value.refill(), assign(kept.get(parameter)!, parameter.value); },
        leave: (node) => trained(node).forEach(away),
      });
      pass.forward({}, batch.microbatches[0]);
      const heard: string[] = [];
      const { parameters } = pass.backward({}, (node, found) => { for (const name of found.keys()) heard.push(`${node.name} ${name}`); });
      assert.deepEqual(inOrder(await bitsOf(parameters)), inOrder(expected));
      assert.deepEqual(heard.map((each) => each.split(" ")[1]), [...parameters.keys()], "every gradient is told once, with its component");
      assert.ok(log.length > model.nodes.filter((node) => node.trainable).length, "values were asked for on both ways");
      for (const tensor of [...kept.values(), ...pass.sums().values()]) if (!tensor.disposed && tensor.scope === undefined) tensor.dispose();
      pass.close();
    }));
  }
});
