export { type AdamwOptions, type Optimizer, type StepOptions, adamw } from "./adamw.ts";
export { clipScale, globalNorm, sumSquares } from "./clip.ts";
export { warmupCosine } from "./schedule.ts";
