import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Recipe } from "../../runtime/index.ts";
import { recipeOf, studyArms } from "../../cluster/study/arms.ts";
import { meanAndSpread } from "../../cluster/study/report.ts";
import { runStudy, type StudyEvent, type StudyOptions, type TrainOne } from "../../cluster/study/run-study.ts";
import { loadStudy } from "../../cluster/study/study-file.ts";
import { temporaryFolder } from "./worker-spec.ts";

const recipe = `
name: parent
components:
  pages: { use: data-loader/shards, options: { shards: pages-*.tar } }
  image: { use: image-encoder/beit, in: { pixels: pages.pixels } }
  position: { use: position/fourier, in: { text_boxes: pages.text_boxes } }
  fusion: { use: fusion/multiway, options: { depth: 2 }, in: { image: image.states, text_position: position.text, image_position: position.image } }
stages:
  pages: [pages]
  image: [image]
  fusion: [position, fusion]
train: { steps: 10 }
`;
const study = `
name: parts
parent: recipe.yaml
seeds: [1, 2]
metric: loss
arms:
  no-fourier: { remove: [position] }
  concatenation: { replace: { fusion: { use: fusion/concatenation } } }
`;

describe("study", () => {
  let folder: string;
  beforeEach(() => {
    folder = temporaryFolder();
    writeFileSync(join(folder, "recipe.yaml"), recipe);
  });
  const load = (text = study) => {
    writeFileSync(join(folder, "study.yaml"), text);
    return loadStudy(join(folder, "study.yaml"));
  };

  describe("arms", () => {
    it("take a component out together with its stage entry and what reads from it", () => {
      const [, arm] = studyArms(load());
      const { components, stages } = recipeOf(load(), arm, 2);
      assert.deepEqual(Object.keys(components), ["pages", "image", "fusion"]);
      assert.deepEqual(components.fusion.in, { image: "image.states" });
      assert.deepEqual(stages?.fusion, ["fusion"]);
    });

    it("swap a plugin, keep its connections and start from its own defaults", () => {
      const [, , arm] = studyArms(load());
      const { fusion } = recipeOf(load(), arm, 1).components;
      assert.deepEqual([fusion.use, fusion.options, Object.keys(fusion.in).length], ["fusion/concatenation", {}, 3]);
      assert.deepEqual(arm.changes.map((change) => [change.path, change.from, change.to]),
        [["components.fusion.use", "fusion/multiway", "fusion/concatenation"], ["components.fusion.options.depth", 2, undefined]]);
    });

    it("have the seed of the run, the same in every arm", () => {
      assert.deepEqual(studyArms(load()).map((arm) => recipeOf(load(), arm, 7).seed), [7, 7, 7]);
    });

    it("may not change what makes runs comparable", () => {
      const unfair = load(study + "  longer: { set: { train.steps: 20 } }\n");
      assert.throws(() => studyArms(unfair), { code: "ERR_INPUT", message: /arms\.longer: changes train\.steps from 10 to 20, .*unequal: \[train\.steps\]/s });
      const otherPages = load(study + "  pages: { set: { components.pages.options.shards: others.tar } }\n");
      assert.throws(() => studyArms(otherPages), { code: "ERR_INPUT", message: /changes components\.pages\.options\.shards/ });
    });

    it("may change it when they declare it", () => {
      const arms = studyArms(load(study + "  longer: { set: { train.steps: 20 }, unequal: [train.steps] }\n"));
      assert.equal(arms[3].changes[0].path, "train.steps");
    });

    it("that name no component get the nearest one told", () => {
      assert.throws(() => studyArms(load(study.replace("[position]", "[positoin]"))), { code: "ERR_INPUT", message: /no component "positoin" .*Did you mean "position"\?/ });
    });

    it("that change nothing are refused", () => {
      assert.throws(() => studyArms(load(study + "  same: {}\n")), { code: "ERR_INPUT", message: /arms\.same: changes nothing/ });
    });
  });

  it("file mistakes come with line and nearest key", () => {
    assert.throws(() => load(study.replace("remove:", "remvoe:")), { code: "ERR_INPUT", message: /study\.yaml:7:\d+: arms\.no-fourier\.remvoe: unknown key\. Did you mean "remove"\?/ });
    assert.throws(() => load(study.replace("[1, 2]", "[1, 1]")), { code: "ERR_INPUT", message: /seeds: expected different seeds, found 1, 1/ });
    assert.throws(() => loadStudy(join(folder, "absent.yaml")), { code: "ERR_INPUT", message: /absent\.yaml: cannot be read \(ENOENT\)/ });
  });

  /** A training whose loss is known: 1 for the parent, +0.5 with concatenation, -0.25 without positions, + 0.1 per seed. */
  const lossOf = ({ components, seed }: Recipe): number =>
    1 + (components.fusion.use === "fusion/concatenation" ? 0.5 : 0) - (components.position ? 0 : 0.25) + 0.1 * seed;
  const fakeTrain = (trained: string[], stopAfter = Infinity, abort = new AbortController()): TrainOne => async (recipe, { onEvent, runFolder, signal }) => {
    trained.push(`${recipe.components.fusion.use} ${recipe.components.position ? "with" : "without"} ${recipe.seed}`);
    if (trained.length === stopAfter) abort.abort();
    const loss = lossOf(recipe);
    onEvent({ event: "step", step: 9, loss, losses: {}, lr: 0, norm: 0, pagesPerSecond: 0, etaSeconds: 0, samples: [] });
    onEvent({ event: "evaluation", step: 10, scores: { anls: 1 - loss / 10 } });
    onEvent({ event: "end", reason: signal?.aborted ? "stopped" : "finished", step: 10, loss, seconds: 1, runFolder });
  };
  const run = (train: TrainOne, more: Partial<StudyOptions> = {}, text = study) => runStudy(load(text), { folder: join(folder, "out"), train, ...more });

  it("runs parent and arms for every seed and reports mean, spread and paired difference", async () => {
    const trained: string[] = [];
    const report = await run(fakeTrain(trained));
    assert.equal(trained.length, 6);
    const [parent, noFourier, concatenation] = report!.arms;
    const close = (a: number | undefined, b: number): void => assert.ok(Math.abs(a! - b) < 1e-12, `${a} is not ${b}`);
    close(parent.mean, 1.15);
    close(parent.spread, Math.sqrt(0.005)); // sample deviation of 1.1 and 1.2
    close(noFourier.difference?.mean, -0.25);
    close(concatenation.difference?.mean, 0.5);
    close(concatenation.difference?.spread, 0); // the seeds move parent and arm together
    const markdown = readFileSync(join(folder, "out", "report.md"), "utf8");
    assert.match(markdown, /\| concatenation \| 1\.6500 ± 0\.071\s*\| \+0\.50000 ± .*\| worse\s*\| components\.fusion\.use: fusion\/multiway -> fusion\/concatenation/);
    assert.match(markdown, /\| no-fourier\s+\| 0\.90000 ± 0\.071\s*\| -0\.25000 ± .*\| better/);
    assert.deepEqual(JSON.parse(readFileSync(join(folder, "out", "report.json"), "utf8")), JSON.parse(JSON.stringify(report)));
  });

  it("compares by a score when asked to", async () => {
    const report = await run(fakeTrain([]), {}, study.replace("metric: loss", "metric: anls"));
    assert.equal(report?.better, "higher");
    assert.ok(Math.abs(report!.arms[0].values[0].value - 0.89) < 1e-12);
    await assert.rejects(run(fakeTrain([]), { folder: join(folder, "other") }, study.replace("metric: loss", "metric: f1")),
      { code: "ERR_INPUT", message: /no "f1" came out of arm parent\. There are: loss, anls/ });
  });

  it("stopped in the middle continues without repeating a finished run (ST-1)", async () => {
    const trained: string[] = [];
    const abort = new AbortController();
    assert.equal(await run(fakeTrain(trained, 3, abort), { signal: abort.signal }), undefined);
    const stopped = trained.splice(0);
    assert.equal(stopped.length, 3);
    const states: string[] = [];
    const report = await run(fakeTrain(trained), { onEvent: (event: StudyEvent) => { if (event.event === "run" && event.state !== "started") states.push(event.state); } });
    assert.deepEqual(states, ["known", "known", "finished", "finished", "finished", "finished"]);
    assert.deepEqual(trained[0], stopped[2], "the run that was stopped starts again");
    assert.equal(report?.arms.length, 3);
  });

  it("keeps finished runs when one fails, and names the arm and seed of the failure", async () => {
    const trained: string[] = [];
    const failing: TrainOne = (recipe, o) => (recipe.seed === 2 ? Promise.reject(new Error("disk full")) : fakeTrain(trained)(recipe, o));
    await assert.rejects(run(failing), { code: "ERR_RUN", message: /^Arm parent, seed 2, failed/ });
    await run(fakeTrain(trained));
    assert.equal(trained.length, 6);
  });

  it("refuses to mix runs of a changed recipe (ST-2)", async () => {
    await run(fakeTrain([]));
    writeFileSync(join(folder, "recipe.yaml"), recipe.replace("depth: 2", "depth: 3"));
    await assert.rejects(run(fakeTrain([])), { code: "ERR_INPUT", message: /recipe of arm parent has changed since its run with seed 1/ });
  });

  it("lets only one process into its folder, and takes over from a dead one (ST-3)", async () => {
    await run(fakeTrain([]));
    writeFileSync(join(folder, "out", "lock"), String(process.ppid));
    await assert.rejects(run(fakeTrain([])), { code: "ERR_INPUT", message: new RegExp(`process ${process.ppid} is working on this study`) });
    writeFileSync(join(folder, "out", "lock"), String(2 ** 22 + 1)); // beyond the largest process id
    assert.equal((await run(fakeTrain([])))?.arms.length, 3);
  });

  it("computes the sample standard deviation", () => {
    assert.deepEqual(meanAndSpread([2, 4, 4, 4, 5, 5, 7, 9]), { mean: 5, spread: Math.sqrt(32 / 7) });
    assert.deepEqual(meanAndSpread([3]), { mean: 3 });
  });
});
