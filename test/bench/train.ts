/**
 * Pages per second of `examples/tiny.yaml` and of fine-tuning, in one process and as four over each lane.
 * `npm run bench -- train [--json] [--write]`
 */
import { join } from "node:path";
import { losses, octavo, root, temporaryFolder } from "../process/octavo.ts";
import { keep, report } from "./report.ts";

const steps = 40;
const batch = 16;
const recipes = { "pre-training": "examples/tiny.yaml", "fine-tuning": "examples/demo/fine-tune.yaml" };
const layouts = { "in-process, 1 thread": ["--in-process", "--threads", "1"], "in-process, 2 threads": ["--in-process", "--threads", "2"], "four processes, shared-memory": ["--lane", "shared-memory"], "four processes, zeromq": ["--lane", "zeromq"] };

const folder = temporaryFolder();
try {
  for (const [what, recipe] of Object.entries(recipes)) {
    for (const [layout, flags] of Object.entries(layouts)) {
      const ended = await octavo(["train", join(root, recipe), "--runs", folder.path, "--set", `train.steps=${steps}`, "--set", `train.batch=${batch}`, ...flags]);
      if (ended.code !== 0) throw new Error(ended.stderr);
      const times = ended.events.filter((event) => event.event === "step") as unknown as { pagesPerSecond: number; step: number }[];
      // from the cumulative means: the second half, when pools and caches are warm
      const seconds = (n: number): number => ((n + 1) * batch) / times[n].pagesPerSecond;
      const half = steps / 2;
      const value = ((steps - half) * batch) / (seconds(steps - 1) - seconds(half - 1));
      report({ case: `train/${what}/${layout}`, value, unit: "pages/s", steps, lastLoss: losses(ended).get(steps - 1) });
    }
  }
} finally {
  folder.remove();
}
keep("train", "Training in each layout");
