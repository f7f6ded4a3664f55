/**
 * A step as it is measured against a step on paper: the tiny model in four stages, eight microbatches, a thread per process. What F, B, I
 * and W of each stage cost is measured in the same run, under a schedule in which nearly nothing runs at the same time; then the schedules
 * are simulated with these costs, the credits of their edges and the cores of this host, which more ranks share than there are.
 *
 * Bar: within 10 %.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Span } from "../../../runtime/metrics/index.ts";
import { simulateRanks } from "../../../runtime/pipeline/schedule/simulate.ts";
import type { RankCosts } from "../../../runtime/pipeline/schedule/progress.ts";
import { type ComputeKind, type RankSchedule, computeKinds } from "../../../runtime/pipeline/schedule/schedule.ts";
import { median, report, rounded } from "../report.ts";
import { type Measured, checkTimed, measureSteps } from "../timed/measure.ts";

const microbatches = 8, steps = 5;
const recipe = fileURLToPath(new URL("../../../examples/tiny.yaml", import.meta.url));
const stages = { pages: "[pages]", image: "[image, teacher]", text: "[text, position]", fusion: "[fusion]", heads: "[mlm, mim, wpa]" };
const settings = [
  `stages={${Object.entries(stages).map(([name, members]) => `${name}: ${members}`).join(", ")}}`,
  `train.microbatches=${microbatches}`, "train.batch=32", `train.steps=${steps + 2}`, "train.threads=1",
];

/** Microseconds of a core: of the entries of each stage, and of the loader in a step. */
interface Costs { stages: Map<string, Record<ComputeKind, number>>; loading: number }

export async function measure(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "octavo-bench-"));
  try {
    const costs = await measuredCosts(join(folder, "one-by-one.csv"));
    for (const name of ["1f1b", "zb-h1"]) {
      const found = await measureSteps(await checkTimed(readFileSync(recipe, "utf8"), recipe, [...settings, `train.schedule=${name}`]), { warmUp: 2, steps });
      compare(name, found, costs);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * Microseconds of a whole core (SH-1) per stage and kind: the mean over microbatches and steps, times what the process used of cores beside
 * its stream (JavaScript prepares what the stream computes). A microbatch goes through all stages before the next; in each of them one stage
 * goes back in halves, its W after its next F, when at most one other stage computes: a core for each.
 */
async function measuredCosts(file: string): Promise<Costs> {
  const learning = Object.keys(stages).slice(1);
  const inHalves = (m: number, i: number): boolean => m >= 0 && m % learning.length === i;
  const row = (stage: string, i: number): string => [
    stage, ...Array.from({ length: microbatches }, (_, m) => [`F${m}`, ...(inHalves(m - 1, i) ? [`W${m - 1}`] : []), `${inHalves(m, i) ? "I" : "B"}${m}`]).flat(), ...(inHalves(microbatches - 1, i) ? [`W${microbatches - 1}`] : []),
  ].join(",");
  writeFileSync(file, [`schedule,one-by-one,${microbatches}`, ...learning.map(row)].join("\n"));
  const { steps: found, cpu } = await measureSteps(await checkTimed(readFileSync(recipe, "utf8"), recipe, [...settings, `train.schedule=${file}`]), { warmUp: 2, steps });
  const spans = found.flatMap(({ ranks }) => ranks.flatMap((rank) => rank.spans)), total = (of: readonly Span[]): number => of.reduce((sum, { begin, end }) => sum + end - begin, 0);
  const cost = (stage: string, kind: ComputeKind): number => {
    const own = spans.filter((span) => span.stage === stage), those = own.filter((span) => span.name === `${kind}${span.microbatch}`);
    return (Math.max(1, (cpu.get(stage)! * steps) / total(own)) * total(those)) / those.length;
  };
  return {
    stages: new Map(learning.map((stage) => [stage, { F: cost(stage, "F"), B: cost(stage, "B"), I: cost(stage, "I"), W: cost(stage, "W") }])),
    loading: cpu.get("pages")!,
  };
}

function compare(name: string, { schedule, steps: found }: Measured, { stages: measured, loading }: Costs): void {
  const costs: RankCosts = { compute: new Float64Array((schedule.stages.length + 1) * 4) };
  schedule.stages.forEach((stage, i) => { for (const [k, kind] of computeKinds.entries()) costs.compute[i * 4 + k] = measured.get(stage.name)?.[kind] ?? 0; });
  costs.compute[schedule.stages.length * 4] = loading / microbatches;
  const expected = onSharedCores(schedule, costs), value = median(found.map(({ begin, end }) => end - begin)), ratio = value / expected;
  report({
    case: `runtime/simulator/${name}, 4 stages, ${microbatches} microbatches`, value: value / 1000, unit: "ms", ratio, bar: 1.1, ok: Math.abs(ratio - 1) <= 0.1,
    simulatedMs: rounded(expected / 1000), cores: cpus().length, withACoreEachMs: rounded(simulateRanks(schedule, costs, { credits: true }).makespan / 1000), loadingMs: rounded(loading / 1000),
    stagesMs: Object.fromEntries([...measured].map(([stage, kinds]) => [stage, Object.values(kinds).map((us) => rounded(us / 1000)).join(" ")])),
  });
}

/** While a step runs, its loader makes the next batch: a rank that nobody waits for, on the same cores. */
function onSharedCores(schedule: RankSchedule, costs: RankCosts): number {
  const loading = { name: "loading", rank: schedule.ranks.length, depth: 0, backward: false, steps: false };
  const whole: RankSchedule = {
    ...schedule, ranks: [...schedule.ranks, loading.name], stages: [...schedule.stages, loading],
    entries: [...schedule.entries, Int32Array.from({ length: microbatches }, (_, m) => (schedule.stages.length * microbatches + m) * 4)],
  };
  const { ends } = simulateRanks(whole, costs, { credits: true, record: true, hosts: [{ ranks: whole.ranks.map((_, rank) => rank), cores: cpus().length }] });
  return Math.max(...ends!.slice(0, -1).map((times) => times.at(-1)!));
}
