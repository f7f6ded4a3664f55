import assert from "node:assert/strict";
import { RuntimeError } from "../../../runtime/errors.ts";
import { checkRecipe } from "../../../runtime/pipeline/plan/check.ts";
import { ganttSvg } from "../../../runtime/pipeline/plan/gantt.ts";
import type { RecipePlan } from "../../../runtime/pipeline/plan/on-paper.ts";
import type { PlanChoice } from "../../../runtime/pipeline/plan/plan-recipe.ts";
import { planRecipe } from "../../../runtime/pipeline/plan/plan-recipe.ts";
import { formatPlan } from "../../../runtime/pipeline/plan/plan-report.ts";
import { parseRecipe } from "../../../runtime/pipeline/recipe/recipe.ts";
import { recipeText, registry } from "./small-world.ts";

const planned = async (choice: PlanChoice = {}, overrides: string[] = []): Promise<RecipePlan> => planRecipe(await checkRecipe(parseRecipe(recipeText, "r.yaml", overrides), registry()), choice);
const refused = async (choice: PlanChoice, overrides: string[] = []): Promise<RuntimeError> => {
  try {
    await planned(choice, overrides);
  } catch (error) {
    assert.ok(error instanceof RuntimeError, String(error));
    return error;
  }
  return assert.fail("the plan was accepted");
};

// B 2 pages of a microbatch, T 32, patches 4 + 1, M 37, width 8, 50 words
describe("planning a recipe", () => {
  it("estimates operations and bytes from the shapes of weights", async () => {
    const { estimates: [pages, image, text, fusion], ranks } = await planned();
    assert.deepEqual(pages, { forward: 0, inputGradient: 0, weightGradient: 0, activations: 0, transient: 0 });
    // the encoder's (8, 12) over 2 x 5 rows, the frozen teacher's (8, 3) over 2 x 4; f32, three levels of partial sums for 4 microbatches
    assert.deepEqual(image, { forward: 2 * 10 * 8 * 12 + 2 * 8 * 8 * 3, inputGradient: 2 * 10 * 8 * 12, weightGradient: 2 * 10 * 8 * 12, activations: 10 * (8 + 12) * 4, transient: 0 });
    assert.deepEqual([ranks[1].parameters, ranks[1].gradients, ranks[1].optimizer], [128 * 4, 104 * 4 * 3, 104 * 4 * 2]);
    assert.deepEqual([text.forward, ranks[2].parameters], [0, 400 * 4], "a table of words is looked up");
    // fusion (8, 8) over 2 x 37 rows; tokens borrows the (50, 8) table for 2 x 32 labels; imitate's (8, 8) has no places: over the memory
    assert.equal(fusion.forward, 2 * 74 * 64 + 2 * 64 * 50 * 8 + 2 * 74 * 64);
  });

  it("adds up what a rank needs: what stays, and the activations that the schedule lets it remember", async () => {
    for (const [schedule, remembered] of [["1f1b", 2], ["fill-drain", 4], ["zb-h1", 2]] as const) {
      const image = (await planned({ schedule })).ranks[1];
      assert.equal(image.microbatches, remembered, schedule);
      assert.equal(image.activations, remembered * 800, schedule);
      assert.equal(image.total, 512 + 1248 + 832 + remembered * 800, schedule);
    }
  });

  it("deals stages to fewer ranks, and reads a schedule from CSV", async () => {
    const two = await planned({ schedule: "fill-drain", ranks: 2 });
    assert.deepEqual(two.ranks.map(({ name, stages }) => [name, stages]), [["pages", ["pages"]], ["rank0", ["image", "fusion"]], ["text", ["text"]]]);
    const csv = { text: "0F0,0I0,0W0\n1F0,1B0\n2F0,2B0\n", file: "mine.csv" };
    assert.equal((await planned({ csv }, ["train.microbatches=1"])).schedule.name, "mine");
    const byStage = { text: "schedule,staged,1\nimage,F0,I0,W0\ntext,F0,B0\nfusion,F0,B0,STEP\n", file: "mine.csv" };
    assert.deepEqual((await planned({ csv: byStage }, ["train.microbatches=1"])).schedule.entries, (await planned({ csv }, ["train.microbatches=1"])).schedule.entries);
    assert.match((await refused({ csv, ranks: 2 }, ["train.microbatches=1"])).message, /schedule mine: expected 2 ranks for the stages with a backward, found 3 in mine.csv/);
    assert.deepEqual((await planned({}, ["train.schedule=fill-drain", "train.ranks=2"])).ranks.map(({ name }) => name), ["pages", "rank0", "text"], "the recipe's own");
    assert.match((await refused({ csv })).message, /schedule mine: expected 4 microbatches, as train.microbatches says, found 1/);
  });

  it("takes half of the bytes for activations in bf16", async () => {
    assert.equal((await planned({}, ["train.precision=bf16"])).ranks[1].activations, 2 * 400);
  });

  it("refuses what does not fit, with the smallest change that does: schedule, microbatches, then a stage of its own", async () => {
    const fits = (await planned()).ranks.reduce((most, { total }) => Math.max(most, total), 0);
    await planned({ memory: fits });
    const wide = await refused({ schedule: "fill-drain", memory: fits });
    assert.equal(wide.code, "ERR_PLAN");
    assert.match(wide.message, /^plan: rank fusion needs .* \(parameters 544 B, gradients 1.6 KiB, optimizer 1.1 KiB, activations .*\), expected at most .*\. The smallest change that fits: schedule 1f1b \(/);
    assert.match((await refused({ memory: fits - 1 })).message, /The smallest change that fits: train.microbatches: 8 \(/);
    // one page per microbatch already: the largest component of the fullest rank moves out
    const apart = await refused({ memory: 15_000 }, ["train.microbatches=8"]);
    assert.match(apart.message, /rank fusion needs .*The smallest change that fits: a stage of its own for mlm \(stages: mlm-stage: \[mlm\], fusion: \[place, fusion, mim\]\) \(13\.0 KiB\)\.$/);
    assert.match((await refused({ memory: 100 })).message, /Neither another schedule, nor zero, recompute or more microbatches, nor a stage/);
  });

  it("shows ranks, memory and bubble as tables", async () => {
    const text = formatPlan("small", await planned({ schedule: "zb-h1" }));
    assert.match(text, /^small: schedule zb-h1, 4 microbatches, 4 ranks\n/);
    assert.match(text, /\nimage +512 B +1\.2 KiB +832 B +1\.6 KiB +at most 2 +4\.1 KiB +\d+ %\n/);
    assert.match(text, /ranks that learn stand still \d+\.\d % of the step \(bubble\)$/);
  });

  it("draws a box per entry that takes time, and a memory curve per rank that ends where it began", async () => {
    const found = await planned({ schedule: "zb-h1" });
    const svg = ganttSvg("a < b", found);
    assert.match(svg, /^<svg /);
    assert.ok(svg.includes("a &lt; b: zb-h1, 4 microbatches"));
    // image and fusion: F, I, W of 4 microbatches; pages and text cost nothing by estimate
    assert.equal(svg.match(/<title>/g)?.length, 2 * 3 * 4);
    const curves = [...svg.matchAll(/<polyline points="([^"]*)"/g)].map(([, points]) => points.split(" ").map((point) => point.split(",").map(Number)));
    assert.equal(curves.length, 4);
    for (const curve of curves) assert.equal(curve[0][1], curve.at(-1)![1]);
    const top = Math.min(...curves[3].map(([, y]) => y)), base = curves[3][0][1];
    const fullest = Math.max(...found.ranks.map((rank) => rank.activations));
    assert.ok(Math.abs((base - top) / 28 - found.ranks[3].activations / fullest) < 0.01, "the curve's height is the peak, by the common scale");
  });
});
