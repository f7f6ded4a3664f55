export * from "./safetensors.ts";
export * from "./manifest.ts";
