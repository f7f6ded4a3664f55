export { Compiled, type CompiledOptions, type CompiledStatistics } from "./compiled.ts";
export { type OpDefinition, defineOp } from "./define-op.ts";
export { type GradcheckOptions, type GradcheckReport, gradcheck } from "./gradcheck.ts";
export { GradientTree } from "./gradient-tree.ts";
export { type Entry, type GradientRule, type Gradients, type InputHalf, type Seed, Tape, recomputed, recordingTape, withoutRecording } from "./tape.ts";
