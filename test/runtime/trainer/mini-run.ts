/** The recipes of `test/recipes`, trained in this process with one thread, each in a folder of its own. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { builtins } from "../../../plugins/index.ts";
import { createRegistry, loadRecipe, train, type Recipe, type RunEvent, type RunResult } from "../../../runtime/index.ts";
import { root, temporaryFolder } from "../../process/octavo.ts";

export type Step = Extract<RunEvent, { event: "step" }>;
export interface MiniRun { events: RunEvent[]; steps: Step[]; result: RunResult }

export const registry = createRegistry(builtins);

export const miniRecipe = (name: string, ...overrides: string[]): Recipe => loadRecipe(join(root, `test/recipes/${name}.yaml`), overrides);

/** `run(name, ...overrides)`, or of `{ name, resume: checkpoint }`; `remove` takes all their folders away. */
export function miniRuns(): { run(what: string | { name: string; resume: string }, ...overrides: string[]): Promise<MiniRun>; remove(): void } {
  const folder = temporaryFolder();
  let runs = 0;
  return {
    remove: folder.remove,
    async run(what, ...overrides) {
      const { name, resume } = typeof what === "string" ? { name: what, resume: undefined } : what;
      const runFolder = join(folder.path, `run-${runs++}`), events: RunEvent[] = [];
      mkdirSync(runFolder);
      const result = await train(miniRecipe(name, ...overrides), { runFolder, registry, inProcess: true, threads: 1, resume, onEvent: (event) => events.push(event) });
      return { events, steps: events.filter((event) => event.event === "step"), result };
    },
  };
}
