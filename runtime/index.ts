/** The one door of the runtime: plugins, the cluster and users of the package import from here and nowhere deeper. */
export * from "./errors.ts";
export * from "./clock.ts";
export * from "./native.ts";
export * from "./tensor/index.ts";
export * from "./autograd/index.ts";
export * from "./ops/index.ts";
export * as nn from "./nn/index.ts";
export { type Initializer, type Module, Parameter, type Parameters, collect, countParameters, materialise, release } from "./nn/index.ts";
export * from "./optimizer/index.ts";
export * from "./plugin/index.ts";
export * from "./checkpoint/index.ts";
export { type FabricPeer, type FabricReading, type FabricReply, fabricSource, measureFabric } from "./parallel/index.ts";
export * from "./pipeline/index.ts";
export * from "./trainer/index.ts";
