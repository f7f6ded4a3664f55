/** What one rank does, as its process needs it: its stages, its entries with the messages they take and give, and whom it talks to. */
import { RuntimeError } from "../../errors.ts";
import type { CheckResult } from "../plan/check.ts";
import { type RankPlace, membersAt } from "../plan/layout.ts";
import type { StageEdge, StagePlan } from "../plan/plan.ts";
import { type Way, waysOf } from "../schedule/messages.ts";
import { type ComputeKind, entryOf, rankAt, stagesOfRanks } from "../schedule/schedule.ts";

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
  place: RankPlace;
  /** Speaks for its data copy: sends what the copy gives, reports what it measures (LY-3). */
  leads: boolean;
  /** The microbatches of its data copy: `count` from `first`. */
  share: { first: number; count: number };
  /** All copies of all slots that learn go through the same entries: what one does at an entry, the others do too. */
  inStep: boolean;
  stages: StagePlan[];
  entries: WorkEntry[];
  /** Names of the ranks that it shares an edge with. */
  peers: string[];
  /** Of an edge, per direction and pair of ranks. */
  credits(route: Route): number;
}

export function workOf({ plan, schedule, layout }: Pick<CheckResult, "plan" | "schedule" | "layout">, name: string): Work {
  const place = layout.ranks.find((one) => one.name === name);
  if (!place) throw new RuntimeError("ERR_PLAN", `layout: expected one of the ranks ${layout.ranks.map((one) => one.name).join(", ")}, found "${name}".`, { rank: name });
  // a row of the schedule is a data copy's, and is called like its leader
  const { ranks, stages, microbatches, edges } = schedule, leader = membersAt(layout.ranks, { name: place.slot }, place.data)[0], rank = ranks.indexOf(leader.name);
  const membersOf = (row: number): string[] => { const { slot, data } = layout.ranks.find((one) => one.name === ranks[row])!; return membersAt(layout.ranks, { name: slot }, data).map((one) => one.name); };
  const held = stagesOfRanks(schedule)[rank], ways = new Map(held.map((stage) => [stage, waysOf(schedule, stage)]));
  const found = Array.from(schedule.entries[rank], (entry) => entryOf(entry, schedule)), lasts = new Map(found.map(({ stage, microbatch }, i) => [`${stage}/${microbatch}`, i]));
  const entries = found.map(({ stage, kind, microbatch }, i): WorkEntry => {
    const { takes, gives } = ways.get(stage)![kind];
    const there = (way: Way): number => rankAt(stages[way.stage], microbatch, microbatches);
    const route = (way: Way, peer: string): Route => ({ ...way, peer, local: there(way) === rank, plan: plan.edges[way.edge] });
    const receivers = (way: Way): string[] => (there(way) === rank ? [name] : place === leader ? membersOf(there(way)) : []);
    return { stage: stages[stage].name, kind, microbatch, takes: takes.map((way) => route(way, ranks[there(way)])), gives: gives.flatMap((way) => receivers(way).map((peer) => route(way, peer))), last: lasts.get(`${stage}/${microbatch}`) === i };
  });
  const count = microbatches / place.layout.data;
  return {
    place, leads: place === leader, share: { first: place.data * count, count }, inStep: new Set(layout.slots.filter((slot) => slot.learns).map((slot) => slot.layout.data)).size <= 1,
    stages: held.map((stage) => plan.stages[stage]), entries, credits: ({ edge }) => edges[edge].credits,
    peers: [...new Set(entries.flatMap(({ takes, gives }) => [...takes, ...gives]).filter(({ local }) => !local).map(({ peer }) => peer))],
  };
}
