/**
 * The rules of a schedule of ranks. The first one broken is thrown as ERR_SCHEDULE and names rank, entry and what is missing.
 *
 * RV-1: on the rank of a stage, F of every microbatch once; with a backward also B once, or I and W once each; without one only F.
 * RV-2: F before B or I, and I before W, of the same stage and microbatch.
 * RV-3: a rank computes only stages that are placed on it, of copies only the own microbatches.
 * Whether all of it can finish is for the simulation to say (`simulateRanks`): it needs to know who waits for whom.
 */
import { RuntimeError } from "../../errors.ts";
import type { RankSchedule } from "./schedule.ts";
import { computeKinds, formatEntry, formatRows, kindB, kindF, kindW, rankAt } from "./schedule.ts";

/** Returns the schedule, or throws ERR_SCHEDULE with { rule, rank, entry, action } as details. */
export function validateRanks(schedule: RankSchedule): RankSchedule {
  const { stages, microbatches, entries } = schedule;
  const done = new Uint8Array(stages.length * microbatches); // a bit per kind
  for (let rank = 0; rank < entries.length; rank++) order(schedule, rank, done);
  for (let stage = 0; stage < stages.length; stage++) {
    const { backward } = stages[stage];
    for (let m = 0; m < microbatches; m++) {
      const bits = done[stage * microbatches + m];
      if (backward ? bits !== 0b0011 && bits !== 0b1101 : bits !== 0b0001) missing(schedule, rankAt(stages[stage], m, microbatches), stage, m, bits);
    }
  }
  return schedule;
}

/** One rank's entries, in order, against what it has done before. */
function order(schedule: RankSchedule, rank: number, done: Uint8Array): void {
  const { stages, microbatches, entries, ranks } = schedule;
  const list = entries[rank];
  for (let i = 0; i < list.length; i++) {
    const cell = list[i] >>> 2, kind = list[i] & 3;
    const stage = stages[Math.floor(cell / microbatches)];
    const place = stage && rankAt(stage, cell % microbatches, microbatches);
    if (place !== rank) broken(schedule, "RV-3", rank, i, stage ? `stages of ${ranks[rank]}; ${stage.name} is on ${ranks[place]}` : "one of the stages");
    const bits = done[cell];
    if ((bits >> kind) & 1) broken(schedule, "RV-1", rank, i, `${formatEntry(schedule, list[i])} once; this is the second`);
    if (kind !== kindF && !stage.backward) broken(schedule, "RV-1", rank, i, `only F in ${stage.name}: no gradient comes to it`);
    if (kind === kindB ? bits & 0b1100 : kind !== kindF && bits & 0b0010) broken(schedule, "RV-1", rank, i, "B, or I and W, but not both");
    const before = kind === kindW ? 0b0100 : kind === kindF ? 0 : 0b0001;
    if ((bits & before) !== before) broken(schedule, "RV-2", rank, i, `${formatEntry(schedule, cell * 4 + (kind === kindW ? 2 : 0))} before it`);
    done[cell] = bits | (1 << kind);
  }
}

function missing(schedule: RankSchedule, rank: number, stage: number, microbatch: number, bits: number): never {
  const kind = !(bits & 1) ? "F" : bits & 0b0100 ? "W" : "B"; // I is there before W (RV-2)
  const entry = (stage * schedule.microbatches + microbatch) * 4 + computeKinds.indexOf(kind);
  return broken(schedule, "RV-1", rank, schedule.entries[rank].length, `${formatEntry(schedule, entry)}, found none`);
}

function broken(schedule: RankSchedule, rule: string, rank: number, entry: number, expected: string): never {
  const list = schedule.entries[rank], action = entry < list.length ? formatEntry(schedule, list[entry]) : "the end";
  throw new RuntimeError("ERR_SCHEDULE", `schedule ${schedule.name}, ${schedule.ranks[rank]}, entry ${entry + 1} (${action}): expected ${expected} (${rule}).\n${formatRows(schedule, { rank, entry })}`,
    { rule, rank: schedule.ranks[rank], entry, action });
}
