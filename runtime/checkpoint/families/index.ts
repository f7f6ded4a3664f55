import { beit } from "./beit.ts";
import { bert } from "./bert.ts";
import { clip } from "./clip.ts";
import type { Family } from "./family.ts";
import { llama } from "./llama.ts";
import { vlmo } from "./vlmo.ts";
import { vqKd } from "./vq-kd.ts";

/** Every family of released checkpoints, in the order in which a guess prefers them. */
export const families: readonly Family[] = [llama, beit, clip, bert, vqKd, vlmo];
