import { defineConfig } from "tsup";

/** The three doors of the package, the command, and the worker's entry; code they share is split into common chunks. */
export default defineConfig({
  entry: {
    "runtime/index": "runtime/index.ts",
    "plugins/index": "plugins/index.ts",
    "cluster/index": "cluster/index.ts",
    "cluster/cli/main": "cluster/cli/main.ts",
    "cluster/agent/worker": "cluster/agent/worker.ts",
  },
  format: ["esm"],
  platform: "node",
  target: "node20",
  splitting: true,
  sourcemap: true,
  clean: true,
  external: ["octavo", "octavo/plugins", "octavo/cluster"],
});
