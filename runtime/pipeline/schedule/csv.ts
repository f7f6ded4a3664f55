/**
 * Schedules as text, in two forms that say the same. In the order of time, an empty cell where a rank stands still:
 * - as pipeline libraries exchange them: one row per rank, cells like `0F0` (stage, kind, microbatch). Stages are counted as in RS-3;
 *   forward-only ones have no row.
 * - by stage, for schedules of one stage per rank: first `schedule,<name>,<microbatches>`, then rows like `image,F0,F1,B0,B1`. A
 *   forward-only stage may have a row; the optimizer steps after the last entry, whether or not a row ends with STEP.
 */
import { RuntimeError } from "../../errors.ts";
import type { Placement, RankSchedule } from "./schedule.ts";
import { computeKinds, fitsEntries, formatEntry, placeAt, stageNumbers } from "./schedule.ts";

/** One cell of a file, with its place. */
interface Cell { row: number; line: number; stage: number; kind: number; microbatch: number }

type Plan = Parameters<typeof placeAt>[0];
type Refuse = (line: number, expected: string, found: string) => never;

/** The schedule a file says for these stages, in either form. Lines that start with # are skipped. Throws ERR_SCHEDULE with line and cell. */
export function ranksFromCsv(text: string, plan: Plan, file = "schedule.csv"): RankSchedule {
  const refuse: Refuse = (line, expected, found) => {
    throw new RuntimeError("ERR_SCHEDULE", `${file}:${line}: expected ${expected}, found ${found}.`, { file, line, expected, found });
  };
  const lines = text.split(/\r?\n/).map((content, i): Line => ({ cells: content.split(",").map((cell) => cell.trim()), line: i + 1 }))
    .filter(({ cells }) => cells.some((cell) => cell !== "") && !cells[0].startsWith("#"));
  return lines[0]?.cells[0] === "schedule" ? byStage(lines, plan, refuse) : byRank(lines, plan, file, refuse);
}

interface Line { cells: string[]; line: number }

function byStage([{ cells: [, name, count], line: first }, ...rows]: Line[], plan: Plan, refuse: Refuse): RankSchedule {
  const microbatches = Number(count), names = plan.stages.map((stage) => stage.name);
  if (!Number.isInteger(microbatches) || microbatches < 1) refuse(first, "a first line like schedule,1f1b,4", `"${["schedule", name, count].join(",")}"`);
  fitsEntries(plan.stages.length, microbatches);
  const placement = placeAt(plan, (index) => index), lists: (number[] | undefined)[] = placement.ranks.map(() => undefined);
  for (const { cells: [owner, ...cells], line } of rows) {
    const stage = names.indexOf(owner);
    if (stage < 0) refuse(line, `a row of one of the stages ${names.join(", ")}`, `"${owner}"`);
    const { rank } = placement.stages[stage], used = cells.filter((cell) => cell !== "");
    if (lists[rank]) refuse(line, `one row for ${owner}`, "a second one");
    lists[rank] = (used.at(-1) === "STEP" ? used.slice(0, -1) : used).map((cell) => {
      const found = /^([FBIW])(\d+)$/.exec(cell), microbatch = Number(found?.[2]);
      if (!found) return refuse(line, "cells like F0, B0, I0, W0; messages follow from them", `"${cell}"`);
      if (microbatch >= microbatches) refuse(line, `a microbatch from 0 to ${microbatches - 1}`, `"${cell}"`);
      return (stage * microbatches + microbatch) * 4 + computeKinds.indexOf(found[1] as "F");
    });
  }
  placement.stages.forEach(({ backward, name: stage, rank }, index) => {
    if (!lists[rank] && backward) refuse(first, `a row for stage ${stage}`, "none");
    lists[rank] ??= forwards(index, microbatches);
  });
  return { ...placement, name, microbatches, entries: lists.map((list) => Int32Array.from(list!)) };
}

const forwards = (stage: number, microbatches: number): number[] => Array.from({ length: microbatches }, (_, m) => (stage * microbatches + m) * 4);

function byRank(lines: Line[], plan: Plan, file: string, refuse: Refuse): RankSchedule {
  const learning = plan.stages.flatMap((stage, i) => (stage.backward ? [i] : []));
  const cells: Cell[] = [];
  lines.forEach(({ cells: row, line }, rank) => {
    for (const cell of row.filter((one) => one !== "")) {
      const found = /^(\d+)([FBIW])(\d+)$/.exec(cell);
      if (!found) return refuse(line, "cells like 0F0, 0B0, 0I0, 0W0 (stage, kind, microbatch) or nothing", `"${cell}"`);
      if (Number(found[1]) >= learning.length) refuse(line, `a stage from 0 to ${learning.length - 1} (${learning.map((s) => plan.stages[s].name).join(", ")})`, `"${cell}"`);
      cells.push({ row: rank, line, stage: Number(found[1]), kind: computeKinds.indexOf(found[2] as "F"), microbatch: Number(found[3]) });
    }
  });
  const rows: number[] = [];
  for (const { stage, row: here, line } of cells) if ((rows[stage] ??= here) !== here) refuse(line, `stage ${stage} on one rank`, `it in row ${rows[stage] + 1} and row ${here + 1}`);
  learning.forEach((stage, number) => { if (rows[number] === undefined) refuse(1, `a row with stage ${number} (${plan.stages[stage].name})`, "none"); });
  const microbatches = cells.reduce((most, { microbatch }) => Math.max(most, microbatch + 1), 1);
  fitsEntries(plan.stages.length, microbatches);
  return fill(file, placeAt(plan, (number) => rows[number]), microbatches, cells, learning);
}

function fill(file: string, placement: Placement, microbatches: number, cells: readonly Cell[], learning: readonly number[]): RankSchedule {
  const lists: number[][] = placement.ranks.map(() => []);
  placement.stages.forEach(({ backward, rank }, stage) => {
    if (!backward) lists[rank] = forwards(stage, microbatches);
  });
  for (const { stage, kind, microbatch } of cells) {
    const index = learning[stage];
    lists[placement.stages[index].rank].push((index * microbatches + microbatch) * 4 + kind);
  }
  return { ...placement, name: file.replace(/^.*\//, "").replace(/\.csv$/, ""), microbatches, entries: lists.map((list) => Int32Array.from(list)) };
}

/** As rows of ranks, without idle cells. */
export function ranksToCsv(schedule: RankSchedule): string {
  const numbers = stageNumbers(schedule.stages), forwardOnly = new Set(schedule.stages.filter((stage) => !stage.backward).map((stage) => stage.rank));
  return schedule.entries.flatMap((list, rank) => (forwardOnly.has(rank) ? [] : [`${Array.from(list, (entry) => formatEntry(schedule, entry, numbers)).join(",")}\n`])).join("");
}
