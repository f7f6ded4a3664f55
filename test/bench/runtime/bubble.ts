/**
 * The share of a step in which ranks stand still, measured against the formula: stages occupy their stream by a timed wait and no core, so
 * that a schedule shows on any machine. Four ranks, eight microbatches; backward to the input and to the weight take what forward takes.
 *
 * Bars: within 3 points of the formula; ZB-H1 and interleaved below 1F1B.
 */
import { median, report, rounded } from "../report.ts";
import { timedRecipe } from "../timed/plugins.ts";
import { checkTimed, measureSteps } from "../timed/measure.ts";

const [p, m, v] = [4, 8, 2];
const times = { forward: 20, input: 20, weight: 20 }; // milliseconds of half a stage

const schedules: { name: string; perStage: number; ranks?: number; formula: number; source: string }[] = [
  { name: "fill-drain", perStage: 2, formula: (p - 1) / (m + p - 1), source: "Huang et al. 2019" },
  { name: "1f1b", perStage: 2, formula: (p - 1) / (m + p - 1), source: "Narayanan et al. 2021" },
  { name: "interleaved", perStage: 1, ranks: p, formula: (p - 1) / v / (m + (p - 1) / v), source: "Narayanan et al. 2021" },
  { name: "zb-h1", perStage: 2, formula: (p - 1) / (3 * m + p - 1), source: "Qi et al. 2023" },
];

export async function measure(): Promise<void> {
  const found = new Map<string, number>();
  for (const { name, perStage, ranks, formula, source } of schedules) {
    const text = timedRecipe({ blocks: p * v, perStage, microbatches: m, times, steps: 6 });
    const checked = await checkTimed(text, "timed.yaml", [`train.schedule=${name}`, ...(ranks === undefined ? [] : [`train.ranks=${ranks}`])]);
    const { steps } = await measureSteps(checked, { warmUp: 1, steps: 5 });
    const bubble = median(steps.map((step) => step.bubble));
    found.set(name, bubble);
    const off = 100 * (bubble - formula);
    report({
      case: `runtime/bubble/${name}`, value: 100 * bubble, unit: "%", bar: 3, ok: Math.abs(off) <= 3,
      note: `formula ${rounded(100 * formula)} % (${source}), ${off >= 0 ? "+" : ""}${off.toFixed(1)} points, bar 3; ${p} ranks, ${m} microbatches, step ${Math.round(median(steps.map(({ begin, end }) => end - begin)) / 1000)} ms`,
    });
  }
  for (const name of ["zb-h1", "interleaved"]) {
    const ratio = found.get("1f1b")! / found.get(name)!;
    report({ case: `runtime/bubble/${name} against 1f1b`, value: 100 * found.get(name)!, unit: "%", ratio, bar: 1, ok: ratio > 1 });
  }
}
