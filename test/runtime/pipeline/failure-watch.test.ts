import assert from "node:assert/strict";
import { simulatedClock } from "../../../runtime/clock.ts";
import { RuntimeError } from "../../../runtime/errors.ts";
import { checkRecipe } from "../../../runtime/pipeline/plan/check.ts";
import { FailureWatch } from "../../../runtime/pipeline/run/failure-watch.ts";
import type { WorkerExit, WorkerHandle } from "../../../runtime/pipeline/run/launcher.ts";
import { parseRecipe } from "../../../runtime/pipeline/recipe/recipe.ts";
import { recipeText, registry } from "./small-world.ts";

/** Four workers that a test ends, and what the message system was told. */
async function world() {
  const checked = await checkRecipe(parseRecipe(recipeText, "small.yaml"), registry()), clock = simulatedClock();
  const watch = new FailureWatch(checked, clock), ends = new Map<string, (exit: WorkerExit) => void>(), told: string[] = [];
  const handles = checked.schedule.ranks.map((name, i): WorkerHandle => ({
    name, pid: 100 + i, host: "here", kill: () => {}, exited: new Promise((resolve) => ends.set(name, resolve)),
  }));
  watch.processes(handles, (node, reason) => told.push(`${node}: ${reason}`));
  watch.at(7);
  const never = new Promise<never>(() => {});
  return { watch, clock, told, never, ends: (name: string, exit: Partial<WorkerExit>) => ends.get(name)!({ code: null, signal: null, stderrTail: "", ...exit }) };
}
/** What a rank answers when its own part failed. */
const answer = (code: "ERR_DEAD" | "ERR_LANE" | "ERR_SHAPE", message: string): RuntimeError => new RuntimeError(code, message, { at: "worker-image/rank.step" });
const turns = async (): Promise<void> => { for (let i = 0; i < 5; i++) await Promise.resolve(); };

describe("failure watch", () => {
  it("names the worker that died, its signal and who only waited, in one paragraph, and tells the message system", async () => {
    const { watch, ends, told, never } = await world();
    const run = watch.guard(never);
    ends("text", { signal: "SIGSEGV" });
    await assert.rejects(run, (error: RuntimeError) => {
      assert.equal(error.message, "The run failed at step 7: worker text (components text; process 102 on here) was killed by SIGSEGV. The workers pages, image, fusion only waited for it.");
      assert.deepEqual([error.code, error.details.stage, error.details.step], ["ERR_RUN", "text", 7]);
      return true;
    });
    assert.deepEqual(told, ["worker-text: process 102 was killed by SIGSEGV"]);
  });

  for (const code of ["ERR_DEAD", "ERR_LANE"] as const) {
    it(`takes a bystander's ${code} for what it is: the death that follows is the cause`, async () => {
      const { watch, ends } = await world();
      const run = watch.guard(Promise.reject(watch.blame("image", answer(code, "text is gone"))));
      await turns();
      ends("text", { signal: "SIGKILL" });
      await assert.rejects(run, /^RuntimeError: The run failed at step 7: worker text .* was killed by SIGKILL/);
    });

    it(`reports a bystander's ${code} under its name when no death follows`, async () => {
      const { watch, clock } = await world();
      const run = assert.rejects(watch.guard(Promise.reject(watch.blame("image", answer(code, "text is gone")))),
        /^RuntimeError: The run failed at step 7: worker image \(components image, teacher; process 101 on here\) reported: text is gone$/);
      await turns();
      clock.advance(3000);
      await run;
    });
  }

  it("waits for nobody when a worker reports a failure of its own", async () => {
    const { watch } = await world();
    await assert.rejects(watch.guard(Promise.reject(watch.blame("image", answer("ERR_SHAPE", "matmul: too wide")))), /worker image .* reported: matmul: too wide$/);
  });

  it("a process that ends while the run closes is no failure", async () => {
    const { watch, ends, told } = await world();
    watch.closing();
    ends("text", { code: 0 });
    assert.equal(await watch.guard(turns().then(() => "done")), "done");
    assert.deepEqual(told, []);
  });
});
