/**
 * Runs a schedule on paper: no tensors, only who waits for whom, and how long.
 *
 * SI-1: a stage does its actions in order; RECV waits for the matching SEND, SEND waits while all credits of its edge are taken.
 * SI-2: a schedule that cannot finish is refused, and everybody who waits is named with what they wait for (ERR_SCHEDULE).
 * SI-3: times are sums of the given costs, the same on every machine.
 */
import { RuntimeError } from "../errors.ts";
import type { Action, ActionKind, Schedule, ScheduleEdge, ScheduleStage } from "./schedule.ts";
import { formatAction, formatGrid, lower } from "./schedule.ts";

/** In any unit. Default: F 1, B 2, I 1, W 1; forward-only stages and messages cost nothing. */
export type Costs = (stage: ScheduleStage, kind: ActionKind) => number;

export interface Interval { stage: string; action: Action; start: number; end: number }

export interface Simulation {
  /** When the last stage is done. */
  makespan: number;
  /** Share of the time in which stages with a backward stand still, over all of them. */
  bubble: number;
  /** Stage -> most microbatches whose forward it must remember at once. */
  peakActivations: Record<string, number>;
  /** Stage -> time it computes. */
  busy: Record<string, number>;
  timeline: Interval[];
}

const unitCosts: Record<ActionKind, number> = { F: 1, B: 2, I: 1, W: 1, SEND: 0, RECV: 0, REDUCE: 0, STEP: 0 };
export const equalStages: Costs = (stage, kind) => (stage.backward ? unitCosts[kind] : 0);

export function simulate(schedule: Schedule, plan: { stages: readonly ScheduleStage[]; edges: readonly ScheduleEdge[] }, costs: Costs = equalStages): Simulation {
  const lowered = lower(schedule, plan.edges);
  const timeline = play(lowered, plan, costs);
  const sum = (stage: string): number => timeline.filter((t) => t.stage === stage).reduce((total, t) => total + t.end - t.start, 0);
  const busy = Object.fromEntries(plan.stages.map(({ name }) => [name, sum(name)]));
  const makespan = Math.max(0, ...timeline.map((t) => t.end));
  const computing = plan.stages.filter((stage) => stage.backward);
  const worked = computing.reduce((total, { name }) => total + busy[name], 0);
  return {
    makespan, busy, timeline,
    bubble: computing.length === 0 || makespan === 0 ? 0 : 1 - worked / (computing.length * makespan),
    peakActivations: Object.fromEntries(lowered.stages.map(({ stage, actions }) => [stage, plan.stages.find((s) => s.name === stage)?.backward ? peak(actions) : 0])),
  };
}

/** One direction of one edge: when each message was sent and taken. */
interface Channel { credits: number; sent: number[]; taken: number[] }

function play(schedule: Schedule, plan: { stages: readonly ScheduleStage[]; edges: readonly ScheduleEdge[] }, costs: Costs): Interval[] {
  const channels = new Map<string, Channel>();
  const channel = (from: string, to: string): Channel => {
    const key = `${from}->${to}`;
    if (!channels.has(key)) {
      const edge = plan.edges.find((e) => (e.from === from && e.to === to) || (e.from === to && e.to === from));
      channels.set(key, { credits: edge?.credits ?? 1, sent: [], taken: [] });
    }
    return channels.get(key)!;
  };
  const rows = schedule.stages.map(({ stage, actions }) => ({ stage: plan.stages.find((s) => s.name === stage)!, actions, next: 0, clock: 0 }));
  const timeline: Interval[] = [];
  /** When the action can start, as far as others are concerned; undefined while it must wait. */
  const ready = (stage: string, action: Action): number | undefined => {
    if (action.kind === "RECV") {
      const { sent, taken } = channel(action.peer!, stage);
      return sent[taken.length];
    }
    if (action.kind !== "SEND") return 0;
    const { credits, sent, taken } = channel(stage, action.peer!);
    return sent.length < credits ? 0 : taken[sent.length - credits];
  };
  for (let moved = true; moved; ) {
    moved = false;
    for (const row of rows) {
      for (let action = row.actions[row.next]; action !== undefined; action = row.actions[row.next]) {
        const from = ready(row.stage.name, action);
        if (from === undefined) break;
        const start = Math.max(row.clock, from);
        const end = start + costs(row.stage, action.kind);
        if (action.kind === "SEND") channel(row.stage.name, action.peer!).sent.push(end);
        if (action.kind === "RECV") channel(action.peer!, row.stage.name).taken.push(end);
        timeline.push({ stage: row.stage.name, action, start, end });
        row.clock = end;
        row.next++;
        moved = true;
      }
    }
  }
  const stuck = rows.filter((row) => row.next < row.actions.length);
  if (stuck.length > 0) throw deadlock(schedule, stuck.map((row) => ({ stage: row.stage.name, entry: row.next, action: row.actions[row.next] })), channel);
  return timeline.sort((a, b) => a.start - b.start || a.end - b.end);
}

interface Stuck { stage: string; entry: number; action: Action }

function deadlock(schedule: Schedule, stuck: readonly Stuck[], channel: (from: string, to: string) => Channel): RuntimeError {
  const waits = stuck.map(({ stage, entry, action }) => {
    const what = action.kind === "RECV"
      ? `for the ${action.carries} of microbatch ${action.microbatch} from ${action.peer}`
      : `until ${action.peer} takes one of the ${channel(stage, action.peer!).credits} messages on their way to it`;
    return `${stage} waits at entry ${entry + 1} (${formatAction(action)}) ${what}`;
  });
  const waitsFor = new Map(stuck.map(({ stage, action }) => [stage, action.peer!]));
  const walk: string[] = [];
  for (let here: string | undefined = stuck[0].stage; here !== undefined && !walk.includes(here); here = waitsFor.get(here)) walk.push(here);
  const last = waitsFor.get(walk[walk.length - 1]);
  const cycle = last !== undefined && walk.includes(last) ? [...walk.slice(walk.indexOf(last)), last] : [];
  const [{ stage, entry }] = stuck;
  return new RuntimeError("ERR_SCHEDULE", [
    `schedule ${schedule.name}: expected every stage to finish, found a deadlock${cycle.length > 0 ? ` ${cycle.join(" -> ")}` : ""}.`,
    ...waits.map((wait) => `  ${wait}`), formatGrid(schedule, { stage, entry }),
  ].join("\n"), { deadlock: true, cycle, waiting: stuck.map((s) => ({ stage: s.stage, entry: s.entry, action: formatAction(s.action), peer: s.action.peer })) });
}

/** A forward is remembered until its B, or its W where B is split. */
function peak(actions: readonly Action[]): number {
  let [live, most] = [0, 0];
  for (const { kind } of actions) {
    if (kind === "F") most = Math.max(most, ++live);
    if (kind === "B" || kind === "W") live--;
  }
  return most;
}
