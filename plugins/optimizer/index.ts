import type { Plugin } from "../../runtime/index.ts";
import { adamwOptimizer } from "./adamw.ts";

export const optimizers: Plugin[] = [adamwOptimizer];
