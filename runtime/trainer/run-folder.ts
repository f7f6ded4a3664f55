import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { RuntimeError } from "../errors.ts";

/**
 * Every run has its own folder and no run writes into another's:
 * `recipe.json` (resolved), `events.jsonl`, `logs/<stage>.log`, `checkpoints/step-<n>`, `failure.json` after a failure.
 */
export interface RunFolder { path: string; logs: string; checkpoints: string }

/** Makes `<root>/<name>-<time>`; a folder of that name gives the next free number. `at` is local time. */
export function createRunFolder(root: string, name: string, at: Date): RunFolder {
  const two = (n: number): string => String(n).padStart(2, "0");
  const stamp = `${at.getFullYear()}${two(at.getMonth() + 1)}${two(at.getDate())}-${two(at.getHours())}${two(at.getMinutes())}${two(at.getSeconds())}`;
  mkdirSync(root, { recursive: true });
  for (let attempt = 1; attempt <= 1000; attempt++) {
    const path = join(root, `${name}-${stamp}${attempt > 1 ? `-${attempt}` : ""}`);
    try {
      mkdirSync(path); // fails when it exists: two runs of the same second never share one
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EEXIST") continue;
      throw new RuntimeError("ERR_INPUT", `${path}: cannot make the run folder (${(error as NodeJS.ErrnoException).code ?? String(error)}).`, { path }, { cause: error });
    }
    return openRunFolder(path);
  }
  throw new RuntimeError("ERR_INPUT", `${root}: a thousand runs named ${name}-${stamp} exist already.`, { root });
}

export function openRunFolder(path: string): RunFolder {
  const folder = { path, logs: join(path, "logs"), checkpoints: join(path, "checkpoints") };
  mkdirSync(folder.logs, { recursive: true });
  mkdirSync(folder.checkpoints, { recursive: true });
  return folder;
}
