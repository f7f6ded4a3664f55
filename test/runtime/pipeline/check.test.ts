import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { Parameter } from "../../../runtime/nn/index.ts";
import { RecipeError, definePlugin, formatProblem, port } from "../../../runtime/plugin/index.ts";
import type { Plugin } from "../../../runtime/plugin/index.ts";
import type { CheckResult } from "../../../runtime/pipeline/plan/check.ts";
import { checkFile, checkRecipe } from "../../../runtime/pipeline/plan/check.ts";
import { formatRows } from "../../../runtime/pipeline/schedule/schedule.ts";
import { parseRecipe, readRecipe } from "../../../runtime/pipeline/recipe/recipe.ts";
import { checkToJson, formatCheck } from "../../../runtime/pipeline/plan/report.ts";
import { custom, edited, recipeText, registry } from "./small-world.ts";

const check = (text = recipeText, overrides: string[] = [], more: Plugin[] = []): Promise<CheckResult> => checkRecipe(parseRecipe(text, "r.yaml", overrides), registry(...more));

/** Every message a recipe earns, of form and of meaning, as one reads them. */
async function messages(text: string, overrides: string[] = [], more: Plugin[] = []): Promise<string[]> {
  const { recipe, problems } = readRecipe(text, "r.yaml", overrides);
  try {
    await checkRecipe(recipe!, registry(...more), problems);
  } catch (error) {
    assert.ok(error instanceof RecipeError, String(error));
    return error.problems.map(formatProblem);
  }
  return [];
}

describe("checking a recipe", () => {
  it("orders components by what they need, ties as the recipe has them, and edges by their receivers", async () => {
    const late = edited("  pages: { use: data-loader/pages }\n", "").replace("stages:", "  pages: { use: data-loader/pages }\nstages:");
    const { graph } = await check(late);
    assert.deepEqual(graph.nodes.map((n) => n.name), ["pages", "image", "text", "teacher", "place", "fusion", "mlm", "mim"]);
    assert.deepEqual(graph.edges.filter((e) => e.to[0] === "fusion").map((e) => [e.from.join("."), e.to[1], e.gradient]), [
      ["image.states", "image", true], ["text.states", "text", true], ["pages.text_mask", "text_mask", false], ["place.text", "text_position", true],
    ]);
  });

  it("lets no gradient flow to data or frozen components", async () => {
    const { graph } = await check();
    const back = graph.edges.filter((e) => e.gradient).map((e) => e.from.join("."));
    assert.deepEqual([...new Set(back)], ["image.states", "text.states", "place.text", "fusion.memory", "text.embedding"]);
  });

  it("lets no gradient flow where nothing before learns, though all ports could carry one", async () => {
    const still = custom("still", { in: { x: port(["B", 3, 16, 16]) }, out: { states: port(["B", 5, 8]) } });
    const { graph, plan } = await check(edited("use: image-encoder/patches\n    in: { pixels: pages.pixels, patch_mask: pages.patch_mask }", "use: fusion/still\n    in: { x: pages.pixels }"), [], [still]);
    assert.equal(graph.edges.find((e) => e.to.join(".") === "fusion.image")?.gradient, false);
    assert.equal(plan.stages.find((s) => s.name === "image")?.backward, false);
  });

  it("plans stages with depths, backward, parameters", async () => {
    const { plan } = await check();
    assert.deepEqual(plan.stages, [
      { name: "pages", components: ["pages"], depth: 0, backward: false, steps: false, parameters: 0, trainable: 0 },
      { name: "image", components: ["image", "teacher"], depth: 1, backward: true, steps: true, parameters: 8 * 12 + 8 + 8 * 3, trainable: 8 * 12 + 8 },
      { name: "text", components: ["text"], depth: 1, backward: true, steps: true, parameters: 400, trainable: 400 },
      { name: "fusion", components: ["place", "fusion", "mlm", "mim"], depth: 2, backward: true, steps: true, parameters: 8 + 64 + 64, trainable: 136 },
    ]);
  });

  it("counts bytes per edge and microbatch: B is a microbatch's, T what the loader says, an output is sent to a stage once", async () => {
    const { plan } = await check();
    assert.deepEqual(plan.sizes, { B: 2, T: 32, M: 1 + 4 + 32 });
    const edge = (id: string): unknown => {
      const { bytes, gradientBytes, credits, tensors } = plan.edges.find((e) => e.id === id)!;
      return { bytes, gradientBytes, credits, tensors: tensors.map((t) => `${t.from.join(".")} -> ${t.to.map((end) => end.join(".")).join(", ")}`) };
    };
    assert.deepEqual(edge("pages->image"), { bytes: 2 * 3 * 16 * 16 * 4 + 2 * 4, gradientBytes: 0, credits: 2, tensors: ["pages.pixels -> image.pixels, teacher.pixels", "pages.patch_mask -> image.patch_mask"] });
    assert.deepEqual(edge("pages->fusion"), { bytes: 2 * 32 + 2 * 32 * 4, gradientBytes: 0, credits: 3, tensors: ["pages.text_mask -> place.text_mask, fusion.text_mask", "pages.labels -> mlm.labels"] });
    assert.deepEqual(edge("image->fusion"), { bytes: (2 * 5 * 8 + 2 * 4 * 8) * 4, gradientBytes: 2 * 5 * 8 * 4, credits: 2, tensors: ["image.states -> fusion.image", "teacher.targets -> mim.targets"] });
  });

  it("halves the bytes of a compressed output, and warns that the numbers are others then", async () => {
    const [plain, compressed] = [await check(), await check(recipeText, ["components.text.compress=[states]"])];
    const edge = ({ plan }: CheckResult) => plan.edges.find(({ id }) => id === "text->fusion")!;
    const states = edge(plain).tensors.find(({ from }) => from[1] === "states")!.bytes!;
    assert.deepEqual([edge(compressed).bytes, edge(compressed).gradientBytes], [edge(plain).bytes! - states / 2, edge(plain).gradientBytes! - states / 2]);
    assert.deepEqual(compressed.warnings.filter((w) => !plain.warnings.includes(w)),
      ["text.states travels as bf16 from text to fusion, and so does its gradient back (compress): the numbers are not those of a single process."]);
    assert.deepEqual(await messages(recipeText, ["components.text.compress=[state]"]), ['--set components.text.compress=[state]: components.text.compress.0: expected an output of text in f32: states, embedding, found "state". Did you mean "states"?']);
    assert.match((await messages(recipeText, ["components.pages.compress=[text_mask]"]))[0], /expected an output of pages in f32: pixels.*, found "text_mask", which is u8/);
  });

  it("leaves a size open that nobody states", async () => {
    const silent = custom("silent", { in: { memory: port(["B", "M", 8]) }, out: { summary: port(["B", "Z", 8]) } });
    const judge = custom("judge", { in: { summary: port(["B", "Z", 8]) }, out: { loss: port([1]) } }, {}, "objective");
    const text = edited("stages:", "  sum: { use: fusion/silent, in: { memory: fusion.memory } }\n  end: { use: objective/judge, in: { summary: sum.summary } }\nstages:")
      .replace("mlm, mim]", "mlm, mim, sum]\n  last: [end]");
    const result = await check(text, [], [silent, judge]);
    assert.deepEqual(result.plan.edges.find((e) => e.id === "fusion->last")?.bytes, undefined);
    assert.match(formatCheck(result), /\? where no component says how large Z can be/);
  });

  it("without stages gives the loader one process and the model another", async () => {
    const { plan } = await check(recipeText.replace(/stages:[\s\S]*train:/, "train:"));
    assert.deepEqual(plan.stages.map((s) => [s.name, s.components.length, s.depth]), [["pages", 1, 0], ["model", 7, 1]]);
  });

  it("authors, validates and simulates the schedule", async () => {
    const { schedule, simulation } = await check();
    assert.equal(schedule.name, "1f1b");
    assert.ok(Math.abs(simulation.bubble - 0.2) < 1e-12, `4 microbatches over 2 levels stand still 1/5, got ${simulation.bubble}`);
    assert.deepEqual((await check(recipeText, ["train.schedule=fill-drain"])).simulation.stageMicrobatches, Int32Array.of(0, 4, 4, 4));
  });

  it("takes a schedule from a CSV file, and refuses one that breaks the rules", async () => {
    const folder = mkdtempSync(join(tmpdir(), "octavo-check-"));
    try {
      const file = join(folder, "r.yaml");
      writeFileSync(file, recipeText);
      const csv = "schedule,mine,4\npages,F0,F1,F2,F3\nimage,F0,F1,F2,F3,B0,B1,B2,B3,STEP\ntext,F0,F1,F2,F3,B0,B1,B2,B3,STEP\nfusion,F0,B0,F1,B1,F2,B2,F3,B3,STEP\n";
      writeFileSync(join(folder, "mine.csv"), csv);
      writeFileSync(join(folder, "bad.csv"), csv.replace("image,F0,F1", "image,B0,F1"));
      assert.equal((await checkFile(file, registry(), ["train.schedule=mine.csv"])).schedule.name, "mine");
      await assert.rejects(checkFile(file, registry(), ["train.schedule=bad.csv"]), /train\.schedule: expected a schedule that keeps the rules, found that schedule mine, image, entry 1 \(0B0\): expected 0F0 before it[^]*>B0</);
      await assert.rejects(checkFile(file, registry(), ["train.schedule=mine.csv", "train.microbatches=2"]), /schedule mine: expected 2 microbatches, as train\.microbatches says, found 4/);
      writeFileSync(join(folder, "ranks.csv"), "0F0,0F1,0B0,0B1\n1F0,1F1,1B0,1B1\n2F0,,2B0,2F1,2B1\n");
      const ranked = (await checkFile(file, registry(), ["train.schedule=ranks.csv", "train.microbatches=2"])).schedule;
      assert.equal(formatRows(ranked).split("\n")[3], "  fusion  F0  B0  F1  B1");
      writeFileSync(join(folder, "split.csv"), csv.replace("B3,STEP", "I3,W3,STEP"));
      assert.equal(formatRows((await checkFile(file, registry(), ["train.schedule=split.csv"])).schedule).split("\n")[1], "  image   F0  F1  F2  F3  B0  B1  B2  I3  W3");
      writeFileSync(join(folder, "stuck.csv"), "0F0,0B0,0F1,0B1\n1F0,1F1,1B0,1B1\n2F0,2F1,2B0,2B1\n");
      await assert.rejects(checkFile(file, registry(), ["train.schedule=stuck.csv", "train.microbatches=2"]), /found that schedule stuck: expected every rank to finish, found a deadlock image -> fusion -> image\.\n  image waits at entry 2 \(0B0\) for 2B0 of fusion/);
      await assert.rejects(checkFile(file, registry(), ["train.schedule=none.csv"]), /expected a readable schedule, found nothing at .*none\.csv/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("allows to remove a component that only optional inputs used", async () => {
    const { graph } = await check(recipeText, ["components.place=null"]);
    assert.ok(!graph.edges.some((e) => e.to[1] === "text_position"));
    assert.deepEqual(await messages(recipeText, ["components.text=null"]), [
      `r.yaml:16:13: components.fusion.in.text: expected an output of a component, found "text.states", which --set components.text=null removed. This input is not optional: connect it to another output.`,
      `r.yaml:19:95: components.mlm.in.embedding: expected an output of a component, found "text.embedding", which --set components.text=null removed. This input is not optional: connect it to another output.`,
    ]);
  });

  it("warns of work that reaches no objective", async () => {
    const { warnings } = await check(edited("  mim: { use: objective/imitate, in: { memory: fusion.memory, targets: teacher.targets } }\n", "").replace(", mim]", "]"));
    assert.deepEqual(warnings, ["teacher (teacher/stub) feeds no objective: it is computed and thrown away."]);
  });

  it("prints every component, stage and edge, and the same as plain data", async () => {
    const result = await check();
    const text = formatCheck(result);
    for (const line of [
      "fusion     fusion/join            1.0.0            64         64  fusion  image: image.states, text: text.states, pages.text_mask, text_position: place.text",
      "total                                             664        640",
      "fusion           place, fusion, mlm, mim         136      2  at most 1           forward, backward",
      "                 text.embedding    f32    (50, 8)                1.6 KiB        1.6 KiB",
      "schedule (F forward, B backward; the number is the microbatch)", "  image   F0  F1  B0  F2  B1  F3  B2  B3",
    ]) assert.ok(text.split("\n").includes(line), `no line\n${line}\nin\n${text}`);
    const json = JSON.parse(JSON.stringify(checkToJson(result))) as { components: { name: string; parameters: number }[]; edges: { id: string; bytes: number }[] };
    assert.equal(json.components.find((c) => c.name === "text")?.parameters, 400);
    assert.equal(json.edges.find((e) => e.id === "image->fusion")?.bytes, 576);
  });

  it("shows which process holds which stages where they are dealt, and a backward in halves", async () => {
    const dealt = formatCheck(await check(recipeText, ["train.schedule=fill-drain", "train.ranks=2", "train.microbatches=1"])).split("\n");
    for (const line of ["fusion  rank0    place, fusion, mlm, mim         136      2  at most 1           forward, backward", "  rank0  0F0  2F0  2B0  0B0"]) assert.ok(dealt.includes(line), dealt.join("\n"));
    assert.ok(dealt.some((line) => line.startsWith("schedule (F forward, B backward; before it the stage, counted from 0 among those with a backward, after it the microbatch)")));
    const halves = formatCheck(await check(recipeText, ["train.schedule=zb-h1", "train.microbatches=1"]));
    assert.match(halves, /at most 1 +forward, backward in halves\n/);
    assert.match(halves, /\nschedule \(F forward, I backward to the inputs, W to the weights; the number is the microbatch\)\n  pages   F0\n  image   F0  I0  W0\n/);
  });
});

describe("a mistake in a recipe", () => {
  const loop = custom("loop", { in: { a: port(["B"]) }, out: { b: port(["B"]) } });
  const thief = custom("thief", { in: {}, out: {} }, { "text.embedding": new Parameter([1], { kind: "zeros" }), "vision.bias": new Parameter([1], { kind: "zeros" }) });
  const broken = definePlugin({ kind: "fusion", name: "broken", version: "0.3.0", options: z.strictObject({}), create: () => { throw new Error("width must be even"); } });
  const counting = definePlugin({
    kind: "objective", name: "counting", version: "1.0.0", options: z.strictObject({}), counts: ["text_tokns"],
    ports: () => ({ in: { memory: port(["B", "M", 8]) }, out: { loss: port([1]) } }), create: () => ({ parameters: () => ({}), forward: () => ({}) }),
  });

  /** What is changed, and the one message that must come of it. */
  const cases: [name: string, text: string, message: string, more?: Plugin[]][] = [
    ["an unknown plugin", edited("fusion/join", "fusion/jion"), `r.yaml:13:10: components.fusion.use: expected a plugin (kind/name, or package/kind/name), found "fusion/jion". Did you mean "fusion/join"?`],
    ["a package that is not installed", edited("fusion/join", "gates/fusion/gated"), `r.yaml:13:10: components.fusion.use: expected package gates to be installed, found no node_modules/gates at or above ${process.cwd()}. Run "npm install gates", or correct the name.`],
    ["an unknown option", edited("use: data-loader/pages", "use: data-loader/pages, options: { imagee: 3 }"), `r.yaml:3:47: components.pages.options.imagee: expected an option of data-loader/pages, found "imagee". Did you mean "image"?`],
    ["a wrong type", edited("use: data-loader/pages", "use: data-loader/pages, options: { longest_text: 12 }"), `r.yaml:3:61: components.pages.options.longest_text: expected an integer, at least 8 and divisible by 8, found 12.`],
    ["a dimension mismatch", edited("use: fusion/join", "use: fusion/join\n    options: { text_width: 12 }"),
      `r.yaml:17:13: components.fusion.in.text: expected one shape at both ends, found that text.states gives (B, T, 8), fusion.text takes (B, T, 12). Dimension 3 is 8 against 12 (text.options.width = 8; fusion.options.text_width = 12).`],
    ["a dtype mismatch", edited("text_mask: pages.text_mask\n      text_position", "text_mask: pages.text_ids\n      text_position"), `r.yaml:17:18: components.fusion.in.text_mask: expected one dtype at both ends, found that pages.text_ids gives i32 (B, T), fusion.text_mask takes u8 (B, T). pages.text_mask would fit.`],
    ["a rank mismatch", edited("text: text.states", "text: text.embedding"), `r.yaml:16:13: components.fusion.in.text: expected one shape at both ends, found that text.embedding gives (50, 8), fusion.text takes (B, T, 8). 2 dimensions against 3. text.states or place.text would fit.`],
    ["a missing input", edited("      text_mask: pages.text_mask\n", ""), `r.yaml:14:5: components.fusion.in: expected input "text_mask" of fusion/join, u8 (B, T), found nothing connected to it. Add "text_mask: pages.text_mask".`],
    ["an unknown input", edited("text: text.states", "txt: text.states"), `r.yaml:16:7: components.fusion.in.txt: expected an input of fusion/join, found "txt". Did you mean "text"?`],
    ["an unknown output", edited("text: text.states", "text: text.stats"), `r.yaml:16:13: components.fusion.in.text: expected an output of text (text-encoder/words), found "text.stats". Did you mean "text.states"?`],
    ["an output without port", edited("text: text.states", "text: text"), `r.yaml:16:13: components.fusion.in.text: expected an output of text (text-encoder/words), found "text". Write text.states or text.embedding.`],
    ["an unknown component", edited("text: text.states", "text: txt.states"), `r.yaml:16:13: components.fusion.in.text: expected an output of a component, found "txt.states"; there is no component txt. Did you mean "text"?`],
    ["a gradient into a port that gives none back", edited("targets: teacher.targets", "targets: learner.x").replace("  mlm:", "  learner: { use: fusion/learner }\n  mlm:").replace("fusion: [place", "fusion: [learner, place"),
      `r.yaml:21:72: components.mim.in.targets: expected an output without gradient, since none comes back from mim.targets, found learner.x, which needs one. teacher.targets would fit.`,
      [custom("learner", { in: {}, out: { x: port(["B", 4, 8]) } }, { "learner.x": new Parameter([1], { kind: "zeros" }) })]],
    ["a cycle of components", edited("stages:", "  x: { use: fusion/loop, in: { a: y.b } }\n  y: { use: fusion/loop, in: { a: x.b } }\nstages:").replace("fusion: [place", "fusion: [x, y, place"),
      `r.yaml:21:3: components.x: expected no component to wait for itself, found the cycle x -> y -> x. Cut one of these connections.`, [loop]],
    ["a repeated component", edited("stages:", "  mim: { use: objective/imitate }\nstages:"), `r.yaml:21:3: components.mim: expected one component of this name, found "mim" here and at line 20. Rename or remove one of them.`],
    ["a parameter with two owners", edited("stages:", "  thief: { use: fusion/thief }\nstages:").replace("fusion: [place", "fusion: [thief, place"),
      `r.yaml:21:3: components.thief: expected every parameter to have one owner, found text and thief both owning "text.embedding" and 1 more. Remove one of the two, or connect both to one component's output.`, [thief]],
    ["a loss that no gradient leaves", edited("stages:", "  idle: { use: objective/idle, in: { x: pages.pixels } }\nstages:").replace(", mim]", ", mim, idle]"),
      `r.yaml:21:32: components.idle.in: expected an input from something that learns, found only data and frozen components. Connect an encoder, fusion or decoder.`,
      [custom("idle", { in: { x: port(["B", 3, 16, 16]) }, out: { loss: port([1]) } }, {}, "objective")]],
    ["a component in no stage", edited("  text: [text]\n", ""), `r.yaml:21:1: stages: expected every component in one stage, found none for "text". Add a line "text: [text]".`],
    ["a component in two stages", edited("  text: [text]", "  text: [text, image]"), `r.yaml:24:16: stages.text.1: expected every component in one stage, found "image" here and in image at line 23. Remove one of them.`],
    ["an unknown component in a stage", edited("[text]", "[text, imgae]"), `r.yaml:24:16: stages.text.1: expected a component of the recipe, found "imgae". Did you mean "image"?`],
    ["a cycle of stages", edited("  image: [image, teacher]", "  image: [image, teacher, mlm]").replace("[place, fusion, mlm, mim]", "[place, fusion, mim]"),
      `r.yaml:23:3: stages.image: expected tensors to flow one way between stages, found the cycle image -> fusion -> image (image.states -> fusion.image, fusion.memory -> mlm.memory). Put the components of one of these connections into one stage.`],
    ["an objective that compares pages, with several microbatches", edited("stages:", "  pairs: { use: objective/contrast, in: { states: text.states } }\nstages:").replace(", mim]", ", mim, pairs]"),
      `r.yaml:21:3: components.pairs: expected train.microbatches: 1, since objective/contrast compares pages with each other, found 4. Set train.microbatches to 1.`],
    ["a batch that cannot be cut", edited("batch: 8", "batch: 9"), `r.yaml:28:10: train.batch: expected a batch that 4 microbatches divide, found 9. Write 12, or change train.microbatches.`],
    ["a count the loader does not give", edited("stages:", "  odd: { use: objective/counting, in: { memory: fusion.memory } }\nstages:").replace(", mim]", ", mim, odd]"),
      `r.yaml:21:3: components.odd: expected the count "text_tokns" from pages, which normalises the loss of objective/counting, found only text_tokens, patches. Is it "text_tokens"?`, [counting]],
    ["a plugin that throws in create", edited("stages:", "  bad: { use: fusion/broken }\nstages:").replace("fusion: [place", "fusion: [bad, place"),
      `r.yaml:21:3: components.bad: expected fusion/broken 0.3.0 to be built from its options, found that it threw: width must be even. Correct its options, or the plugin.`, [broken]],
    ["a plugin in the wrong place", edited("  place: { use: position/waves, in: { text_mask: pages.text_mask } }", "  place: { use: tracker/console }").replace("      text_position: place.text\n", ""),
      `r.yaml:11:17: components.place.use: expected a component: a plugin of kind data-loader, teacher, visual-tokenizer, image-encoder, text-encoder, position, fusion, prompt-encoder, decoder, objective, found tracker/console, of kind tracker. It belongs under trackers.`],
    ["a wrong option of the optimizer", edited("steps: 3", "steps: 3\n  optimizer: { options: { lr: 0 } }"), `r.yaml:28:31: train.optimizer.options.lr: expected a number, more than 0, found 0.`],
    ["a wrong kind of optimizer", edited("steps: 3", "steps: 3\n  optimizer: { use: tracker/console }"), `r.yaml:28:21: train.optimizer.use: expected a plugin of kind optimizer, found "tracker/console", which is of kind tracker. Use optimizer/adamw.`],
    ["more processes than stages that learn", edited("steps: 3", "steps: 3\n  ranks: 4"), `r.yaml:28:10: train.ranks: expected at most 3, the stages that learn, found 4. Cut the model into more stages, or leave ranks out: a process for each.`],
    ["a schedule that cannot be dealt so", edited("steps: 3", "steps: 3\n  schedule: zb-h1\n  ranks: 2"), `r.yaml:28:13: train.schedule: expected a schedule that keeps the rules, found that schedule zb-h1: expected one stage per rank, found 2 on rank0. Take interleaved, or a rank for every stage.`],
    ["an unknown schedule", edited("steps: 3", "steps: 3\n  schedule: 1f1d"), `r.yaml:28:13: train.schedule: expected 1f1b, fill-drain, interleaved, zb-h1, or the path of a .csv, found "1f1d". Did you mean "1f1b"?`],
    ["a checkpoint that is not there", edited("steps: 3", "steps: 3\n  from: runs/none"), `r.yaml:28:9: train.from: expected the folder of a checkpoint, found nothing at ${process.cwd()}/runs/none. Check the path; relative paths start at the recipe.`],
  ];
  for (const [name, text, message, more] of cases) {
    it(`${name} gives one message`, async () => assert.deepEqual(await messages(text, [], more), [message]));
  }

  it("in one name's size names the connection that decided it", async () => {
    const four = custom("four", { in: { a: port(["B", "L"], { dtype: "i32" }), b: port(["B", 4], { dtype: "u8" }) }, out: {} });
    const five = custom("five", { in: { c: port(["L"]) }, out: {} }, {}, "fusion");
    const give = custom("give", { in: {}, out: { ids: port(["B", 7], { dtype: "i32" }), mask: port(["B", 4], { dtype: "u8" }), c: port([6]) } });
    const text = edited("stages:", "  g: { use: fusion/give }\n  x: { use: fusion/four, in: { a: g.ids, b: g.mask } }\n  y: { use: fusion/five, in: { c: g.c } }\nstages:").replace("fusion: [place", "fusion: [g, x, y, place");
    assert.deepEqual(await messages(text, [], [four, five, give]), [
      "r.yaml:23:35: components.y.in.c: expected one shape at both ends, found that g.c gives (6), y.c takes (L). Dimension 1 is 6 against 7 (L is 7 through g.ids -> x.a).",
    ]);
  });

  it("never hides another: all are shown at once, form and meaning together, in the order of the file", async () => {
    const text = edited("name: small", "name: small\nsed: 3").replace("fusion/join", "fusion/jion").replace("batch: 8", "batch: 9").replace("memory: fusion.memory, labels", "memory: fusion.memory, lables");
    assert.deepEqual((await messages(text, ["train.steps=many"])).map((m) => m.split(":").slice(0, 4).join(":").slice(0, 50)), [
      "r.yaml:2:1: sed", "r.yaml:14:10: components.fusion.use", "r.yaml:20:62: components.mlm.in.lables", "r.yaml:29:10: train.batch", "--set train.steps=many: train.steps: expected an i",
    ]);
  });

  it("keeps what a plugin threw as the cause", async () => {
    const text = edited("stages:", "  bad: { use: fusion/broken }\nstages:");
    await assert.rejects(checkRecipe(parseRecipe(text, "r.yaml"), registry(broken)), (error: RecipeError) => error.code === "ERR_RECIPE" && (error.cause as Error).message === "width must be even");
  });

  it("without loader and objective is told so", async () => {
    assert.deepEqual(await messages("components: {}"), [
      "r.yaml:1:1: components: expected a data loader, found none. Add one, for example pages: { use: data-loader/shards }.",
      "r.yaml:1:1: components: expected an objective: without a loss nothing is learned, found none. Add one, for example mlm: { use: objective/mlm }.",
    ]);
  });
});
