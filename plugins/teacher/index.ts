import type { Plugin } from "../../runtime/index.ts";
import { stubClip } from "./stub-clip.ts";

export const teachers: Plugin[] = [stubClip];
