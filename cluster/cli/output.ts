/** What a command says: lines for people, or with --json one JSON object per line, the last of them `{"event":"end",...}`. */
import { explain, RuntimeError, toFailure, type ErrorCode } from "../../runtime/index.ts";

export interface Streams { out(text: string): void; err(text: string): void }

export interface Output {
  readonly json: boolean;
  /** One JSON line; nothing without --json. */
  event(event: { event: string }): void;
  /** For people; nothing with --json. */
  say(text: string): void;
  /** The same without an end of line, for what is still growing. */
  write(text: string): void;
  /** Beside the result: to stderr for people, an event for programs. */
  warn(message: string): void;
  /** The error as one message. Gives the exit code. */
  fail(error: unknown): number;
  /** The last line, unless an `end` event of a run was it already. */
  end(exitCode: number): void;
}

/** 2: what was given is wrong, and nothing was started. */
const badInput: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["ERR_INPUT", "ERR_RECIPE", "ERR_PLUGIN", "ERR_DATA", "ERR_CHECKPOINT", "ERR_PLAN", "ERR_SCHEDULE"]);

export function createOutput(json: boolean, { out, err }: Streams): Output {
  let running = false;
  let lastEvent = "";
  let failed = false;
  const event = (one: { event: string }): void => {
    if (one.event === "start") running = true;
    lastEvent = one.event;
    if (one.event === "failure") failed = true;
    if (json) out(`${JSON.stringify(one)}\n`);
  };
  return {
    json, event,
    say: (text) => { if (!json) out(`${text}\n`); },
    write: (text) => { if (!json) out(text); },
    warn: (message) => (json ? event({ event: "warning", message } as { event: string }) : err(`warning: ${message}\n`)),
    fail(error) {
      const message = explain(error);
      if (json && !failed) event({ event: "failure", message, failure: toFailure(error) } as { event: string });
      if (!json) err(`error: ${message}\n`);
      const known = error instanceof RuntimeError;
      if (!known && error instanceof Error && error.stack) err(`${error.stack}\nThis is a mistake in Octavo or in a plugin, not in what you asked for.\n`);
      return known && !running && badInput.has(error.code) ? 2 : 1;
    },
    end(exitCode) {
      if (lastEvent !== "end" || exitCode !== 0) event({ event: "end", ok: exitCode === 0, exitCode } as { event: string });
    },
  };
}
