import assert from "node:assert/strict";
import { GradientTree } from "../../../runtime/autograd/index.ts";
import { shareOut } from "../../../runtime/parallel/sharing/sharded-state.ts";
import { RecipeError, definePlugin, formatProblem } from "../../../runtime/plugin/index.ts";
import type { Plugin } from "../../../runtime/plugin/index.ts";
import { checkRecipe } from "../../../runtime/pipeline/plan/check.ts";
import type { CheckResult } from "../../../runtime/pipeline/plan/check.ts";
import { type Layout, addsAsOneTree, copyOf, groupAlong, microbatchesOf, oneRank, ranksOf } from "../../../runtime/pipeline/plan/layout.ts";
import { recipeReport } from "../../../runtime/pipeline/plan/model-report.ts";
import { planRecipe } from "../../../runtime/pipeline/plan/plan-recipe.ts";
import { formatPlan } from "../../../runtime/pipeline/plan/plan-report.ts";
import { rankAuthorOf, rankAuthors } from "../../../runtime/pipeline/schedule/authors.ts";
import { authorCopies, takeOwn } from "../../../runtime/pipeline/plan/copies.ts";
import { keptBytes, partialSumsOf } from "../../../runtime/pipeline/plan/rank-memory.ts";
import { formatEntry, placeStages } from "../../../runtime/pipeline/schedule/schedule.ts";
import { equalCosts, simulateRanks } from "../../../runtime/pipeline/schedule/simulate.ts";
import { validateRanks } from "../../../runtime/pipeline/schedule/validate.ts";
import { parseRecipe } from "../../../runtime/pipeline/recipe/recipe.ts";
import { checkToJson, formatCheck } from "../../../runtime/pipeline/plan/report.ts";
import { contrast, edited, recipeText, registry, text as words } from "./small-world.ts";

const check = (overrides: string[] = [], text = recipeText, ...more: Plugin[]): Promise<CheckResult> => checkRecipe(parseRecipe(text, "r.yaml", overrides), registry(...more));
async function messages(overrides: string[], text = recipeText, ...more: Plugin[]): Promise<string[]> {
  try {
    await check(overrides, text, ...more);
  } catch (error) {
    assert.ok(error instanceof RecipeError, String(error));
    return error.problems.map(formatProblem);
  }
  return [];
}

describe("a layout", () => {
  it("names ranks by the axes that are longer than one, the last fastest (LY-1)", () => {
    const named = (layout: Partial<Layout>): string[] => ranksOf({ name: "text", stages: ["text"], learns: true, layout: { ...oneRank, ...layout } }).map(({ name }) => name);
    assert.deepEqual(named({}), ["text"]);
    assert.deepEqual(named({ data: 2 }), ["text-d0", "text-d1"]);
    assert.deepEqual(named({ data: 2, tensor: 2 }), ["text-d0-t0", "text-d0-t1", "text-d1-t0", "text-d1-t1"]);
    assert.deepEqual(named({ tensor: 2, context: 2 }), ["text-t0-c0", "text-t0-c1", "text-t1-c0", "text-t1-c1"]);
  });

  it("gives copies contiguous shares of the microbatches (LY-2)", () => {
    assert.deepEqual([0, 1, 2, 3, 4, 5].map((m) => copyOf(m, 6, 3)), [0, 0, 1, 1, 2, 2]);
    assert.deepEqual(microbatchesOf(1, 8, 2), [4, 5, 6, 7]);
  });

  it("finds the ranks along one axis", async () => {
    const { layout: { ranks } } = await check(["layout={data: 2}"]);
    const first = ranks.find(({ name }) => name === "text-d0")!;
    assert.deepEqual(groupAlong("data", first, ranks).map(({ name }) => name), ["text-d0", "text-d1"]);
    assert.deepEqual(groupAlong("tensor", first, ranks).map(({ name }) => name), ["text-d0"]);
  });

  it("adds as one tree for every power of two, and says where not", () => {
    for (const [m, d, same] of [[4, 2, true], [8, 4, true], [6, 2, true], [12, 4, true], [3, 3, true], [6, 3, false], [12, 3, false], [5, 5, true]] as const) assert.equal(addsAsOneTree(m, d), same, `${m} over ${d}`);
  });

  it("is the recipe's for what learns, one rank for loaders, and its own where a component says so", async () => {
    const { layout } = await check(["layout={data: 2}", "components.text.layout={data: 4}"]);
    assert.deepEqual(layout.slots.map(({ name, layout: { data } }) => [name, data]), [["pages", 1], ["image", 2], ["text", 4], ["fusion", 2]]);
    assert.deepEqual(layout.ranks.map(({ name }) => name), ["pages", "image-d0", "image-d1", "text-d0", "text-d1", "text-d2", "text-d3", "fusion-d0", "fusion-d1"]);
  });

  it("routes every microbatch from the leader of its copy to all ranks of the other's, and its gradient back (LY-3)", async () => {
    const split = { ...definePlugin({ kind: "fusion", name: "split", version: "1.0.0", options: words.options, ports: words.ports, create: words.create } as never), tensor: () => ({}) };
    const { layout } = await check(["layout={data: 2}", "components.text={use: fusion/split, in: {text_ids: pages.text_ids, text_mask: pages.text_mask}, layout: {tensor: 2}}"], recipeText, split);
    const routes = layout.bridges.find(({ edge }) => edge.id === "text->fusion")!.routes.map(({ from, to, carries, microbatches }) => `${from}>${to} ${carries[0]}${microbatches.join("")}`);
    assert.deepEqual(routes, [
      "text-t0>fusion-d0 a01", "text-t0>fusion-d1 a23",
      "fusion-d0>text-t0 g01", "fusion-d0>text-t1 g01", "fusion-d1>text-t0 g23", "fusion-d1>text-t1 g23",
    ]);
    const loads = layout.bridges.find(({ edge }) => edge.id === "pages->text")!.routes;
    assert.deepEqual(loads.map(({ to, microbatches, bytes }) => [to, microbatches.length, bytes]), [["text-t0", 4, 4 * (2 * 32 * 4 + 2 * 32)], ["text-t1", 4, 4 * (2 * 32 * 4 + 2 * 32)]]);
  });

  it("is shown with its ranks and bridges by check and plan, and as plain data", async () => {
    const checked = await check(["layout={data: 2}"]), shown = formatCheck(checked);
    assert.match(shown, /\nrank \(process\) +stages +data +tensor +context\npages +pages\nimage-d0 +image +0 of 2\n/);
    assert.match(shown, /\npages -> image-d1 +activations +2-3 +12\.0 KiB\n/);
    assert.deepEqual((checkToJson(checked).ranks as { name: string }[]).map(({ name }) => name), checked.layout.ranks.map(({ name }) => name));
    assert.match(formatPlan("small", planRecipe(checked)), /, 7 ranks\n[^]*\nimage x2 \(data 2\) [^]*\nfusion-d1 -> image-d1 +gradients +2-3 /);
    assert.doesNotMatch(formatCheck(await check()), /rank \(process\)|between ranks/);
  });
});

describe("a layout that cannot be", () => {
  const cases: [name: string, overrides: string[], expected: string | RegExp, text?: string][] = [
    ["two layouts in one process", ["components.mim.layout={data: 2}"],
      "--set components.mim.layout={data: 2}: components.mim.layout: expected layout { data: 1, tensor: 1, context: 1 }, as place has, with which it shares a process, found layout { data: 2, tensor: 1, context: 1 }. Give mim a stage of its own, or the same layout."],
    ["copies that do not divide the microbatches, said once", ["layout={data: 3}"],
      "--set layout={data: 3}: layout.data: expected a number of copies that divides the 4 microbatches, found 3. Each copy takes as many: set train.microbatches to 6, or take another number of copies."],
    ["copies of a loader", ["components.pages.layout={data: 2}"],
      "--set components.pages.layout={data: 2}: components.pages.layout: expected one process that reads, for pages (data-loader/pages), found layout { data: 2, tensor: 1, context: 1 }. Give pages a stage of its own, without a layout."],
    ["a tensor axis for weights nobody knows how to split", ["components.text.layout={tensor: 2}"],
      "--set components.text.layout={tensor: 2}: components.text.layout.tensor: expected 1, since text (text-encoder/words) does not say how its weights can be split, found 2. Give text a stage and a layout of its own."],
    ["a context axis likewise", ["components.text.layout={context: 2}"], /components\.text\.layout\.context: expected 1, since text \(text-encoder\/words\) does not say how its sequence can be split, found 2/],
    ["zero without data copies", ["train.zero=1"],
      "--set train.zero=1: train.zero: expected data copies that share out what they would all hold, found 1, and no component that learns with more than one copy. Set layout: { data: 2 }, or train.zero to 0."],
    ["zero 3 where copies do not keep step", ["layout={data: 2}", "components.text.layout={data: 1}", "train.zero=3"],
      /train\.zero: expected the same number of data copies of everything that learns, .*, found 2 of image and 1 of text\. Give all the same layout, or set train\.zero to 2\./],
    ["copies of a loss that compares pages", ["layout={data: 2}", "train.microbatches=1"],
      /layout\.data: expected 1, since alike \(objective\/contrast\) compares pages with each other, found 2\. One copy must see the whole batch\./,
      edited("stages:", "  alike: { use: objective/contrast, in: { states: text.states } }\nstages:").replace("mlm, mim]", "mlm, mim]\n  alike: [alike]")],
    ["more processes than stages", ["train.ranks=4"], "--set train.ranks=4: train.ranks: expected at most 3, the stages that learn, found 4. Cut the model into more stages, or leave ranks out: a process for each."],
  ];
  for (const [name, overrides, expected, text] of cases) {
    it(`is refused: ${name}`, async () => {
      const found = await messages(overrides, text, contrast);
      assert.equal(found.length, 1, found.join("\n"));
      if (typeof expected === "string") assert.equal(found[0], expected);
      else assert.match(found[0], expected);
    });
  }

  it("is only warned of where sums take another order than in one process", async () => {
    const { warnings } = await check(["layout={data: 3}", "train.microbatches=6", "train.batch=12"]);
    assert.match(warnings.join("\n"), /image: 3 data copies of 6 microbatches add gradients in another order than one process does/);
    assert.deepEqual((await check(["layout={data: 2}"])).warnings, []);
  });
});

describe("schedules of data copies", () => {
  const placement = placeStages({
    stages: [
      { name: "pages", depth: 0, backward: false, steps: false }, { name: "image", depth: 1, backward: true, steps: true },
      { name: "text", depth: 1, backward: true, steps: true }, { name: "fusion", depth: 2, backward: true, steps: true },
    ],
    edges: [
      { from: "pages", to: "image", gradient: false, credits: 2 }, { from: "pages", to: "text", gradient: false, credits: 2 },
      { from: "image", to: "fusion", gradient: true, credits: 2 }, { from: "text", to: "fusion", gradient: true, credits: 2 },
    ],
  });
  const layouts = (...data: number[]): Layout[] => data.map((copies) => ({ ...oneRank, data: copies }));
  const rows = (schedule: ReturnType<typeof authorCopies>): string[] => schedule.entries.map((list, rank) => `${schedule.ranks[rank]} ${Array.from(list, (entry) => formatEntry(schedule, entry).replace(/^\w+\.?(?=[FBIW])/, "")).join(" ")}`);

  it("are pipelines side by side where all have the same number; what runs ahead serves them in turn (RX-1)", () => {
    assert.deepEqual(rows(authorCopies(rankAuthorOf("1f1b"), placement, 4, layouts(1, 2, 2, 2))), [
      "pages F0 F2 F1 F3", "image-d0 F0 F1 B0 B1", "image-d1 F2 F3 B2 B3", "text-d0 F0 F1 B0 B1", "text-d1 F2 F3 B2 B3", "fusion-d0 F0 B0 F1 B1", "fusion-d1 F2 B2 F3 B3",
    ]);
  });

  it("are subsequences where they differ, numbered so that copies work at the same time (RX-2)", () => {
    assert.deepEqual(rows(authorCopies(rankAuthorOf("1f1b"), placement, 4, layouts(1, 2, 1, 2))), [
      "pages F0 F2 F1 F3", "image-d0 F0 B0 F1 B1", "image-d1 F2 B2 F3 B3", "text F0 F2 B0 F1 B2 F3 B1 B3", "fusion-d0 F0 B0 F1 B1", "fusion-d1 F2 B2 F3 B3",
    ]);
  });

  it("keep the rules and finish, for every author and any mix of copies", () => {
    for (const name of Object.keys(rankAuthors)) {
      for (const data of [[1, 2, 2, 2], [1, 4, 4, 4], [1, 1, 2, 4], [1, 4, 2, 1], [1, 2, 3, 1], [2, 2, 2, 2]]) {
        const schedule = validateRanks(authorCopies(rankAuthorOf(name), placement, 12, layouts(...data)));
        const { makespan } = simulateRanks(schedule, equalCosts(schedule));
        assert.ok(makespan > 0, `${name} ${data.join()}`);
        assert.equal(schedule.ranks.length, data.reduce((sum, d) => sum + d, 0));
      }
    }
  });

  it("of twice the copies take half the time but for the bubble; of copies beside one they overlap", () => {
    const time = (...data: number[]): number => {
      const schedule = authorCopies(rankAuthorOf("1f1b"), placement, 8, layouts(...data));
      return simulateRanks(schedule, equalCosts(schedule)).makespan;
    };
    assert.deepEqual([time(1, 1, 1, 1), time(1, 2, 2, 2), time(1, 4, 4, 4)], [8 * 3 + 3, 4 * 3 + 3, 2 * 3 + 3]);
    // text alone takes 8 x 3; a schedule that gave its copies their microbatches one share after the other would take nearly as long for image alone
    assert.ok(time(1, 2, 1, 2) <= 8 * 3 + 3, String(time(1, 2, 1, 2)));
  });

  it("take their own part of a schedule that somebody wrote (RX-3)", () => {
    const whole = rankAuthorOf("fill-drain")(placement, 4);
    assert.deepEqual(rows(takeOwn(whole, layouts(1, 2, 1, 1))).slice(1, 3), ["image-d0 F0 F1 B0 B1", "image-d1 F2 F3 B2 B3"]);
    assert.throws(() => validateRanks({ ...takeOwn(whole, layouts(1, 2, 1, 1)), ranks: ["a", "b", "c", "d", "e"], entries: takeOwn(whole, layouts(1, 2, 1, 1)).entries.map((list, rank, all) => (rank === 1 ? all[2] : list)) }), /RV-3/);
  });
});

describe("what data copies share out", () => {
  it("is whole tensors, the largest first, each to the copy with least; all ranks agree (ZS-2)", () => {
    const sizes: [string, number][] = [["c", 5], ["a", 5], ["d", 3], ["b", 9], ["e", 1]];
    const expected = { b: 0, a: 1, c: 1, d: 0, e: 1 };
    assert.deepEqual(Object.fromEntries(shareOut(sizes, 2)), expected);
    assert.deepEqual(Object.fromEntries(shareOut(sizes.toReversed(), 2)), expected);
  });

  it("makes the memory of a rank smaller: optimizer, gradients, parameters, as far as they are shared", async () => {
    const { graph } = await check(["layout={data: 2}"]);
    const nodes = graph.nodes.filter(({ name }) => ["image", "teacher"].includes(name)); // weight (8, 12), bias (8), frozen (8, 3)
    const bytes = (zero: number, sums: number, data = 2) => keptBytes(nodes, { ...oneRank, data }, sums, { stateTensors: 2, zero });
    assert.deepEqual(bytes(0, 3), { parameters: 128 * 4, gradients: 3 * 104 * 4, optimizer: 2 * 104 * 4 });
    assert.deepEqual(bytes(1, 3), { ...bytes(0, 3), optimizer: 2 * 96 * 4 }, "the weight has one owner");
    assert.deepEqual(bytes(3, 3, 1), bytes(0, 3), "one copy has nobody to share with");
    const many = (zero: number) => keptBytes([...nodes, ...graph.nodes.filter(({ name }) => name === "text" || name === "fusion")], { ...oneRank, data: 2 }, 1, { stateTensors: 2, zero });
    const whole = 104 + 400 + 64, owned = 400;
    assert.deepEqual(many(2), { parameters: (whole + 24) * 4, gradients: whole * 4, optimizer: 2 * owned * 4 });
    assert.equal(many(3).parameters, (24 + whole) * 4, "the largest component is whole while it runs, beside what is owned");
  });

  it("counts the partial sums that an order of microbatches keeps alive", () => {
    assert.deepEqual([1, 2, 4, 8].map((n) => partialSumsOf(Array.from({ length: n }, (_, m) => m))), [1, 2, 3, 4]);
    assert.equal(partialSumsOf([0, 2, 1, 3]), 3);
    assert.equal(partialSumsOf([0, 4, 1, 5, 2, 6, 3, 7]), 5);
    const tree = new GradientTree(2);
    tree.push(1, new Map());
    assert.equal(tree.partialSums, 1);
  });

  it("is one estimate: octavo model counts a rank as octavo plan does", async () => {
    for (const overrides of [[], ["layout={data: 2}", "train.zero=1"], ["train.schedule=fill-drain"]]) {
      const checked = await check(overrides), plan = planRecipe(checked);
      for (const rank of recipeReport(checked).ranks) {
        const { parameters, gradients, optimizer } = plan.ranks.find(({ slot }) => slot === rank.name)!;
        assert.deepEqual([rank.parameterBytes, rank.gradientBytes, rank.optimizerBytes], [parameters, gradients, optimizer], `${rank.name} ${overrides.join()}`);
      }
    }
    const checked = await check();
    assert.deepEqual(recipeReport(checked).ranks.map(({ activationBytes }) => activationBytes.f32), planRecipe(checked).ranks.slice(1).map(({ activations }) => activations));
  });

  it("is found as the smallest change that fits", async () => {
    const checked = await check(["layout={data: 2}"]), need = Math.max(...planRecipe(checked).ranks.map(({ total }) => total));
    const shared = Math.max(...planRecipe(await check(["layout={data: 2}", "train.zero=1"])).ranks.map(({ total }) => total));
    assert.ok(shared < need);
    assert.throws(() => planRecipe(checked, { memory: shared }), /The smallest change that fits: train\.zero: 1 \(/);
  });
});
