/** The program that becomes one stage of a run. It is told what to be by OCTAVO_WORKER (a WorkerSpec as JSON). */
import { rmSync } from "node:fs";
import { RuntimeError, runWorker, type WorkerSpec } from "../../runtime/index.ts";
import { becomeChild, dieOf } from "./child.ts";

process.on("uncaughtException", dieOf);
process.on("unhandledRejection", dieOf);
try {
  const spec = readSpec();
  const child = becomeChild(() => rmSync(spec.control.socketDir, { recursive: true, force: true }));
  const { builtins } = await import("octavo/plugins");
  await runWorker(spec, builtins, () => child.settle());
} catch (error) {
  dieOf(error);
}

function readSpec(): WorkerSpec {
  const text = process.env.OCTAVO_WORKER;
  delete process.env.OCTAVO_WORKER;
  if (!text) throw new RuntimeError("ERR_INPUT", "A worker is started by `octavo train`, not by hand: OCTAVO_WORKER holds no specification.");
  return JSON.parse(text) as WorkerSpec;
}
