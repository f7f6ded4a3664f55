/**
 * What the machinery of a pipeline costs: one process with the whole model as its only stage, driven by messages, against `trainer/step.ts`
 * in this process. Steps of the two take turns, so that whatever else the machine does meets both.
 *
 * Bar: 3 % or less.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { startInProcess } from "../../../runtime/trainer/in-process.ts";
import { median, report, rounded } from "../report.ts";
import { checkTimed, withPipeline } from "../timed/measure.ts";

const recipe = fileURLToPath(new URL("../../../examples/tiny.yaml", import.meta.url));
const [warmUp, steps, threads] = [3, 15, 1]; // one thread: how teams of threads wait is set for workers only
const settings = [
  "stages={all: [pages, image, teacher, text, position, fusion, mlm, mim, wpa]}", `train.steps=${warmUp + steps}`, `train.threads=${threads}`, "train.compile=off",
];

export async function measure(): Promise<void> {
  const checked = await checkTimed(readFileSync(recipe, "utf8"), recipe, settings), here = await startInProcess(checked, { seed: 1, threads });
  try {
    await withPipeline(checked, async (there) => {
      const times: { here: number; there: number }[] = [];
      for (let step = 0; step < warmUp + steps; step++) {
        const [first, second] = step % 2 === 0 ? [here, there] : [there, here];
        const taken = new Map([[first, await milliseconds(() => first.step(step))], [second, await milliseconds(() => second.step(step))]]);
        if (step >= warmUp) times.push({ here: taken.get(here)!, there: taken.get(there)! });
      }
      const ratio = median(times.map((one) => one.there / one.here));
      report({
        case: "runtime/machinery/one stage against step.ts", value: median(times.map((one) => one.there)), unit: "ms", ratio, bar: 1.03, ok: ratio <= 1.03,
        stepMs: rounded(median(times.map((one) => one.here))), steps, threads,
      });
    });
  } finally {
    await here.close();
  }
}

async function milliseconds(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}
