export { type CheckResult, type Chosen, checkFile, checkRecipe } from "./check.ts";
export type { Edge, Graph, GraphNode } from "./graph.ts";
export type { Launcher, WorkerExit, WorkerHandle, WorkerSpec } from "./launcher.ts";
export type { Plan, StageEdge, StagePlan } from "./plan.ts";
export { type Recipe, formatRecipe, loadRecipe, parseRecipe } from "./recipe.ts";
export { checkToJson, formatCheck } from "./report.ts";
export { afresh, fitOf, misfit, type Fit, type Shapes } from "./start-from.ts";
export { runWorker } from "./worker.ts";
