/** A worker that knows the timed plugins beside the built-in ones. */
import { rmSync } from "node:fs";
import { becomeChild, dieOf } from "../../../cluster/agent/child.ts";
import { builtins } from "../../../plugins/index.ts";
import { type WorkerSpec, runWorker } from "../../../runtime/index.ts";
import { timedPlugins } from "./plugins.ts";

process.on("uncaughtException", dieOf);
process.on("unhandledRejection", dieOf);
const spec = JSON.parse(process.env.OCTAVO_WORKER!) as WorkerSpec;
const child = becomeChild(() => rmSync(spec.control.socketDir, { recursive: true, force: true }));
runWorker(spec, [...builtins, ...timedPlugins], () => child.settle()).catch(dieOf);
