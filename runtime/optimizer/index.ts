export { type AdamwOptions, type Optimizer, type StepOptions, adamw, updateNumbers } from "./adamw.ts";
export { type Ema, ema } from "./ema.ts";
export { type LayerDecay, type LearningScale, layerOf, learningScale } from "./learning-scale.ts";
export type { Moved } from "./many.ts";
export { type SgdOptions, sgd } from "./sgd.ts";
export { clipScale, clippedUpdate, globalNorm, inNameOrder, sumSquares } from "./clip.ts";
export { warmupCosine } from "./schedule.ts";
