/** What one rank does, as its process needs it: its stages, its entries with the messages they take and give, and whom it talks to. */
import { RuntimeError } from "../errors.ts";
import type { CheckResult } from "./check.ts";
import type { StageEdge, StagePlan } from "./plan.ts";
import { type Way, waysOf } from "./rank-messages.ts";
import { type ComputeKind, entryOf, rankAt, stagesOfRanks } from "./rank-schedule.ts";

/** The way of a message of one entry: to or from the rank `peer`, or within the rank (`local`, RL-3). */
export interface Route extends Way { peer: string; local: boolean; plan: StageEdge }

export interface WorkEntry {
  stage: string;
  kind: ComputeKind;
  microbatch: number;
  takes: readonly Route[];
  gives: readonly Route[];
  /** The stage needs nothing of this microbatch after it. */
  last: boolean;
}

export interface Work {
  stages: StagePlan[];
  entries: WorkEntry[];
  /** Names of the ranks that it shares an edge with. */
  peers: string[];
  /** Of an edge, per direction and pair of ranks. */
  credits(route: Route): number;
}

export function workOf({ plan, schedule }: Pick<CheckResult, "plan" | "schedule">, name: string): Work {
  const { ranks, stages, microbatches, edges } = schedule, rank = ranks.indexOf(name);
  if (rank < 0) throw new RuntimeError("ERR_SCHEDULE", `schedule ${schedule.name}: expected one of the ranks ${ranks.join(", ")}, found "${name}".`, { rank: name });
  const held = stagesOfRanks(schedule)[rank], ways = new Map(held.map((stage) => [stage, waysOf(schedule, stage)]));
  const found = Array.from(schedule.entries[rank], (entry) => entryOf(entry, schedule)), lasts = new Map(found.map(({ stage, microbatch }, i) => [`${stage}/${microbatch}`, i]));
  const entries = found.map(({ stage, kind, microbatch }, i): WorkEntry => {
    const { takes, gives } = ways.get(stage)![kind];
    const route = (way: Way): Route => {
      const other = rankAt(stages[way.stage], microbatch, microbatches);
      return { ...way, peer: ranks[other], local: other === rank, plan: plan.edges[way.edge] };
    };
    return { stage: stages[stage].name, kind, microbatch, takes: takes.map(route), gives: gives.map(route), last: lasts.get(`${stage}/${microbatch}`) === i };
  });
  return {
    stages: held.map((stage) => plan.stages[stage]), entries, credits: ({ edge }) => edges[edge].credits,
    peers: [...new Set(entries.flatMap(({ takes, gives }) => [...takes, ...gives]).filter(({ local }) => !local).map(({ peer }) => peer))],
  };
}
