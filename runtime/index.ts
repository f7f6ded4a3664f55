/** The one door of the runtime: plugins, the cluster and users of the package import from here and nowhere deeper. */
export * from "./errors.ts";
export * from "./clock.ts";
export * from "./plugin/index.ts";
