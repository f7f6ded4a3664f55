export * from "./stored.ts";
export { createFolder } from "./durable.ts";
export * from "./safetensors.ts";
export { openSharded } from "./sharded.ts";
export { openTorchFile } from "./torch-file.ts";
export { openTensors, readSidecar } from "./tensor-files.ts";
export * from "./manifest.ts";
export * from "./shard.ts";
