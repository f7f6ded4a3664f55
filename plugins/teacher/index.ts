import type { Plugin } from "../../runtime/index.ts";
import { clip, miniClip } from "./clip.ts";
import { stubClip } from "./stub-clip.ts";

export const teachers: Plugin[] = [stubClip, clip, miniClip];
