/** From what a recipe or a command line says to a schedule that keeps the rules. */
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { RuntimeError } from "../../errors.ts";
import { type Layout, oneRank } from "./layout.ts";
import { rankAuthorOf } from "../schedule/authors.ts";
import { authorCopies, takeOwn } from "./copies.ts";
import { ranksFromCsv } from "../schedule/csv.ts";
import { type Placement, type RankSchedule, type ScheduleEdge, type ScheduleStage, placeStages, stagesOfRanks } from "../schedule/schedule.ts";
import { withCredits } from "../schedule/simulate.ts";
import { validateRanks } from "../schedule/validate.ts";

export interface ScheduleChoice {
  /** The name of an author. */
  schedule?: string;
  /** In place of a name: a file of either form (`schedule/csv.ts`). */
  csv?: { text: string; file: string };
  /** Stages with a backward are dealt round to so many ranks; absent: a rank each, or as the CSV says. */
  ranks?: number;
}

/** A name, or the path of a .csv from `folder`, which is read here. Throws ERR_SCHEDULE when it is not there. */
export function scheduleNamed(named: string, folder: string): ScheduleChoice {
  if (!named.endsWith(".csv")) return { schedule: named };
  const path = resolve(folder, named);
  if (!existsSync(path)) throw new RuntimeError("ERR_SCHEDULE", `schedule: expected a readable schedule, found nothing at ${path}. Check the path.`, { file: path });
  return { csv: { text: readFileSync(path, "utf8"), file: named } };
}

type Plan = { stages: readonly ScheduleStage[]; edges: readonly ScheduleEdge[]; microbatches: number };

/** Stages on slots, and the schedule that follows once the layouts of the slots are known. */
export interface PlacedSchedule {
  placement: Placement;
  /** Held to the rules, and with credits that let it finish. `layouts`: of every slot, in the order of the placement; absent: one rank each. Throws ERR_SCHEDULE for what cannot be. */
  schedule(layouts?: readonly Layout[]): RankSchedule;
}

/** Throws ERR_SCHEDULE for a name that is unknown, a file that cannot be read, stages that cannot be placed so. */
export function placeSchedule(plan: Plan, { schedule: named = "1f1b", csv, ranks }: ScheduleChoice): PlacedSchedule {
  if (!csv) {
    const author = rankAuthorOf(named), placement = placeStages(plan, ranks);
    return { placement, schedule: (layouts = alone(placement)) => withCredits(validateRanks(authorCopies(author, placement, plan.microbatches, layouts))) };
  }
  const written = ranksFromCsv(csv.text, plan, csv.file), rows = learningRanks(written);
  if (written.microbatches !== plan.microbatches) {
    throw new RuntimeError("ERR_SCHEDULE", `schedule ${written.name}: expected ${plan.microbatches} microbatches, as train.microbatches says, found ${written.microbatches}. Change one of them.`, { microbatches: plan.microbatches, found: written.microbatches });
  }
  if (ranks !== undefined && ranks !== rows) {
    throw new RuntimeError("ERR_SCHEDULE", `schedule ${written.name}: expected ${ranks} ranks for the stages with a backward, found ${rows} in ${csv.file}. Leave the number of ranks out: a CSV says it.`, { ranks, found: rows });
  }
  return { placement: written, schedule: (layouts = alone(written)) => withCredits(validateRanks(takeOwn(validateRanks(written), layouts))) };
}

const alone = (placement: Placement): Layout[] => placement.ranks.map(() => oneRank);

/** Ranks that hold a stage with a backward. */
const learningRanks = (schedule: RankSchedule): number => stagesOfRanks(schedule).filter((held) => held.some((stage) => schedule.stages[stage].backward)).length;
