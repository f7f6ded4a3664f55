/**
 * Progress for people: on a terminal one line that renews itself, else a line every few steps.
 *
 * CT-1: a step line says phase, step of steps, loss, pages per second and the time left.
 * CT-2: every other event is a line of its own; it never overwrites or is overwritten.
 */
import { z } from "zod";
import { definePlugin, explain, fromFailure, type RunEvent, type Tracker } from "../../runtime/index.ts";

export const consoleTracker = definePlugin({
  kind: "tracker", name: "console", version: "1.0.0",
  about: "A progress line per phase on standard error: step, loss, pages per second, time left.",
  options: z.strictObject({
    /** Away from a terminal: a line every so many steps, the first and last always. */
    every: z.int().positive().default(10),
  }),
  create: ({ every }) => createConsoleTracker({ every, terminal: process.stderr.isTTY === true, write: (text) => process.stderr.write(text), columns: () => process.stderr.columns ?? 80 }),
});

export interface ConsoleTrackerOptions { every: number; terminal: boolean; write(text: string): void; columns?(): number }

export function createConsoleTracker({ every, terminal, write, columns = () => 80 }: ConsoleTrackerOptions): Tracker {
  let phase = "train", steps = 0, pending = false, unwritten: string | undefined;
  const line = (text: string) => {
    if (pending) write("\n");
    pending = false;
    write(`${text}\n`);
  };
  return {
    event(event) {
      if (event.event === "step") {
        const text = stepLine(event, phase, steps);
        if (terminal) {
          // Erase to the end of the line, so that a shorter text leaves nothing of a longer one.
          write(`\r${text.slice(0, columns() - 1)}\u001b[K`);
          pending = true;
        } else if (event.step % every === 0 || event.step === steps - 1) line(text);
        unwritten = terminal || event.step % every === 0 || event.step === steps - 1 ? undefined : text;
        return;
      }
      if (event.event === "start") steps = event.steps;
      if (event.event === "phase") phase = event.phase;
      // A run that stops between two printed steps still shows its last one.
      if (unwritten && (event.event === "end" || event.event === "failure" || event.event === "phase")) line(unwritten);
      unwritten = undefined;
      const text = eventLine(event);
      if (text !== undefined) line(text);
    },
    async close() {
      if (pending) write("\n");
      pending = false;
    },
  };
}

function stepLine(event: Extract<RunEvent, { event: "step" }>, phase: string, steps: number): string {
  const parts = Object.entries(event.losses).map(([name, loss]) => `${name} ${loss.toFixed(3)}`).join(" ");
  return `${phase}  step ${event.step + 1}/${steps || "?"}  loss ${event.loss.toFixed(4)}${parts ? ` (${parts})` : ""}  ${event.pagesPerSecond.toFixed(1)} pages/s  ${duration(event.etaSeconds)} left`;
}

function eventLine(event: Exclude<RunEvent, { event: "step" }>): string | undefined {
  switch (event.event) {
    case "start": return `run ${event.run}: ${event.steps} steps in ${event.precision}, ${event.parameters.toLocaleString("en-US")} parameters, ${event.processes.length} process${event.processes.length === 1 ? "" : "es"}; ${event.runFolder}`;
    case "links": return event.links.map(({ from, to, lane, notes }) => `link ${from} -> ${to}: ${lane}${notes.length > 0 ? ` (${notes.join("; ")})` : ""}`).join("\n") || undefined;
    case "phase": return `${event.phase}${event.message ? `: ${event.message}` : ""}`;
    case "evaluation": return `evaluation after step ${event.step}: ${Object.entries(event.scores).map(([name, score]) => `${name} ${Number.isInteger(score) ? score : score.toFixed(4)}`).join("  ")}`;
    case "checkpoint": return `checkpoint after step ${event.step}: ${event.path}`;
    case "warning": return `warning: ${event.message}`;
    case "end": return `${event.reason} after step ${event.step} in ${duration(event.seconds)}${event.loss === undefined ? "" : `, loss ${event.loss.toFixed(4)}`}; ${event.runFolder}`;
    case "failure": {
      const causes = explain(fromFailure(event.failure));
      return `failed: ${causes.startsWith(event.message) ? causes : `${event.message}\n${causes}`}`;
    }
  }
}

/** 75 -> "1m15s". */
function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "?";
  const whole = Math.max(0, Math.round(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h > 0 ? `${h}h${String(m).padStart(2, "0")}m` : m > 0 ? `${m}m${String(s).padStart(2, "0")}s` : `${s}s`;
}
