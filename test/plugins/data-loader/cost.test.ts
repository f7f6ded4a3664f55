import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { CappedSteps, cutByCost } from "../../../plugins/data-loader/cost.ts";
import { dataLoaders } from "../../../plugins/data-loader/index.ts";
import { builtins } from "../../../plugins/index.ts";
import { tasks } from "../../../plugins/task/index.ts";
import { tokenizers } from "../../../plugins/tokenizer/index.ts";
import { checkRecipe, createHost, createRegistry, loadRecipe, type DataLoader, type HostBatch } from "../../../runtime/index.ts";
import { loadStageModel } from "../../../runtime/pipeline/run/model.ts";
import { trainStep } from "../../../runtime/trainer/step.ts";
import { root } from "../../process/octavo.ts";

const examples = join(root, "examples");
const loader = (options: Record<string, unknown>): DataLoader =>
  createHost(createRegistry([...dataLoaders, ...tasks, ...tokenizers]), { folder: examples, seed: 1 })
    .build<DataLoader>("data-loader/shards", { tokenizer: "data/tokenizer.json", shards: "data/receipts/train-*.tar", pages: 64, ...options }, "data-loader");

/** What its microbatches cost: pages times (64 patches + padded tokens). */
const costs = ({ microbatches }: HostBatch): number[] => microbatches.map(({ tensors }) => {
  const wide = ["text_ids", "prompt_ids", "dec_ids"].reduce((sum, name) => sum + (tensors[name]?.shape[1] ?? 0), 64);
  return tensors.text_ids.shape[0] * wide;
});

describe("batches by cost", () => {
  it("CO-1, CO-2 no other cut has a cheaper most expensive microbatch", () => {
    fc.assert(fc.property(fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 7 }), fc.integer({ min: 1, max: 7 }), fc.integer({ min: 0, max: 30 }), (lengths, wanted, patches) => {
      const parts = Math.min(wanted, lengths.length), { cuts, most } = cutByCost(lengths.map((length) => ({ tokens: [length] })), patches, parts);
      assert.deepEqual(cuts.flatMap(([from, to]) => lengths.slice(from, to)), lengths);
      assert.ok(cuts.every(([from, to]) => to > from));
      const costOf = (cut: readonly (readonly [number, number])[]): number => Math.max(...cut.map(([from, to]) => (to - from) * (patches + Math.max(...lengths.slice(from, to)))));
      assert.equal(costOf(cuts), most);
      assert.equal(most, Math.min(...everyCut(lengths.length, parts).map(costOf)));
    }), { numRuns: 200 });
  });

  it("CO-3 steps follow one another without gaps, whichever is asked for first", () => {
    const capped = () => new CappedSteps({ batch: 5, microbatches: 2, fits: (step, from, to) => to - from <= 2 + step % 3 });
    const inOrder = Array.from({ length: 6 }, (_, step) => capped().draws(step)), one = capped();
    assert.deepEqual(inOrder, [[0, 2], [2, 5], [5, 9], [9, 11], [11, 14], [14, 18]]);
    assert.deepEqual([one.draws(4), one.draws(1)], [inOrder[4], inOrder[1]]);
  });

  for (const [objective, max_cost] of [["joint", 1200], ["answer", 1600]] as const) {
    it(`L-5 no microbatch costs more than max_cost, pages come in the order drawn, no step depends on who asks (${objective})`, async () => {
      const capped = loader({ objective, max_cost }), free = loader({ objective });
      const asked = { seed: 3, batch: 16, microbatches: 4 };
      const batches = await Promise.all([0, 1, 2, 3, 4].map((step) => capped.batch({ ...asked, step })));
      const sizes = batches.map(({ microbatches }) => microbatches.map(({ keys }) => keys.length));
      assert.ok(batches.flatMap(costs).every((cost) => cost <= max_cost), JSON.stringify(batches.map(costs)));
      assert.ok(sizes.flat().some((size) => size !== sizes[0][0]), `microbatches differ in pages: ${JSON.stringify(sizes)}`);
      const ids = batches.flatMap(({ microbatches }) => microbatches.flatMap(({ sampleIds }) => sampleIds).sort((a, b) => a - b));
      assert.deepEqual(ids, ids.map((_, i) => i), "every draw once, in order");
      assert.deepEqual(await loader({ objective, max_cost }).batch({ ...asked, step: 3 }), batches[3]);
      const all = await Promise.all([0, 1, 2, 3, 4].map((step) => free.batch({ ...asked, step })));
      assert.ok(Math.max(...all.flatMap(costs)) > max_cost, "without the option some cost more");
      await Promise.all([capped.close(), free.close()]);
    });
  }

  it("refuses a cap that a single page can exceed", () => {
    assert.throws(() => loader({ max_cost: 300, max_text: 320 }), /max_cost must hold the largest page/);
  });

  it("gradients stay exact: a step of uneven microbatches has the losses of the same pages as one microbatch", async () => {
    const step = async (batch: number, microbatches: number, max_cost?: number) => {
      const cap = max_cost === undefined ? [] : [`components.pages.options.max_cost=${max_cost}`];
      const checked = await checkRecipe(loadRecipe(join(root, "test/recipes/mini.yaml"), [`train.batch=${batch}`, `train.microbatches=${microbatches}`, ...cap]), createRegistry(builtins));
      const model = await loadStageModel(checked, { seed: 1, precision: "f32", threads: 1 });
      const data = await model.loader!.batch({ step: 0, seed: 1, batch, microbatches });
      const { loss, norm } = await trainStep({ graph: model.graph, parameters: model.parameters, optimizer: model.optimizer, batch: data, learningRate: 0, clip: 0, seed: 1, precision: "f32" });
      await model.close();
      return { loss, norm, sizes: data.microbatches.map(({ keys }) => keys.length) };
    };
    const capped = await step(12, 4, 1200), pages = capped.sizes.reduce((sum, size) => sum + size, 0), whole = await step(pages, 1);
    assert.ok(new Set(capped.sizes).size > 1, JSON.stringify(capped.sizes));
    assert.deepEqual(whole.sizes, [pages]);
    assert.ok(Math.abs(capped.loss - whole.loss) < 1e-5 * whole.loss && Math.abs(capped.norm - whole.norm) < 1e-4 * whole.norm, JSON.stringify({ capped, whole }));
  });
});

/** All ways to cut n things into `count` runs. */
function everyCut(n: number, count: number, from = 0): [number, number][][] {
  if (count === 1) return [[[from, n]]];
  return Array.from({ length: n - from }, (_, i) => from + i + 1).filter((to) => n - to >= count - 1)
    .flatMap((to) => everyCut(n, count - 1, to).map((rest): [number, number][] => [[from, to], ...rest]));
}
