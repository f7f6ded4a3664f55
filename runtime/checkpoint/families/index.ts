import { RuntimeError } from "../../errors.ts";
import { beit } from "./beit.ts";
import { bert } from "./bert.ts";
import { clip } from "./clip.ts";
import type { Family } from "./family.ts";
import { llama } from "./llama.ts";
import { vlmo } from "./vlmo.ts";
import { vqKd } from "./vq-kd.ts";

/** Every family of released checkpoints, in the order in which a guess prefers them. */
export const families: readonly Family[] = [llama, beit, clip, bert, vqKd, vlmo];

/** The family of a component, by its kind/name. Throws ERR_INPUT for one that no release is known for. */
export function familyOf(use: string): Family {
  const family = families.find(({ targets }) => Object.hasOwn(targets, use));
  if (family) return family;
  throw new RuntimeError("ERR_INPUT", `${use}: no released checkpoints are known for it. Known: ${families.flatMap(({ targets }) => Object.keys(targets)).join(", ")}.`, { use });
}
