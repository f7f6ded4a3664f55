import type { Plugin } from "../../runtime/index.ts";
import { bert } from "./bert.ts";

export const promptEncoders: Plugin[] = [bert];
