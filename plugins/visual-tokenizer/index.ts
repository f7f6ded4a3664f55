import type { Plugin } from "../../runtime/index.ts";
import { vqKd } from "./vq-kd.ts";

export const visualTokenizers: Plugin[] = [vqKd];
