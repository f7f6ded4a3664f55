import { RuntimeError } from "../errors.ts";

/** Raised when the meaning of an envelope changes; nodes of different versions refuse each other. */
export const envelopeVersion = 2;

/**
 * What a message is for. `call` wants a `reply` or a `failure`; `cast` wants nothing, but comes back as a `failure` when
 * it was refused; `signal` is between systems: `cancel`, `monitor`, `demonitor`, `down`.
 */
export const messageKinds = ["call", "cast", "reply", "failure", "signal"] as const;
export type MessageKind = (typeof messageKinds)[number];

/** One message between actors. Everything but the attachments is packed into the first frame. */
export interface Envelope {
  kind: MessageKind;
  /** Number of the call, unique in the caller's system; replies and failures carry the number they answer. 0 for casts. */
  id: number;
  from: string;
  to: string;
  /** In a `signal`: which one. In a `failure` with id 0: the endpoint of the cast that came back. */
  endpoint: string;
  /** What is left of the call's time when it is sent. 0: none set (casts, replies). Clocks of two hosts are never compared. */
  deadlineMs: number;
  /** Empty: nothing came before it; the receiver begins one when somebody asks. */
  trace: string;
  /** Which life of the caller's node asked; a reply to an earlier life under the same name is dropped. */
  incarnation: number;
  /** Numbers the sender's links to the receiver: another one each time the two connect. With `sequence` it tells what was there before. */
  session: number;
  /** Counts the messages of a session, from 0; signals, which may overtake, count by themselves. */
  sequence: number;
  payload: unknown;
  attachments: readonly Uint8Array[];
}

/** What must not wait behind other messages: signals, and what systems ask of each other (their calls have no actor). */
export function isUrgent({ kind, to }: Envelope): boolean {
  return kind === "signal" || (kind === "call" && to.endsWith("/-"));
}

/** Checks what arrived from outside; ERR_ENVELOPE names the field. */
export function envelopeFromFields(fields: unknown, attachments: readonly Uint8Array[]): Envelope {
  if (!Array.isArray(fields) || fields.length === 0) throw bad("a list of fields", fields);
  if (fields[0] !== envelopeVersion) throw bad(`version ${envelopeVersion}`, fields[0], "Run the same octavo on every host.");
  if (fields.length !== 12) throw bad("12 fields", fields.length);
  const [, kind, id, from, to, endpoint, deadlineMs, trace, incarnation, session, sequence, payload] = fields as unknown[];
  const known = typeof kind === "number" ? messageKinds[kind] : undefined;
  if (known === undefined) throw bad(`kind to be one of ${messageKinds.map((name, i) => `${i} (${name})`).join(", ")}`, kind);
  return {
    kind: known, id: number(id, "id"), from: text(from, "from"), to: text(to, "to"), endpoint: text(endpoint, "endpoint"),
    deadlineMs: number(deadlineMs, "deadlineMs"), trace: text(trace, "trace"), incarnation: number(incarnation, "incarnation"),
    session: number(session, "session"), sequence: number(sequence, "sequence"), payload, attachments,
  };
}

/** The inverse of `envelopeFromFields`. An array, not a record: names would be half of a small message. */
export function envelopeToFields(e: Envelope): unknown[] {
  return [envelopeVersion, messageKinds.indexOf(e.kind), e.id, e.from, e.to, e.endpoint, e.deadlineMs, e.trace, e.incarnation, e.session, e.sequence, e.payload];
}

function number(value: unknown, field: string): number {
  if (typeof value === "number" && Number.isFinite(value) && value >= 0) return value;
  throw bad(`${field} to be a number of at least 0`, value);
}

function text(value: unknown, field: string): string {
  if (typeof value === "string") return value;
  throw bad(`${field} to be text`, value);
}

function bad(expected: string, got: unknown, fix = "The bytes come from something that is not this program."): RuntimeError {
  const shown = typeof got === "string" || typeof got === "number" ? JSON.stringify(got).slice(0, 60) : typeof got;
  return new RuntimeError("ERR_ENVELOPE", `message: expected ${expected}, got ${shown}. ${fix}`, { expected, got: shown });
}
