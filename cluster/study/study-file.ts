import { dirname, resolve } from "node:path";
import { z } from "zod";
import { RuntimeError } from "../../runtime/index.ts";
import { readYamlFile } from "../yaml-file.ts";

/** What an arm changes in the parent. The three may be combined; they are laid over the parent in this order. */
const arm = z.strictObject({
  /** Components taken out, with every connection that reads from them; or dotted paths (`components.fusion.in.text_position`). */
  remove: z.array(z.string().min(1)).default([]),
  /** Component -> another plugin of its kind. Connections stay, options start from the plugin's defaults. */
  replace: z.record(z.string(), z.strictObject({ use: z.string().min(1), options: z.record(z.string(), z.unknown()).optional() })).default({}),
  /** Dotted path -> value, as with `--set`. */
  set: z.record(z.string(), z.unknown()).default({}),
  /** Paths that this arm may change although it makes the comparison unequal (`train.steps`); shown in the report. */
  unequal: z.array(z.string()).default([]),
});

const study = z.strictObject({
  name: z.string().regex(/^[A-Za-z][A-Za-z0-9_-]*$/, "expected letters, digits, - and _, a letter first"),
  parent: z.string().min(1),
  seeds: z.array(z.int().min(0)).min(1),
  arms: z.record(z.string().regex(/^[A-Za-z][A-Za-z0-9_-]*$/), arm),
  /**
   * `held-out.loss`, or that of one objective (`held-out.mlm`), or a score of the recipe's evaluator, all of the final checkpoint;
   * `loss` is the last step's training loss and saves the evaluation.
   */
  metric: z.string().default("held-out.loss"),
  better: z.enum(["lower", "higher"]).optional(),
  /** Overrides of the parent, and so of every arm. */
  set: z.record(z.string(), z.unknown()).default({}),
});

export type Arm = z.output<typeof arm>;
export interface Study extends Omit<z.output<typeof study>, "better"> { better: "lower" | "higher"; file: string }

export const parentName = "parent";

/** Reads a study. `parent` becomes a path that holds from anywhere. Throws ERR_INPUT. */
export function loadStudy(file: string): Study {
  const read = readYamlFile(file, study, ["name", "parent", "seeds", "arms", "metric", "better", "set", "remove", "replace", "unequal", "use", "options"]);
  if (parentName in read.arms) {
    throw new RuntimeError("ERR_INPUT", `${file}: arms.${parentName}: this name is the parent's own; the parent always runs. Give the arm another name.`, { file });
  }
  if (new Set(read.seeds).size !== read.seeds.length) {
    throw new RuntimeError("ERR_INPUT", `${file}: seeds: expected different seeds, found ${read.seeds.join(", ")}. The same seed gives the same run.`, { file });
  }
  return { ...read, better: read.better ?? (/loss|^held-out\./.test(read.metric) ? "lower" : "higher"), parent: resolve(dirname(file), read.parent), file };
}
