/**
 * A child process with its output in a log file and its end as data.
 *
 * CP-1: the child stays in our process group and shows `title` in `ps` from its first moment.
 * CP-2: stdout and stderr go to the log file in the order written; the last lines of stderr are also kept in memory.
 * CP-3: `exited` always settles, once, with either an exit code or a signal; a child that could not start rejects `start`.
 */
import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { fromFailure, realClock, RuntimeError, type FailureData } from "../../runtime/index.ts";
import type { Entry } from "./entries.ts";

export interface ChildSpec {
  title: string;
  entry: Entry;
  args?: readonly string[];
  env?: Record<string, string>;
  /** Where output goes; without it stderr is only kept as tail and stdout is given line by line to `onLine`. */
  logFile?: string;
  onLine?: (line: string) => void;
}

export interface ChildExit { code: number | null; signal: string | null; stderrTail: string; failure?: FailureData }
export interface Child { pid: number; exited: Promise<ChildExit>; kill(signal?: NodeJS.Signals): void }

/** Room for an abort message of a native library, or an error with its chain of causes and their stacks. */
const tailBytes = 65_536;

/** Starts the child; settles when the operating system has accepted it. Throws ERR_CLUSTER when it cannot be started. */
export async function startChild(spec: ChildSpec): Promise<Child> {
  const log = spec.logFile === undefined ? undefined : openLog(spec.logFile);
  const child = spawn(spec.entry.command, [...spec.entry.args, ...(spec.args ?? [])], {
    argv0: spec.title,
    stdio: ["ignore", log ?? "pipe", "pipe"],
    env: { ...process.env, ...spec.env, OCTAVO_PARENT_PID: String(process.pid), OCTAVO_TITLE: spec.title },
  });
  let tail = "";
  child.stderr!.setEncoding("utf8").on("data", (text: string) => {
    if (log !== undefined) writeSync(log, text);
    tail = (tail + text).slice(-tailBytes);
  });
  if (spec.onLine && child.stdout) eachLine(child.stdout, spec.onLine);

  const exited = new Promise<ChildExit>((resolve) => {
    let settled = false;
    const settle = (code: number | null, signal: string | null): void => {
      if (settled) return;
      settled = true;
      if (log !== undefined) closeSync(log);
      resolve({ code, signal, ...splitFailure(tail) });
    };
    child.once("close", settle);
    // `close` waits for the pipes; a grandchild that inherited them must not hide the end of the child.
    child.once("exit", (code, signal) => realClock.after(1000, () => { child.stderr!.destroy(); settle(code, signal); }));
  });
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", (cause) => reject(new RuntimeError("ERR_CLUSTER", `${spec.title}: could not be started (${cause.message}).`, { title: spec.title }, { cause })));
  });
  return { pid: child.pid!, exited, kill: (signal = "SIGKILL") => void child.kill(signal) };
}

/** The line a worker prints on stderr when it fails as a JavaScript program: its error as data, for the one who started it. */
export const failureMark = "octavo-failure: ";

function splitFailure(tail: string): { stderrTail: string; failure?: FailureData } {
  const lines = tail.split("\n");
  const line = lines.findLast((text) => text.startsWith(failureMark));
  if (line === undefined) return { stderrTail: tail };
  const rest = lines.filter((text) => text !== line).join("\n");
  try {
    return { stderrTail: rest, failure: JSON.parse(line.slice(failureMark.length)) as FailureData };
  } catch {
    return { stderrTail: tail }; // cut in the middle by a kill: the text itself is all there is
  }
}

/** How a process ended, in words: `was killed by SIGKILL`, `ended with exit code 1: <its error>`. */
export function describeExit(exit: ChildExit): string {
  const how = exit.signal ? `was killed by ${exit.signal}` : `ended with exit code ${exit.code}`;
  const why = exit.failure ? fromFailure(exit.failure).message : exit.stderrTail.trim().split("\n").slice(-3).join(" | ");
  return why ? `${how}: ${why}` : how;
}

function openLog(path: string): number {
  try {
    mkdirSync(dirname(path), { recursive: true });
    return openSync(path, "a");
  } catch (cause) {
    throw new RuntimeError("ERR_CLUSTER", `${path}: the log cannot be opened (${(cause as Error).message}).`, { path }, { cause });
  }
}

export function eachLine(stream: NodeJS.ReadableStream, onLine: (line: string) => void): void {
  let rest = "";
  stream.setEncoding("utf8");
  stream.on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    lines.forEach(onLine);
  });
}
