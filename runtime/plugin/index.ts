export * from "./kinds.ts";
export { adaptersFrom, loraOption, ropeScalingFrom, ropeScalingOption } from "./model-options.ts";
export * from "./ports.ts";
export * from "./define.ts";
export { RecipeError, formatProblem, formatProblems } from "./problem.ts";
export type { Place, RecipeProblem } from "./problem.ts";
export { checkOptions } from "./options.ts";
export { aloneHost, createHost, createRegistry } from "./registry.ts";
export type { LookupDetails, Registry } from "./registry.ts";
