import assert from "node:assert/strict";
import { builtins } from "../../../plugins/index.ts";
import { createRegistry, loadRecipe, memory, train } from "../../../runtime/index.ts";
import { miniRecipe, octavo, temporaryFolder } from "../../process/octavo.ts";

/** Must hold 4: native memory at equal points of training is equal, to the byte. */
describe("native memory over 200 steps", function () {
  this.timeout(300_000);
  const folder = temporaryFolder();
  after(() => folder.remove());

  it("does not grow by a byte or a tensor", async () => {
    const recipe = loadRecipe(miniRecipe, ["train.steps=200", "train.batch=2", "train.microbatches=2", "train.checkpoint={keep: 1}"]);
    const seen: { bytesInUse: number; tensors: number }[] = [];
    const before = memory();
    await train(recipe, {
      runFolder: folder.path, registry: createRegistry(builtins), inProcess: true, threads: 2,
      onEvent: (event) => { if (event.event === "step") seen.push(memory()); },
    });
    assert.equal(seen.length, 200);
    const first = { bytesInUse: seen[0].bytesInUse, tensors: seen[0].tensors };
    assert.ok(first.bytesInUse > 1_000_000, "the model itself is on the device");
    const changed = seen.findIndex(({ bytesInUse, tensors }) => bytesInUse !== first.bytesInUse || tensors !== first.tensors);
    assert.equal(changed, -1, `step ${changed}: ${JSON.stringify(seen[changed])}, at step 0 ${JSON.stringify(first)}`);
    const end = memory();
    assert.deepEqual({ bytesInUse: end.bytesInUse, tensors: end.tensors }, { bytesInUse: before.bytesInUse, tensors: before.tensors }, "all freed at the end");
  });

  it("holds exactly parameters and optimizer state in every stage after a step, and the event loop stays alive", async () => {
    const ended = await octavo(["train", miniRecipe, "--runs", folder.path, "--lane", "shared-memory", "--set", "train.steps=40"]);
    assert.equal(ended.code, 0, ended.stderr);
    const stats = ended.events.find((event) => event.event === "stats")!.stages as Record<string, { memory: { bytesInUse: number }; eventLoop: { ticks: number; late: number; worstMs: number } }>;
    const checked = await octavo(["check", miniRecipe]);
    const plan = checked.events.find((event) => event.event === "check")!.stages as { name: string; parameters: number; trainable: number }[];
    assert.equal(plan.length, 4);
    for (const { name, parameters, trainable } of plan) {
      assert.equal(stats[name].memory.bytesInUse, 4 * (parameters + 2 * trainable), name);
      // Must hold 5: a 1 ms timer late by more than 50 ms in under 1 % of ticks while training
      const { ticks, late, worstMs } = stats[name].eventLoop;
      assert.ok(ticks > 200, `${name}: ${ticks} ticks`);
      assert.ok(late / ticks < 0.01, `${name}: ${late} of ${ticks} ticks late, the worst by ${worstMs.toFixed(0)} ms`);
    }
  });
});
