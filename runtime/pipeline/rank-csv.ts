/**
 * Schedules of ranks as text, in the form pipeline libraries exchange: one row per rank, cells like `0F0` (stage, kind, microbatch) in the
 * order of time, an empty cell where the rank stands still. Stages are counted as in RS-3; forward-only ones have no row.
 */
import { RuntimeError } from "../errors.ts";
import type { Placement, RankSchedule } from "./rank-schedule.ts";
import { computeKinds, fitsEntries, formatEntry, placeAt, stageNumbers } from "./rank-schedule.ts";

/** One cell of a file, with its place. */
interface Cell { row: number; line: number; stage: number; kind: number; microbatch: number }

/** The schedule a file says for these stages. Lines that start with # are skipped. Throws ERR_SCHEDULE with line and cell. */
export function ranksFromCsv(text: string, plan: Parameters<typeof placeAt>[0], file = "schedule.csv"): RankSchedule {
  const refuse = (line: number, expected: string, found: string): never => {
    throw new RuntimeError("ERR_SCHEDULE", `${file}:${line}: expected ${expected}, found ${found}.`, { file, line, expected, found });
  };
  const learning = plan.stages.flatMap((stage, i) => (stage.backward ? [i] : []));
  const cells: Cell[] = [];
  let row = 0;
  text.split(/\r?\n/).forEach((content, i) => {
    if (content.replaceAll(",", "").trim() === "" || content.startsWith("#")) return;
    for (const cell of content.split(",").map((one) => one.trim()).filter((one) => one !== "")) {
      const found = /^(\d+)([FBIW])(\d+)$/.exec(cell);
      if (!found) return refuse(i + 1, "cells like 0F0, 0B0, 0I0, 0W0 (stage, kind, microbatch) or nothing", `"${cell}"`);
      if (Number(found[1]) >= learning.length) refuse(i + 1, `a stage from 0 to ${learning.length - 1} (${learning.map((s) => plan.stages[s].name).join(", ")})`, `"${cell}"`);
      cells.push({ row, line: i + 1, stage: Number(found[1]), kind: computeKinds.indexOf(found[2] as "F"), microbatch: Number(found[3]) });
    }
    row++;
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
    if (!backward) for (let m = 0; m < microbatches; m++) lists[rank].push((stage * microbatches + m) * 4);
  });
  for (const { stage, kind, microbatch } of cells) {
    const index = learning[stage];
    lists[placement.stages[index].rank].push((index * microbatches + microbatch) * 4 + kind);
  }
  return { ...placement, name: file.replace(/^.*\//, "").replace(/\.csv$/, ""), microbatches, entries: lists.map((list) => Int32Array.from(list)) };
}

/** The inverse of `ranksFromCsv`, without idle cells. */
export function ranksToCsv(schedule: RankSchedule): string {
  const numbers = stageNumbers(schedule.stages), forwardOnly = new Set(schedule.stages.filter((stage) => !stage.backward).map((stage) => stage.rank));
  return schedule.entries.flatMap((list, rank) => (forwardOnly.has(rank) ? [] : [`${Array.from(list, (entry) => formatEntry(schedule, entry, numbers)).join(",")}\n`])).join("");
}
