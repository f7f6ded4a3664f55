/**
 * Every event as one line of JSON in the run folder.
 *
 * JT-1: a line is written whole, in the order of events, before `event` returns: what happened before a crash is on disk.
 * JT-2: events before the run folder is known are kept and written first.
 * JT-3: a disk that refuses does not stop the run; `close` rejects with what went wrong first.
 */
import { closeSync, mkdirSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { definePlugin, RuntimeError, type RunEvent, type Tracker } from "../../runtime/index.ts";

export const jsonLines = definePlugin({
  kind: "tracker", name: "json-lines", version: "1.0.0",
  about: "Every event of a run as one line of JSON in a file of the run folder.",
  options: z.strictObject({ file: z.string().default("events.jsonl") }),
  create: ({ file }, host) => createJsonLinesTracker(file, host.runFolder),
});

/** The run folder may come later, with the `start` event. */
export function createJsonLinesTracker(file: string, runFolder?: string): Tracker {
  let waiting: RunEvent[] = [];
  let descriptor: number | undefined;
  let trouble: RuntimeError | undefined;
  const fail = (cause: unknown) => {
    trouble ??= new RuntimeError("ERR_RUN", `tracker json-lines: ${file} cannot be written (${(cause as Error).message}). The run went on without it.`, { file }, { cause });
  };
  const open = (folder: string) => {
    try {
      mkdirSync(folder, { recursive: true });
      descriptor = openSync(join(folder, file), "a");
    } catch (cause) { fail(cause); }
  };
  if (runFolder !== undefined) open(runFolder);
  return {
    event(event) {
      if (trouble) return;
      if (descriptor === undefined && event.event === "start") open(event.runFolder);
      waiting.push(event);
      if (descriptor === undefined) return;
      try {
        writeSync(descriptor, waiting.map((line) => `${JSON.stringify(line)}\n`).join(""));
        waiting = [];
      } catch (cause) { fail(cause); }
    },
    async close() {
      if (descriptor !== undefined) closeSync(descriptor);
      descriptor = undefined;
      if (trouble) throw trouble;
    },
  };
}
