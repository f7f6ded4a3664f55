/**
 * A schedule is data: per stage, an ordered list of what it does with which microbatch.
 *
 * SC-1: schedules are authored as compute only (F forward, B backward = I input gradient + W weight gradient, STEP optimizer);
 *       `lower` adds SEND, RECV and REDUCE. Execution, validation, simulation and CSV read the same data.
 * SC-2: both authors are pure functions of the stages' depths and the number of microbatches.
 * SC-3: this is what stages run: one stage per process, F and B. What is authored for ranks (`rank-authors.ts`) and fits becomes one of these.
 */
import { RuntimeError, nearest } from "../errors.ts";
import { rankAuthors } from "./rank-authors.ts";
import { placeStages, toRunnable } from "./rank-schedule.ts";

export const actionKinds = ["F", "B", "I", "W", "SEND", "RECV", "REDUCE", "STEP"] as const;
export type ActionKind = (typeof actionKinds)[number];

export interface Action {
  kind: ActionKind;
  /** -1 for REDUCE and STEP, which are about all of them. */
  microbatch: number;
  /** SEND, RECV: the stage at the other end, and what travels. */
  peer?: string;
  carries?: "activations" | "gradients";
}

export interface StageSchedule { stage: string; actions: readonly Action[] }

export interface Schedule {
  name: string;
  microbatches: number;
  stages: readonly StageSchedule[];
}

/** What a schedule needs to know of a stage; a `StagePlan` says it. */
export interface ScheduleStage { name: string; depth: number; backward: boolean; steps: boolean }
/** And of an edge between stages; a `StageEdge` says it. */
export interface ScheduleEdge { from: string; to: string; gradient: boolean; credits: number }

export type ScheduleAuthor = (stages: readonly ScheduleStage[], microbatches: number) => Schedule;

/** All forwards, then all backwards, both in order: every stage keeps every microbatch alive. */
export const fillDrain: ScheduleAuthor = (stages, microbatches) => oneStagePerRank("fill-drain", stages, microbatches);

/**
 * After a warm-up of as many forwards as there are stages behind it, a stage does one forward, one backward in turn.
 * On a DAG the warm-up is the largest depth less the own depth: a stage never waits for a gradient that its own forward would lead to.
 */
export const oneForwardOneBackward: ScheduleAuthor = (stages, microbatches) => oneStagePerRank("1f1b", stages, microbatches);

const oneStagePerRank = (name: string, stages: readonly ScheduleStage[], microbatches: number): Schedule =>
  toRunnable(rankAuthors[name](placeStages({ stages, edges: [] }), microbatches));

export const scheduleAuthors: Readonly<Record<string, ScheduleAuthor>> = { "1f1b": oneForwardOneBackward, "fill-drain": fillDrain };

/** The author of a name. Throws ERR_SCHEDULE with the nearest spelling. */
export function authorOf(name: string): ScheduleAuthor {
  if (Object.hasOwn(scheduleAuthors, name)) return scheduleAuthors[name];
  const known = Object.keys(scheduleAuthors);
  const guess = nearest(name, known);
  throw new RuntimeError("ERR_SCHEDULE", `schedule: expected ${known.join(" or ")}, found "${name}".${guess ? ` Did you mean "${guess}"?` : ""}`, { name, known });
}

/**
 * Adds communication: what a stage needs is received just before it, what others need is sent just after. Gradients leave after B, or
 * after I where B is split; REDUCE comes before STEP. Edges are taken in the order of the plan.
 */
export function lower(schedule: Schedule, edges: readonly ScheduleEdge[]): Schedule {
  if (isLowered(schedule)) return schedule;
  return { ...schedule, stages: schedule.stages.map(({ stage, actions }) => ({ stage, actions: actions.flatMap((action) => withMessages(action, stage, edges)) })) };
}

export const isLowered = (schedule: Schedule): boolean => schedule.stages.some((s) => s.actions.some((a) => a.kind === "SEND" || a.kind === "RECV"));

function withMessages(action: Action, stage: string, edges: readonly ScheduleEdge[]): Action[] {
  const { microbatch } = action;
  const incoming = edges.filter((edge) => edge.to === stage);
  const outgoing = edges.filter((edge) => edge.from === stage);
  const message = (kind: "SEND" | "RECV", peer: string, carries: "activations" | "gradients"): Action => ({ kind, microbatch, peer, carries });
  switch (action.kind) {
    case "F": return [
      ...incoming.map((edge) => message("RECV", edge.from, "activations")), action, ...outgoing.map((edge) => message("SEND", edge.to, "activations")),
    ];
    case "B":
    case "I": return [
      ...outgoing.filter((e) => e.gradient).map((edge) => message("RECV", edge.to, "gradients")), action,
      ...incoming.filter((e) => e.gradient).map((edge) => message("SEND", edge.from, "gradients")),
    ];
    case "STEP": return [{ kind: "REDUCE", microbatch: -1 }, action];
    default: return [action];
  }
}

// --------------------------------------------------------------------------------------------------------------- as text

/** `F0`, `B1`, `STEP`, `RECV_F0<pages`, `SEND_B1>image`. */
export function formatAction({ kind, microbatch, peer, carries }: Action): string {
  if (kind === "STEP" || kind === "REDUCE") return kind;
  if (kind === "SEND" || kind === "RECV") return `${kind}_${carries === "gradients" ? "B" : "F"}${microbatch}${kind === "SEND" ? ">" : "<"}${peer ?? ""}`;
  return `${kind}${microbatch}`;
}

export function parseAction(text: string): Action | undefined {
  const compute = /^([FBIW])(\d+)$/.exec(text);
  if (compute) return { kind: compute[1] as ActionKind, microbatch: Number(compute[2]) };
  if (text === "STEP" || text === "REDUCE") return { kind: text, microbatch: -1 };
  const message = /^(?:(SEND)_([FB])(\d+)>|(RECV)_([FB])(\d+)<)([A-Za-z][A-Za-z0-9_-]*)$/.exec(text);
  if (!message) return undefined;
  return {
    kind: (message[1] ?? message[4]) as ActionKind, microbatch: Number(message[3] ?? message[6]),
    peer: message[7], carries: (message[2] ?? message[5]) === "B" ? "gradients" : "activations",
  };
}

/** First a line `schedule,<name>,<microbatches>`, then one line per stage: its name and its actions in order. */
export function toCsv(schedule: Schedule): string {
  const rows = schedule.stages.map(({ stage, actions }) => [stage, ...actions.map(formatAction)]);
  return [["schedule", schedule.name, String(schedule.microbatches)], ...rows].map((row) => row.join(",")).join("\n") + "\n";
}

/** Is this text in the form of `toCsv`, not a row of cells per rank (`ranksFromCsv`)? */
export const isStageCsv = (text: string): boolean => text.split(/\r?\n/).find((line) => line.trim() !== "" && !line.startsWith("#"))?.trimStart().startsWith("schedule") ?? true;

/** The inverse of `toCsv`. Empty lines and lines that start with # are skipped. Throws ERR_SCHEDULE with line and cell. */
export function fromCsv(text: string, file = "schedule.csv"): Schedule {
  const rows = text.split(/\r?\n/).map((line, i) => ({ cells: line.split(",").map((cell) => cell.trim()), line: i + 1 }))
    .filter(({ cells }) => cells.some((cell) => cell !== "") && !cells[0].startsWith("#"));
  const refuse = (line: number, expected: string, found: string): never => {
    throw new RuntimeError("ERR_SCHEDULE", `${file}:${line}: expected ${expected}, found ${found}.`, { file, line, expected, found });
  };
  const [head, ...body] = rows;
  const microbatches = Number(head?.cells[2]);
  if (head?.cells[0] !== "schedule" || !Number.isInteger(microbatches) || microbatches < 1) {
    return refuse(head?.line ?? 1, "a first line like schedule,1f1b,4", JSON.stringify(head?.cells.join(",") ?? ""));
  }
  return {
    name: head.cells[1], microbatches,
    stages: body.map(({ cells: [stage, ...cells], line }) => ({
      stage,
      actions: cells.filter((cell) => cell !== "").map((cell) => parseAction(cell)
        ?? refuse(line, "an action like F0, B0, I0, W0, SEND_F0>stage, RECV_B0<stage, REDUCE or STEP", `"${cell}" in the row of ${stage}`)),
    })),
  };
}

/** One row per stage; the entry at `mark` between > and <, and only what is near it when rows are long. */
export function formatGrid(schedule: Schedule, mark?: { stage: string; entry: number }): string {
  const reach = 8;
  const width = Math.max(...schedule.stages.map((s) => s.stage.length), 0);
  const from = mark && mark.entry > reach ? mark.entry - reach : 0;
  const to = mark ? mark.entry + reach + 1 : Infinity;
  const rows = schedule.stages.map(({ stage, actions }) => {
    const cells = actions.map((action, entry) => (mark?.stage === stage && mark.entry === entry ? `>${formatAction(action)}<` : formatAction(action)));
    if (mark?.stage === stage && mark.entry >= actions.length) cells.push(">missing<");
    return { stage, cells: [...(from > 0 ? ["..."] : []), ...cells.slice(from, to), ...(cells.length > to ? ["..."] : [])] };
  });
  const columns = Math.max(...rows.map((row) => row.cells.length), 0);
  const widths = Array.from({ length: columns }, (_, c) => Math.max(...rows.map((row) => row.cells[c]?.length ?? 0)));
  return rows.map((row) => `  ${row.stage.padEnd(width)}  ${row.cells.map((cell, c) => cell.padEnd(widths[c])).join("  ")}`.trimEnd()).join("\n");
}
