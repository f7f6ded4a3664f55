/**
 * Every error of the runtime has a permanent code, a message for people and `details` for programs.
 * A message answers: what was wrong, where, expected and got, how to mend it. Nobody parses messages.
 */
export const errorCodes = {
  ERR_SHAPE: "operands do not fit each other",
  ERR_DTYPE: "an operand has a dtype the operation does not take",
  ERR_HANDLE: "a tensor was used after it was freed",
  ERR_MEMORY: "the device has no room for an allocation",
  ERR_DEVICE: "a kernel failed on the device",
  ERR_COMPILE: "a step cannot be recorded or replayed",
  ERR_NATIVE: "the native addon is missing or refuses",
  ERR_TAPE: "a gradient was asked for that was not recorded",
  ERR_LEAK: "tensors outlived the scope that owned them",
  ERR_RECIPE: "a recipe is wrong",
  ERR_PLUGIN: "a plugin is unknown or failed to build",
  ERR_PLAN: "a plan does not fit the machines it is for",
  ERR_SCHEDULE: "a schedule breaks its rules",
  ERR_MAILBOX_FULL: "a mailbox has no room",
  ERR_DEADLINE: "a call was not answered in time",
  ERR_ABORTED: "a call was given up by its caller",
  ERR_DEAD: "the receiver of a message is gone",
  ERR_UNREACHABLE: "the receiver of a message cannot be reached",
  ERR_ENDPOINT: "an actor has no such endpoint",
  ERR_ENVELOPE: "bytes are not a message of this version",
  ERR_ADDRESS: "an address is malformed or taken",
  ERR_ACTOR: "an actor failed",
  ERR_LANE: "a tensor could not be moved between processes",
  ERR_COLLECTIVE: "members of a group cannot go on together",
  ERR_CHECKPOINT: "a checkpoint cannot be written or read",
  ERR_DATA: "a record, page or shard is unreadable",
  ERR_INPUT: "a command line argument or option is wrong",
  ERR_RUN: "a run ended because one of its parts failed",
  ERR_CLUSTER: "the control plane refuses or has lost a part",
} as const;

export type ErrorCode = keyof typeof errorCodes;
export type Details = Record<string, unknown>;

export class RuntimeError<D extends Details = Details> extends Error {
  override readonly name: string = "RuntimeError";
  constructor(readonly code: ErrorCode, message: string, readonly details: D = {} as D, options?: { cause?: unknown }) {
    super(message, options);
  }
}

/** Operands do not fit. `details` travels between processes; the message is for people, never parsed. */
export class ShapeError extends RuntimeError<{ op: string; operand: string; expected: string; got: readonly number[]; fix: string }> {
  override readonly name = "ShapeError";
  constructor(d: { op: string; operand: string; expected: string; got: readonly number[]; fix: string }) {
    super("ERR_SHAPE", `${d.op}: ${d.operand} expected ${d.expected}, got (${d.got.join(", ")}). ${d.fix}`, d);
  }
}

/** An error as plain data: it crosses process borders and keeps its chain of causes. */
export interface FailureData {
  code: ErrorCode;
  name: string;
  message: string;
  details: Details;
  stack?: string;
  cause?: FailureData;
}

/** The error and its causes as data. Anything thrown that is not an Error becomes one. */
export function toFailure(thrown: unknown): FailureData {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  const runtime = error instanceof RuntimeError ? error : undefined;
  return {
    code: runtime?.code ?? "ERR_ACTOR",
    name: error.name,
    message: error.message,
    details: runtime?.details ?? {},
    stack: error.stack,
    ...(error.cause === undefined ? {} : { cause: toFailure(error.cause) }),
  };
}

/** The inverse of `toFailure`: an error one can throw, with the same code, details, stack and causes. */
export function fromFailure(failure: FailureData): RuntimeError {
  const error = new RuntimeError(failure.code, failure.message, failure.details,
    failure.cause ? { cause: fromFailure(failure.cause) } : undefined);
  if (failure.stack !== undefined) error.stack = failure.stack;
  return error;
}

/** The message of an error followed by those of its causes, one line each. */
export function explain(thrown: unknown): string {
  const lines: string[] = [];
  for (let error: unknown = thrown, depth = 0; error !== undefined && depth < 10; depth++) {
    lines.push(`${depth ? "  because " : ""}${error instanceof Error ? error.message : String(error)}`);
    error = error instanceof Error ? error.cause : undefined;
  }
  return lines.join("\n");
}

/** The candidate closest to `word` in edit distance, if it is close enough to be a slip of the finger. */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Infinity;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best !== undefined && bestDistance <= Math.max(2, Math.ceil(word.length / 3)) ? best : undefined;
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      row[j] = Math.min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    previous = row;
  }
  return previous[b.length];
}
