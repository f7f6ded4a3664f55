export * from "./safetensors.ts";
export * from "./manifest.ts";
export * from "./shard.ts";
