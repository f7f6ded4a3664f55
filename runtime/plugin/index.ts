export * from "./kinds.ts";
export * from "./ports.ts";
export * from "./define.ts";
