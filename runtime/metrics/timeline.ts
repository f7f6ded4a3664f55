/**
 * What a process did and what it waited for, as spans of time: the device's part from stamps in its stream, the host's from its clock.
 *
 * TL-1: off, nothing is recorded and nothing is stamped.
 * TL-2: all times are microseconds of the system's monotonic clock: spans of the processes of one host fit together as they are.
 * TL-3: a device span begins and ends where the stream reaches its stamps, however far ahead the host has run. Device spans of one
 *       process follow each other or lie within each other (a collective call within what computes).
 * TL-4: a span is kept also when its work throws: what failed took its time.
 */
export const spanKinds = ["compute", "transfer", "collective", "optimizer", "checkpoint", "wait-for-input", "wait-for-credit", "loader"] as const;
export type SpanKind = (typeof spanKinds)[number];

/** What a span is about. Plain data: spans travel. */
export interface SpanLabel {
  kind: SpanKind;
  /** For people: "F3", "activations 3 of text". */
  name: string;
  step: number;
  stage?: string;
  microbatch?: number;
  /** Whom a wait is for, or the other end of a transfer. */
  peer?: string;
}

export interface Span extends SpanLabel {
  on: "device" | "host";
  /** Microseconds (TL-2). */
  begin: number;
  end: number;
}

/** A stream that writes down when it gets to a place: `runtime/native.ts`. */
export interface Stamps {
  stamp(): number;
  /** Of an idle stream: the times of all stamps by number, in microseconds. */
  stampsTake(): ArrayLike<number>;
}

export interface Timeline {
  on: boolean;
  /** Work that only enqueues: its span is when the stream runs it. */
  device<T>(label: SpanLabel, work: () => T): T;
  /** The same of what takes several turns: the span is open until the returned function is called, and nothing else may be on the device meanwhile. */
  open(label: SpanLabel): () => void;
  /** Something the host waits for. */
  host<T>(label: SpanLabel, work: () => Promise<T>): Promise<T>;
  /** All spans so far, in the order in which they were begun; forgets them. The stream must be idle. */
  take(): Span[];
}

/** The system's monotonic clock in microseconds. */
export const monotonicUs = (): number => {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e6 + nanoseconds / 1e3;
};

export function createTimeline(stamps: Stamps, now: () => number = monotonicUs): Timeline {
  let waits: Span[] = [];
  let stamped: { label: SpanLabel; begin: number; end: number }[] = [];
  const timeline: Timeline = {
    on: false,
    device(label, work) {
      const close = timeline.open(label);
      try {
        return work();
      } finally {
        close();
      }
    },
    open(label) {
      if (!timeline.on) return () => {};
      const begin = stamps.stamp();
      return () => void stamped.push({ label, begin, end: stamps.stamp() });
    },
    async host(label, work) {
      if (!timeline.on) return work();
      const begin = now();
      try {
        return await work();
      } finally {
        waits.push({ ...label, on: "host", begin, end: now() });
      }
    },
    take() {
      const times = stamps.stampsTake();
      const device = stamped.map(({ label, begin, end }): Span => ({ ...label, on: "device", begin: times[begin], end: times[end] }));
      const spans = [...device, ...waits].sort((a, b) => a.begin - b.begin);
      [waits, stamped] = [[], []];
      return spans;
    },
  };
  return timeline;
}
