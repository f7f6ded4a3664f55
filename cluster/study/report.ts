/** The study's table: mean and spread per arm, paired difference to the parent, and the changes that caused it. */
import { join } from "node:path";
import { writeAtomically } from "../claim.ts";
import { show, type Change, type StudyArm } from "./arms.ts";
import { metricOf, type FinishedRun } from "./run-study.ts";
import { parentName, type Study } from "./study-file.ts";

export interface ArmSummary {
  name: string;
  values: { seed: number; value: number; loss?: number; scores: Record<string, number>; runFolder: string }[];
  mean: number;
  /** Sample standard deviation over seeds; undefined for one seed. */
  spread?: number;
  /** Mean and spread of (arm - parent) with the same seed, that is the same data order and random numbers. */
  difference?: { mean: number; spread?: number };
  changes: Change[];
  unequal: string[];
}
export interface StudyReport { study: string; metric: string; better: "lower" | "higher"; seeds: number[]; arms: ArmSummary[] }

export function summarise(study: Study, arms: readonly StudyArm[], runs: readonly FinishedRun[]): StudyReport {
  const valuesOf = (arm: string): ArmSummary["values"] => study.seeds.map((seed) => {
    const run = runs.find((one) => one.arm === arm && one.seed === seed)!;
    return { seed, value: metricOf(run, study.metric)!, loss: run.loss, scores: run.scores, runFolder: run.runFolder };
  });
  const parent = valuesOf(parentName);
  return {
    study: study.name, metric: study.metric, better: study.better, seeds: study.seeds,
    arms: arms.map((arm) => {
      const values = valuesOf(arm.name);
      const { mean, spread } = meanAndSpread(values.map((one) => one.value));
      const difference = arm.name === parentName ? undefined : meanAndSpread(values.map((one, i) => one.value - parent[i].value));
      return { name: arm.name, values, mean, spread, difference, changes: arm.changes, unequal: study.arms[arm.name]?.unequal ?? [] };
    }),
  };
}

export function meanAndSpread(values: readonly number[]): { mean: number; spread?: number } {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  if (values.length < 2) return { mean };
  return { mean, spread: Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1)) };
}

/** The table as it stands on the screen, and as Markdown. */
export function formatReport(report: StudyReport): string {
  const rows = report.arms.map((arm) => [
    arm.name, withSpread(arm), arm.difference ? withSpread(arm.difference, true) : "", arm.difference ? verdict(report, arm) : "",
    arm.changes.map((change) => `${change.path}: ${show(change.from)} -> ${show(change.to)}`).join("; ") + (arm.unequal.length ? ` (declared unequal: ${arm.unequal.join(", ")})` : ""),
  ]);
  const head = ["arm", `${report.metric} (${report.better} is better)`, "difference to parent", "", "changes"];
  const width = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i].length)));
  const line = (cells: readonly string[]): string => `| ${cells.map((cell, i) => cell.replaceAll("|", "\\|").padEnd(i === cells.length - 1 ? 0 : width[i])).join(" | ")} |`;
  return [line(head), line(width.map((n, i) => "-".repeat(i === width.length - 1 ? 7 : n))), ...rows.map(line)].join("\n");
}

/** A difference is called one only when it is larger than twice its own standard error. */
function verdict(report: StudyReport, arm: ArmSummary): string {
  const { mean, spread } = arm.difference!;
  if (spread === undefined) return "one seed";
  if (Math.abs(mean) <= (2 * spread) / Math.sqrt(report.seeds.length)) return "within noise";
  return mean < 0 === (report.better === "lower") ? "better" : "worse";
}

function withSpread({ mean, spread }: { mean: number; spread?: number }, sign = false): string {
  return `${sign && mean >= 0 ? "+" : ""}${mean.toPrecision(5)}${spread === undefined ? "" : ` ± ${spread.toPrecision(2)}`}`;
}

/** report.md for people, report.json for programs, in the study's folder. */
export function writeReport(report: StudyReport, folder: string): { markdown: string; json: string } {
  const [markdown, json] = [join(folder, "report.md"), join(folder, "report.json")];
  const runs = report.arms.flatMap((arm) => arm.values.map((one) => `| ${arm.name} | ${one.seed} | ${one.value} | ${one.runFolder} |`));
  writeAtomically(markdown, [
    `# Study ${report.study}`, "",
    `Mean ± sample standard deviation over seeds ${report.seeds.join(", ")}. The difference is paired: arm minus parent at the same seed, that is the same data order.`, "",
    formatReport(report), "", "## Runs", "", `| arm | seed | ${report.metric} | run folder |`, "| --- | --- | --- | --- |", ...runs, "",
  ].join("\n"));
  writeAtomically(json, `${JSON.stringify(report, null, 2)}\n`);
  return { markdown, json };
}
