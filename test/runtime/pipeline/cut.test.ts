import assert from "node:assert/strict";
import fc from "fast-check";
import { checkRecipe } from "../../../runtime/pipeline/plan/check.ts";
import { cutRuns, cutStages, stagesByCost } from "../../../runtime/pipeline/plan/cut.ts";
import { planRecipe } from "../../../runtime/pipeline/plan/plan-recipe.ts";
import { formatPlan } from "../../../runtime/pipeline/plan/plan-report.ts";
import { parseRecipe } from "../../../runtime/pipeline/recipe/recipe.ts";
import { recipeText, registry } from "./small-world.ts";

const checked = async (...overrides: string[]) => checkRecipe(parseRecipe(recipeText, "r.yaml", overrides), registry());

describe("stages cut by cost", () => {
  it("CU-2 no other cut into as many runs has a cheaper most expensive one", () => {
    fc.assert(fc.property(fc.array(fc.integer({ min: 0, max: 50 }), { minLength: 1, maxLength: 8 }), fc.integer({ min: 1, max: 8 }), (costs, wanted) => {
      const count = Math.min(wanted, costs.length), runs = cutRuns(costs, count);
      assert.equal(runs.length, count);
      assert.deepEqual(runs.flatMap(([from, to]) => costs.slice(from, to)), costs, "every cost once, in order");
      assert.ok(runs.every(([from, to]) => to > from));
      const most = (cut: readonly (readonly [number, number])[]): number => Math.max(...cut.map(([from, to]) => costs.slice(from, to).reduce((sum, cost) => sum + cost, 0)));
      assert.equal(most(runs), Math.min(...everyCut(costs.length, count).map(most)));
    }), { numRuns: 200 });
  });

  it("CU-1, CU-3 shares components out in graph order; what only gives data goes ahead", async () => {
    const { graph } = await checked();
    assert.deepEqual(cutStages(graph, () => 1, 1), { pages: ["pages", "teacher"], image: ["image", "text", "place", "fusion", "mlm", "mim"] });
    assert.deepEqual(cutStages(graph, (component) => (component === "fusion" ? 3 : 1), 2), { pages: ["pages", "teacher"], image: ["image", "text", "place"], fusion: ["fusion", "mlm", "mim"] });
    const finest = cutStages(graph, () => 1, 40);
    assert.equal(Object.keys(finest).length, 7);
    assert.equal((await checked(`stages=${JSON.stringify(finest)}`)).plan.stages.length, 7, "a check accepts it");
  });

  it("takes measured costs where there are some, and plans with them", async () => {
    const recipe = await checked(), names = recipe.graph.nodes.map(({ name }) => name);
    const profile = names.map((component) => ({ component, forward: component === "text" ? 9000 : 500, inputGradient: 250, weightGradient: 250 }));
    assert.deepEqual(stagesByCost(recipe, 3, profile).text, ["text"]);
    assert.notDeepEqual(stagesByCost(recipe, 3).text, ["text"], "by estimate a table of words costs nothing");
    const found = planRecipe(recipe, { profile });
    assert.equal(found.unit, "microseconds");
    assert.equal(found.estimates[2].forward, 9000);
    assert.match(formatPlan("r", found), /9\.00 ms/);
  });
});

/** All ways to cut n things into `count` runs. */
function everyCut(n: number, count: number, from = 0): [number, number][][] {
  if (count === 1) return [[[from, n]]];
  return Array.from({ length: n - from }, (_, i) => from + i + 1).filter((to) => n - to >= count - 1)
    .flatMap((to) => everyCut(n, count - 1, to).map((rest): [number, number][] => [[from, to], ...rest]));
}
