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
import { equalCosts, simulateRanks } from "../../../runtime/pipeline/rank-simulate.ts";
import type { RankCosts } from "../../../runtime/pipeline/rank-progress.ts";
import { type ComputeKind, type RankSchedule, computeKinds } from "../../../runtime/pipeline/rank-schedule.ts";
import { median, report, rounded } from "../report.ts";
import { type Measured, checkTimed, measureSteps } from "../timed/measure.ts";

const microbatches = 8, steps = 5;
const recipe = fileURLToPath(new URL("../../../examples/tiny.yaml", import.meta.url));
const stages = { pages: "[pages]", image: "[image, teacher]", text: "[text, position]", fusion: "[fusion]", heads: "[mlm, mim, wpa]" };
const settings = [
  `stages={${Object.entries(stages).map(([name, members]) => `${name}: ${members}`).join(", ")}}`,
  `train.microbatches=${microbatches}`, "train.batch=32", `train.steps=${steps + 2}`, "train.threads=1",
];

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
 * Microseconds per stage and kind: the mean over microbatches and steps. A microbatch goes through all stages before the next; in each of
 * them one stage goes back in halves, so that its W meets no more than one other entry: a core for each.
 */
async function measuredCosts(file: string): Promise<Map<string, Record<ComputeKind, number>>> {
  const learning = Object.keys(stages).slice(1);
  const row = (stage: string, i: number): string => [stage, ...Array.from({ length: microbatches }, (_, m) => (m % learning.length === i ? [`F${m}`, `I${m}`, `W${m}`] : [`F${m}`, `B${m}`])).flat()].join(",");
  writeFileSync(file, [`schedule,one-by-one,${microbatches}`, ...learning.map(row)].join("\n"));
  const { steps: found } = await measureSteps(await checkTimed(readFileSync(recipe, "utf8"), recipe, [...settings, `train.schedule=${file}`]), { warmUp: 2, steps });
  const spans = found.flatMap(({ ranks }) => ranks.flatMap((rank) => rank.spans));
  const mean = (stage: string, kind: ComputeKind): number => {
    const times = spans.filter((span) => span.stage === stage && span.name === `${kind}${span.microbatch}`).map(({ begin, end }) => end - begin);
    return times.reduce((sum, time) => sum + time, 0) / times.length;
  };
  return new Map(learning.map((stage) => [stage, { F: mean(stage, "F"), B: mean(stage, "B"), I: mean(stage, "I"), W: mean(stage, "W") }]));
}

function compare(name: string, { schedule, steps: found }: Measured, measured: ReadonlyMap<string, Record<ComputeKind, number>>): void {
  const costs: RankCosts = equalCosts(schedule);
  schedule.stages.forEach((stage, i) => { for (const [k, kind] of computeKinds.entries()) costs.compute[i * 4 + k] = measured.get(stage.name)?.[kind] ?? 0; });
  const expected = onSharedCores(schedule, costs), value = median(found.map(({ begin, end }) => end - begin)), ratio = value / expected;
  report({
    case: `runtime/simulator/${name}, 4 stages, ${microbatches} microbatches`, value: value / 1000, unit: "ms", ratio, bar: 1.1, ok: Math.abs(ratio - 1) <= 0.1,
    simulatedMs: rounded(expected / 1000), cores: cpus().length, withACoreEachMs: rounded(simulateRanks(schedule, costs, { credits: true }).makespan / 1000),
    stagesMs: Object.fromEntries([...measured].map(([stage, kinds]) => [stage, Object.values(kinds).map((us) => rounded(us / 1000)).join(" ")])),
  });
}

const onSharedCores = (schedule: RankSchedule, costs: RankCosts): number =>
  simulateRanks(schedule, costs, { credits: true, hosts: [{ ranks: schedule.ranks.map((_, rank) => rank), cores: cpus().length }] }).makespan;
