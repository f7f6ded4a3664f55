/** Runs a recipe as processes and says when its ranks computed what. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { program } from "../../../cluster/launcher/entries.ts";
import { localLauncher } from "../../../cluster/launcher/local.ts";
import { builtins } from "../../../plugins/index.ts";
import { type CheckResult, checkRecipe, createRegistry, parseRecipe } from "../../../runtime/index.ts";
import type { Span } from "../../../runtime/metrics/index.ts";
import { startPipeline } from "../../../runtime/pipeline/run/run.ts";
import type { StepRunner } from "../../../runtime/pipeline/run/step-runner.ts";
import type { RankSchedule } from "../../../runtime/pipeline/schedule/schedule.ts";
import { timedPlugins } from "./plugins.ts";

/** What the ranks with a backward computed in one step, by their names; microseconds. */
export interface StepSpans { step: number; ranks: { rank: string; spans: Span[] }[]; begin: number; end: number; busy: number; bubble: number }
/** `cpu`: per rank, the CPU time of its process in a step; microseconds. */
export interface Measured { schedule: RankSchedule; steps: StepSpans[]; cpu: ReadonlyMap<string, number> }

export const checkTimed = (text: string, file: string, overrides: readonly string[] = []): Promise<CheckResult> =>
  checkRecipe(parseRecipe(text, file, overrides), createRegistry([...builtins, ...timedPlugins]));

/** Starts the processes of a checked recipe, lets `work` drive them, and ends them. */
export async function withPipeline<T>(checked: CheckResult, work: (runner: StepRunner) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "octavo-bench-"));
  mkdirSync(join(folder, "logs"));
  const { command, args } = program("cluster/agent/worker"), worker = fileURLToPath(new URL("worker.ts", import.meta.url));
  const runner = await startPipeline(checked, { launcher: localLauncher({ worker: { command, args: [...args.slice(0, -1), worker] } }), runFolder: folder, seed: 1 });
  try {
    return await work(runner);
  } finally {
    await runner.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** `warmUp` steps unrecorded, then `steps` traced ones. */
export function measureSteps(checked: CheckResult, { warmUp, steps }: { warmUp: number; steps: number }): Promise<Measured> {
  return withPipeline(checked, async (runner) => {
    for (let step = 0; step < warmUp; step++) await runner.step(step);
    const before = cpuTimes(runner);
    for (let step = warmUp; step < warmUp + steps; step++) await runner.step(step, { trace: true });
    const after = cpuTimes(runner);
    const found = await runner.spans!(), learning = new Set(checked.schedule.stages.filter((stage) => stage.backward).map((stage) => checked.schedule.ranks[stage.rank]));
    const ranks = found.filter(({ rank }) => learning.has(rank)).map(({ rank, spans }) => ({ rank, spans: spans.filter((span) => span.kind === "compute" && span.on === "device") }));
    return { schedule: checked.schedule, cpu: new Map([...after].map(([rank, us]) => [rank, (us - before.get(rank)!) / steps])), steps: Array.from({ length: steps }, (_, i) => stepOf(ranks, warmUp + i)) };
  });
}

/** Of every rank's process so far: the stream, the threads of kernels, and JavaScript. */
function cpuTimes({ processes }: StepRunner): Map<string, number> {
  return new Map(processes.map(({ stage, pid }) => {
    const [user, system] = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /, "").split(" ").slice(11, 13).map(Number);
    return [stage, (user + system) * 1e4]; // ticks of this interface are always hundredths of a second
  }));
}

function stepOf(all: { rank: string; spans: Span[] }[], step: number): StepSpans {
  const ranks = all.map(({ rank, spans }) => ({ rank, spans: spans.filter((span) => span.step === step) })), every = ranks.flatMap(({ spans }) => spans);
  const begin = Math.min(...every.map((span) => span.begin)), end = Math.max(...every.map((span) => span.end)), busy = every.reduce((sum, span) => sum + span.end - span.begin, 0);
  return { step, ranks, begin, end, busy, bubble: 1 - busy / (ranks.length * (end - begin)) };
}
