import assert from "node:assert/strict";
import { miniRecipe, losses, octavo, temporaryFolder } from "./octavo.ts";

/**
 * Components shared out over tensor groups, trained by the command: numbers of one process up to the order of sums. Products are cut into
 * summands and hidden numbers into members, so sums round otherwise; after 10 steps losses may differ by 1e-5 of themselves, after 50 by 1e-3.
 */
describe("tensor groups in training", function () {
  this.timeout(300_000);
  const folder = temporaryFolder();
  const set = (...overrides: string[]): string[] => overrides.flatMap((override) => ["--set", override]);
  const two = set("stages={pages: [pages], model: [image, teacher, text, position, fusion, mlm, mim, wpa]}", "layout={tensor: 2}");
  const train = async (...args: string[]) => {
    const ended = await octavo(["train", miniRecipe, "--runs", folder.path, ...args]);
    assert.equal(ended.code, 0, ended.stderr);
    return ended;
  };
  const near = (got: ReadonlyMap<number, number>, wanted: ReadonlyMap<number, number>): void => {
    assert.equal(got.size, wanted.size);
    for (const [step, loss] of wanted) {
      const difference = Math.abs(got.get(step)! - loss) / Math.abs(loss);
      assert.ok(difference <= (step < 10 ? 1e-5 : 1e-3), `step ${step}: ${got.get(step)} against ${loss}, ${difference} of it`);
    }
  };
  const ten = set("train.steps=10", "train.checkpoint={}");
  let one: Map<number, number>;
  before(async () => { one = losses(await train("--in-process", "--threads", "1", ...ten)); });
  after(() => folder.remove());

  it("two members of everything: the losses of one process over 10 and 50 steps", async () => {
    const fifty = set("train.steps=50", "train.batch=4", "train.microbatches=2", "train.checkpoint={}");
    near(losses(await train(...two, ...fifty)), losses(await train("--in-process", ...fifty)));
    const short = await train(...two, ...ten);
    near(losses(short), one);
    assert.notDeepEqual(losses(short), one, "had they been equal, this test would compare nothing");
  });

  it("with the tokens shared out between products, and blocks that run again on the way back", async () => {
    const tokens = losses(await train(...two, ...ten, ...set("train.sequence_parallel=true")));
    near(tokens, one);
    assert.deepEqual(losses(await train(...two, ...ten, ...set("train.sequence_parallel=true", "train.recompute=block"))), tokens, "the same bits");
  });

  it("two data copies of two members in two stages", async () => {
    const ended = await train(...ten, ...set("layout={data: 2, tensor: 2}", "stages={pages: [pages], encoders: [image, teacher, text], head: [position, fusion, mlm, mim, wpa]}"));
    assert.equal((ended.events.find(({ event }) => event === "start")!.processes as unknown[]).length, 1 + 4 + 4);
    near(losses(ended), one);
  });

  it("leaves a checkpoint that one process goes on from, and takes over one that one process left", async () => {
    const half = set("train.steps=5", "train.checkpoint={}"), resumed = (from: Awaited<ReturnType<typeof train>>, ...args: string[]) =>
      train("--resume", from.events.find(({ event }) => event === "start")!.runFolder as string, ...ten, ...args);
    const [shared, alone] = [await train(...two, ...half), await train("--in-process", ...half)], wanted = losses(await resumed(alone, "--in-process"));
    assert.equal(wanted.size, 5);
    near(losses(shared), losses(alone));
    near(losses(await resumed(shared, "--in-process")), wanted);
    near(losses(await resumed(alone, ...two)), wanted);
  });
});
