import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { builtins } from "../../plugins/index.ts";
import { createRegistry, RecipeError, type Recipe } from "../../runtime/index.ts";
import { checkSequence } from "../../cluster/sequence/check-sequence.ts";
import { runSequence, type SequenceEvent, type SequenceOptions, type TrainStage } from "../../cluster/sequence/run-sequence.ts";
import { isSequence, loadSequence } from "../../cluster/sequence/sequence-file.ts";
import { formatSummary } from "../../cluster/sequence/summary.ts";
import { root } from "../process/octavo.ts";
import { temporaryFolder } from "./worker-spec.ts";

const recipes = join(root, "test/recipes");
const sequence = `
stages:
  - recipe: ${recipes}/mini-vq-kd.yaml
    name: vocabulary
  - { recipe: ${recipes}/mini-mim.yaml, name: sight, from: { words: vocabulary } }
`;

describe("sequence", () => {
  const registry = createRegistry(builtins);
  let folder: string, file: string;
  beforeEach(() => {
    folder = temporaryFolder();
    file = join(folder, "all.yaml");
  });
  const load = (text = sequence, set: string[] = []) => {
    writeFileSync(file, text);
    return loadSequence(file, set);
  };
  const check = (text = sequence, set: string[] = []) => checkSequence(load(text, set), registry);

  describe("file", () => {
    it("is told from a recipe by its stages being a list", () => {
      load();
      assert.ok(isSequence(file));
      assert.ok(!isSequence(join(recipes, "mini.yaml")));
      assert.ok(!isSequence(join(folder, "none.yaml")));
    });

    it("names a stage by its recipe's file, and refuses two of one name", () => {
      assert.deepEqual(load("stages: [{ recipe: a/s1.yaml }, { recipe: s2.yaml }]").stages.map(({ name, recipe }) => [name, recipe]), [["s1", join(folder, "a/s1.yaml")], ["s2", join(folder, "s2.yaml")]]);
      assert.throws(() => load("stages: [{ recipe: a/s1.yaml }, { recipe: s1.yaml }]"), { code: "ERR_INPUT", message: /all\.yaml:1:43: stages\.1: two stages are called s1/ });
    });

    it("gives an override to the stage it names, to all when it names none, after the file's own", () => {
      const { stages } = load("stages: [{ recipe: s1.yaml, set: { train.steps: 7 } }, { recipe: s2.yaml }]", ["s1.train.steps=3", "seed=9", "s2.train.batch=2"]);
      assert.deepEqual(stages.map(({ overrides }) => overrides), [["train.steps=7", "train.steps=3", "seed=9"], ["seed=9", "train.batch=2"]]);
    });

    it("with an unknown key names its line and the nearest", () => {
      assert.throws(() => load("stages:\n  - { recipe: s1.yaml, form: {} }"), { code: "ERR_INPUT", message: /all\.yaml:2:.*unknown key. Did you mean "from"\?/ });
    });
  });

  describe("check", () => {
    const mistakes = async (text: string, set: string[] = []): Promise<string[]> => {
      const error = await check(text, set).then(() => assert.fail("no mistake found"), (thrown: unknown) => thrown);
      assert.ok(error instanceof RecipeError, String(error));
      return error.problems.map(({ where, expected, found, fix }) => `${where}: expected ${expected}, found ${found}. ${fix}`);
    };

    it("passes where every component is in what its stage will save, before anything is trained", async () => {
      const { stages } = await check();
      assert.deepEqual(stages.map(({ name, sources }) => [name, sources]), [["vocabulary", {}], ["sight", { words: { stage: "vocabulary" } }]]);
    });

    it("shows the mistakes of all stages at once", async () => {
      const found = await mistakes(sequence, ["vocabulary.train.batch=0", "sight.components.mim.options.codez=1"]);
      assert.equal(found.length, 2, found.join("\n"));
      assert.match(found[0], /train\.batch/);
      assert.match(found[1], /codes/);
    });

    it("finds a component that the stage has in another shape", async () => {
      assert.match((await mistakes(sequence, ["sight.components.words.options.codes=32", "sight.components.mim.options.codes=32"]))[0],
        /^stages\.1\.from\.words: expected the parameters of words in vocabulary, found that tokenizer\.quantize\.embedding\.weight is \(64, 16\), not \(32, 16\)\./);
    });

    it("finds a component that the stage does not have, and one that the recipe does not have", async () => {
      assert.match((await mistakes(sequence.replace("words: vocabulary", "image: vocabulary")))[0], /expected the parameters of image in vocabulary, found none of its \d+ \(vision\.cls_token, /);
      assert.match((await mistakes(sequence.replace("words: vocabulary", "wrods: vocabulary")))[0], /expected a component of mini-mim, found "wrods"\. Did you mean "words"\?/);
    });

    it("finds a source that comes later, or is neither a stage nor a checkpoint", async () => {
      const turned = sequence.replace("name: vocabulary", "name: vocabulary\n    from: { words: sight }");
      assert.match((await mistakes(turned))[0], /^stages\.0\.from\.words: expected the path of a checkpoint, found sight, which comes later/);
      assert.match((await mistakes(sequence.replace("words: vocabulary", "words: vocabluary")))[0], /found "vocabluary", and nothing at .*Did you mean "vocabulary"\?/);
    });

    it("warns of parameters that start afresh in a component that is loaded", async () => {
      const deeper = `${sequence}  - { recipe: ${recipes}/mini-mim.yaml, name: deeper, from: { image: sight }, set: { components.image.options.layers: 3 } }\n`;
      assert.match((await check(deeper)).stages[2].warnings.join(), /^image: \d+ of its \d+ parameters are not in sight and start afresh: vision\.blocks\.2\..* and \d+ more\.$/);
    });
  });

  describe("run", () => {
    const nothing = () => {};
    /** Trains nothing, and says what a run says. */
    const trainer = (o: { stopIn?: string; failIn?: string } = {}) => {
      const seen: { recipe: Recipe; runFolder: string; resume?: string }[] = [];
      const train: TrainStage = async (recipe, { runFolder, resume, onEvent }) => {
        seen.push({ recipe, runFolder, resume });
        const stopped = recipe.name === o.stopIn;
        if (recipe.name === o.failIn) throw new Error("out of luck");
        onEvent({ event: "step", step: 0, loss: 2, losses: {}, lr: 0, norm: 0, pagesPerSecond: 1, etaSeconds: 0, samples: [] });
        const checkpoint = join(runFolder, "checkpoints", stopped ? "step-1" : "step-4");
        onEvent({ event: "checkpoint", step: stopped ? 1 : 4, path: checkpoint });
        if (!stopped) onEvent({ event: "evaluation", step: 4, scores: { "held-out.loss": 1, "held-out.mim.accuracy": 0.5, "held-out.mim.unigram": 0.25 } });
        onEvent({ event: "end", reason: stopped ? "stopped" : "finished", step: stopped ? 1 : 4, loss: 2, seconds: 3, runFolder, checkpoint });
      };
      return { seen, train };
    };
    const run = async (train: TrainStage, o: Partial<SequenceOptions> = {}, set: string[] = []) => runSequence(await check(sequence, set), { folder: join(folder, "run"), train, ...o });

    it("trains stage after stage in one folder, each from what the one before saved", async () => {
      const { seen, train } = trainer(), events: SequenceEvent[] = [];
      const summary = await run(train, { onEvent: (event) => events.push(event) });
      assert.deepEqual(seen.map(({ recipe, runFolder }) => [recipe.name, runFolder]), [["mini-vq-kd", join(folder, "run/vocabulary")], ["mini-mim", join(folder, "run/sight")]]);
      assert.deepEqual(seen.map(({ recipe }) => recipe.train.from), [undefined, { words: join(folder, "run/vocabulary/checkpoints/step-4") }]);
      assert.deepEqual(events.map((event) => (event.event === "stage" ? `${event.stage} ${event.state}` : event.event)),
        ["sequence", "vocabulary started", "vocabulary finished", "sight started", "sight finished", "summary"]);
      const row = formatSummary(summary!).split("\n")[3].split("|").map((cell) => cell.trim());
      assert.deepEqual(row.slice(1, -1), ["sight", "4", "3.0", "2.0000", "2.0000", "1.0000", "mim 0.5000", "mim 0.2500", ""]);
      assert.match(readFileSync(join(folder, "run/report.md"), "utf8"), /\| all +\| 8 +\| 6\.0 /);
    });

    it("stopped, keeps what is finished and goes on with the interrupted stage from its checkpoint", async () => {
      const first = trainer({ stopIn: "mini-mim" });
      assert.equal(await run(first.train), undefined);
      const second = trainer();
      const summary = await run(second.train);
      assert.deepEqual(second.seen.map(({ recipe, runFolder, resume }) => [recipe.name, runFolder, resume]),
        [["mini-mim", join(folder, "run/sight-2"), join(folder, "run/sight/checkpoints/step-1")]]);
      assert.deepEqual(summary!.stages.map(({ stage, seconds }) => [stage, seconds]), [["vocabulary", 3], ["sight", 6]], "seconds of all attempts");
      assert.deepEqual((await run(trainer().train))!.stages, summary!.stages);
    });

    it("does not begin a stage once it was asked to stop", async () => {
      const stop = new AbortController(), { seen, train } = trainer();
      await run(async (...args) => (stop.abort(), train(...args)), { signal: stop.signal });
      assert.deepEqual(seen.map(({ recipe }) => recipe.name), ["mini-vq-kd"]);
    });

    it("names the stage that failed and the way on, and keeps the cause", async () => {
      await assert.rejects(run(trainer({ failIn: "mini-mim" }).train), (error: Error) => {
        assert.match(error.message, /Stage sight failed .*--resume/);
        assert.equal((error.cause as Error).message, "out of luck");
        return true;
      });
      const { seen, train } = trainer();
      await run(train);
      assert.deepEqual(seen.map(({ recipe }) => recipe.name), ["mini-mim"]);
    });

    it("is refused when a recipe has changed since its stage began", async () => {
      await run(trainer({ stopIn: "mini-mim" }).train);
      await assert.rejects(run(nothing as never, {}, ["vocabulary.train.steps=9"]), { code: "ERR_INPUT", message: /recipe of stage vocabulary has changed/ });
      await assert.rejects(run(nothing as never, {}, ["sight.train.steps=9"]), { code: "ERR_INPUT", message: /recipe of stage sight has changed/ });
    });

    it("is refused while another process works in its folder", async () => {
      const { train } = trainer();
      await run(async (...args) => {
        await assert.rejects(run(train), { code: "ERR_INPUT", message: new RegExp(`process ${process.pid} is working on this sequence`) });
        return train(...args);
      });
    });
  });
});
