/** The sequence's table: what each stage took, learned and scored on pages held out, with the baseline beside it. */
import { join } from "node:path";
import { writeAtomically } from "../claim.ts";
import type { FinishedStage } from "./run-sequence.ts";

export interface SequenceSummary { sequence: string; stages: FinishedStage[] }

/** The table as it stands on the screen, and as Markdown. */
export function formatSummary({ stages }: SequenceSummary): string {
  const rows = stages.map((stage) => [
    stage.stage, String(stage.steps), stage.seconds.toFixed(1), shown(stage.first), shown(stage.last), shown(stage.scores["held-out.loss"]),
    listed(stage.scores, ".accuracy"), listed(stage.scores, ".unigram"), others(stage.scores),
  ]);
  rows.push(["all", String(sum(stages.map(({ steps }) => steps))), sum(stages.map(({ seconds }) => seconds)).toFixed(1), "", "", "", "", "", ""]);
  const head = ["stage", "steps", "seconds", "first loss", "last loss", "held-out loss", "held-out accuracy", "always the most frequent", "besides"];
  const width = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i].length)));
  const line = (cells: readonly string[]): string => `| ${cells.map((cell, i) => cell.padEnd(width[i])).join(" | ")} |`;
  return [line(head), line(width.map((n) => "-".repeat(n))), ...rows.map(line)].join("\n");
}

/** report.md for people, report.json for programs, in the sequence's folder. */
export function writeSummary(summary: SequenceSummary, folder: string): { markdown: string; json: string } {
  const [markdown, json] = [join(folder, "report.md"), join(folder, "report.json")];
  writeAtomically(markdown, [
    `# ${summary.sequence}`, "", formatSummary(summary), "", "Checkpoints:", "", ...summary.stages.map(({ stage, checkpoint }) => `- ${stage}: ${checkpoint}`), "",
  ].join("\n"));
  writeAtomically(json, `${JSON.stringify(summary, null, 2)}\n`);
  return { markdown, json };
}

/** "mlm 0.3120, mim 0.2011" of the scores held-out.mlm.accuracy, ... */
function listed(scores: Readonly<Record<string, number>>, end: string): string {
  return Object.entries(scores).filter(([name]) => name.startsWith(prefix) && name.endsWith(end)).map(([name, value]) => `${name.slice(prefix.length, -end.length)} ${value.toFixed(4)}`).join(", ");
}

/** What objectives judged besides: codes in use, perplexity. */
function others(scores: Readonly<Record<string, number>>): string {
  return Object.entries(scores).filter(([name]) => /\.(codes_used|perplexity)$/.test(name)).map(([name, value]) => `${name.slice(prefix.length)} ${value.toPrecision(4)}`).join(", ");
}

const prefix = "held-out.";
const shown = (value: number | undefined): string => (value === undefined ? "" : value.toFixed(4));
const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
