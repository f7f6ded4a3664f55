import { realClock, type Clock, type RunEvent } from "../../runtime/index.ts";
import type { Output } from "./output.ts";

/** Steps are shown at most this often; the first and the last always. */
const everyMs = 1000;

/** Shows a run as it goes: JSON lines for programs; for people a line per event, with steps thinned out. */
export function runProgress(output: Output, o: { inStudy?: boolean; shown?: boolean; clock?: Clock } = {}): (event: RunEvent) => void {
  const clock = o.clock ?? realClock;
  let shownAt = -Infinity;
  let steps = 0;
  return (event) => {
    // In a study the end of one run is not the end of the command.
    output.event(o.inStudy && event.event === "end" ? { ...event, event: "run-end" } : event);
    if (o.shown) return; // the recipe's console tracker shows the run
    if (event.event === "start") steps = event.steps;
    if (event.event === "step") {
      const last = event.step + 1 >= steps;
      if (!last && clock.now() - shownAt < everyMs) return;
      shownAt = clock.now();
    }
    const line = describe(event, steps);
    if (line !== undefined) output.say(line);
  };
}

function describe(event: RunEvent, steps: number): string | undefined {
  switch (event.event) {
    case "start":
      return `${event.run}: ${event.steps} steps in ${event.precision}, ${event.parameters.toLocaleString("en")} parameters, seed ${event.seed}, in ${event.runFolder}\n` +
        event.processes.map((one) => `  ${one.stage}: ${one.components.join(", ")}${one.pid === undefined ? "" : ` (process ${one.pid}${one.host === undefined ? "" : ` on ${one.host}`})`}`).join("\n");
    case "links": return event.links.map(({ from, to, lane, notes }) => `  ${from} -> ${to}: ${lane}${notes.length > 0 ? ` (${notes.join("; ")})` : ""}`).join("\n");
    case "step": {
      const parts = Object.entries(event.losses).map(([name, value]) => `${name} ${value.toFixed(4)}`).join(", ");
      return `step ${event.step + 1}/${steps}  loss ${event.loss.toFixed(4)}${parts ? ` (${parts})` : ""}  ${event.pagesPerSecond.toFixed(1)} pages/s  ETA ${Math.round(event.etaSeconds)} s`;
    }
    case "phase": return `${event.phase}${event.message ? `: ${event.message}` : ""}`;
    case "evaluation": return [`evaluation after step ${event.step}${event.examples === undefined ? "" : `, ${event.examples} held-out examples`}`, ...scoreLines(event.scores)].join("\n  ");
    case "trace": return `steps ${event.from + 1} to ${event.to + 1} traced: ${event.path} (octavo explain says where the time went; ui.perfetto.dev shows it)`;
    case "checkpoint": return `checkpoint of step ${event.step}: ${event.path}`;
    case "warning": return `warning: ${event.message}`;
    case "end": return `${event.reason} after step ${event.step} in ${event.seconds.toFixed(1)} s${event.loss === undefined ? "" : `, loss ${event.loss.toFixed(4)}`}${event.checkpoint ? `\ncheckpoint: ${event.checkpoint}` : ""}`;
    case "failure": return undefined; // thrown as well, and said once as the command's error
  }
}

/** A line per score; an accuracy has its baseline beside it. */
export function scoreLines(scores: Readonly<Record<string, number>>): string[] {
  return Object.entries(scores).filter(([name]) => !name.endsWith(".unigram")).map(([name, value]) => {
    const baseline = scores[name.replace(/\.accuracy$/, ".unigram")];
    return `${name.padEnd(24)} ${value.toPrecision(5)}${name.endsWith(".accuracy") && baseline !== undefined ? `  (always the most frequent: ${baseline.toPrecision(5)})` : ""}`;
  });
}
