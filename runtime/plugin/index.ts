export * from "./kinds.ts";
export * from "./ports.ts";
export * from "./define.ts";
export * from "./problem.ts";
export * from "./options.ts";
export * from "./registry.ts";
