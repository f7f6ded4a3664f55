/**
 * The rules of a schedule. The first one broken is thrown as ERR_SCHEDULE, with the grid and the offending entry marked.
 *
 * V-1: every stage has exactly one row, and every row is a stage.
 * V-2: a stage runs F of every microbatch exactly once.
 * V-3: a stage with backward runs, for every microbatch, B once, or I and W once each; a forward-only stage none of them.
 * V-4: F before B or I, I before W, of the same microbatch.
 * V-5: a stage that learns steps once, at the end; REDUCE comes between the last backward and STEP.
 * V-6: once lowered, on every edge the sends are the receives, in the same order; what is used was received before, what is sent was
 *      computed before.
 */
import { RuntimeError } from "../errors.ts";
import type { Action, Schedule, ScheduleEdge, ScheduleStage } from "./schedule.ts";
import { formatAction, formatGrid, isLowered } from "./schedule.ts";

export interface ScheduleFault extends Record<string, unknown> { rule: string; stage: string; entry: number; action: string }

/** Returns the schedule, or throws ERR_SCHEDULE with `ScheduleFault` as details. */
export function validate(schedule: Schedule, plan: { stages: readonly ScheduleStage[]; edges: readonly ScheduleEdge[] }): Schedule {
  const rules = new Rules(schedule);
  rules.rows(plan.stages);
  for (const stage of plan.stages) rules.compute(stage);
  if (isLowered(schedule)) {
    for (const edge of plan.edges) {
      rules.channel(edge.from, edge.to, "activations");
      if (edge.gradient) rules.channel(edge.to, edge.from, "gradients");
    }
    rules.strays(plan.edges);
    for (const stage of plan.stages) rules.messages(stage.name);
  }
  return schedule;
}

class Rules {
  constructor(readonly schedule: Schedule) {}

  rows(stages: readonly ScheduleStage[]): void {
    const rows = this.schedule.stages.map((row) => row.stage);
    const names = stages.map((stage) => stage.name);
    for (const [index, row] of rows.entries()) {
      if (!names.includes(row)) this.#broken("V-1", row, 0, `a row of one of the stages ${names.join(", ")}, found "${row}"`);
      if (rows.indexOf(row) !== index) this.#broken("V-1", row, 0, `one row for stage ${row}, found two`);
    }
    const missing = names.find((name) => !rows.includes(name));
    if (missing !== undefined) this.#broken("V-1", missing, 0, `a row for stage ${missing}, found none`);
  }

  compute({ name, backward, steps }: ScheduleStage): void {
    const actions = this.#actions(name);
    const done = new Map<string, number>();
    actions.forEach((action, entry) => {
      const { kind, microbatch } = action;
      if (kind === "SEND" || kind === "RECV") return;
      const text = formatAction(action);
      const all = kind === "STEP" || kind === "REDUCE";
      if (!all && !(Number.isInteger(microbatch) && microbatch >= 0 && microbatch < this.schedule.microbatches)) {
        this.#broken("V-2", name, entry, `a microbatch from 0 to ${this.schedule.microbatches - 1}, found ${text}`);
      }
      if (done.has(text)) this.#broken(kind === "F" ? "V-2" : all ? "V-5" : "V-3", name, entry, `${text} once, found it again (first at entry ${done.get(text)! + 1})`);
      if (!all && kind !== "F") this.#backward(name, entry, action, backward, done);
      if (all && !steps) this.#broken("V-5", name, entry, `no ${kind}: ${name} has nothing that learns, found one`);
      if (!all && (done.has("STEP") || done.has("REDUCE"))) this.#broken("V-5", name, entry, `${text} before ${done.has("REDUCE") ? "REDUCE" : "STEP"}, found it after`);
      if (kind === "REDUCE" && done.has("STEP")) this.#broken("V-5", name, entry, "REDUCE before STEP, found it after");
      done.set(text, entry);
    });
    for (let m = 0; m < this.schedule.microbatches; m++) {
      if (!done.has(`F${m}`)) this.#broken("V-2", name, actions.length, `F${m} in ${name}, found none`);
      if (backward && !done.has(`B${m}`) && !(done.has(`I${m}`) && done.has(`W${m}`))) {
        this.#broken("V-3", name, actions.length, `${done.has(`I${m}`) ? `W${m}` : done.has(`W${m}`) ? `I${m}` : `B${m}`} in ${name}, found none`);
      }
    }
    if (steps && !done.has("STEP")) this.#broken("V-5", name, actions.length, `STEP at the end of ${name}, found none`);
  }

  #backward(name: string, entry: number, { kind, microbatch }: Action, backward: boolean, done: ReadonlyMap<string, number>): void {
    const text = `${kind}${microbatch}`;
    if (!backward) this.#broken("V-3", name, entry, `only forwards: no gradient comes to ${name}, found ${text}`);
    const other = kind === "B" ? ["I", "W"].find((k) => done.has(`${k}${microbatch}`)) : done.has(`B${microbatch}`) ? "B" : undefined;
    if (other) this.#broken("V-3", name, entry, `B${microbatch}, or I${microbatch} and W${microbatch}, found ${other}${microbatch} and ${text}`);
    const before = kind === "W" ? `I${microbatch}` : `F${microbatch}`;
    if (!done.has(before)) this.#broken("V-4", name, entry, `${before} before ${text}, found ${text} first`);
  }

  /** The sends of one direction of an edge against its receives. */
  channel(from: string, to: string, carries: "activations" | "gradients"): void {
    const [sends, receives] = [this.#messages(from, "SEND", to, carries), this.#messages(to, "RECV", from, carries)];
    for (let i = 0; i < Math.max(sends.length, receives.length, this.schedule.microbatches); i++) {
      const [sent, received] = [sends[i], receives[i]];
      if (!sent) this.#broken("V-6", from, this.#actions(from).length, `${from} to send ${carries} ${this.schedule.microbatches} times to ${to}, found ${sends.length}`);
      if (!received) this.#broken("V-6", to, this.#actions(to).length, `${to} to receive ${carries} ${sends.length} times from ${from}, found ${receives.length}`);
      if (sent.action.microbatch !== received.action.microbatch) {
        this.#broken("V-6", to, received.entry, `${to} to receive microbatch ${sent.action.microbatch} as message ${i + 1} from ${from}, as it was sent, found ${formatAction(received.action)}`);
      }
    }
  }

  /** Messages over edges the plan does not have. */
  strays(edges: readonly ScheduleEdge[]): void {
    for (const { stage, actions } of this.schedule.stages) {
      actions.forEach((action, entry) => {
        if (action.kind !== "SEND" && action.kind !== "RECV") return;
        const out = (action.kind === "SEND") === (action.carries === "activations");
        const [from, to] = out ? [stage, action.peer] : [action.peer, stage];
        const edge = edges.find((e) => e.from === from && e.to === to);
        if (!edge || (action.carries === "gradients" && !edge.gradient)) {
          this.#broken("V-6", stage, entry, `messages along edges of the plan, found ${formatAction(action)}, though ${from} gives ${action.carries === "gradients" ? "back no gradient from" : "nothing to"} ${to}`);
        }
      });
    }
  }

  messages(stage: string): void {
    const actions = this.#actions(stage);
    const at = new Map(actions.map((action, entry) => [formatAction(action), entry]));
    const compute = (kind: "activations" | "gradients", m: number): string => (kind === "activations" ? `F${m}` : at.has(`B${m}`) ? `B${m}` : `I${m}`);
    actions.forEach((action, entry) => {
      if (action.kind !== "SEND" && action.kind !== "RECV") return;
      const other = compute(action.carries!, action.microbatch);
      const right = action.kind === "SEND" ? at.get(other)! < entry : at.get(other)! > entry;
      if (!right) this.#broken("V-6", stage, entry, `${formatAction(action)} ${action.kind === "SEND" ? "after" : "before"} ${other}, found it ${action.kind === "SEND" ? "before" : "after"}`);
    });
  }

  #messages(stage: string, kind: "SEND" | "RECV", peer: string, carries: "activations" | "gradients"): { action: Action; entry: number }[] {
    return this.#actions(stage).map((action, entry) => ({ action, entry })).filter(({ action }) => action.kind === kind && action.peer === peer && action.carries === carries);
  }

  #actions(stage: string): readonly Action[] {
    return this.schedule.stages.find((row) => row.stage === stage)!.actions;
  }

  #broken(rule: string, stage: string, entry: number, said: string): never {
    const row = this.schedule.stages.find((r) => r.stage === stage);
    const action = row?.actions[entry];
    const details: ScheduleFault = { rule, stage, entry, action: action ? formatAction(action) : "" };
    throw new RuntimeError("ERR_SCHEDULE", `schedule ${this.schedule.name}, ${stage}, entry ${entry + 1}: expected ${said} (${rule}).\n${formatGrid(this.schedule, { stage, entry })}`, details);
  }
}
