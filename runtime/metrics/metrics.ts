import { RuntimeError } from "../errors.ts";

/**
 * Counters, gauges and histograms of one process. Recording is an addition; only `snapshot` makes objects.
 *
 * MET-1: a counter never falls. A gauge says how things are now. A histogram counts values in buckets fixed when it was made.
 * MET-2: asking for a name again gives the same instrument; asking for it as another kind is an error.
 */
export interface Metrics {
  counter(name: string): Counter;
  gauge(name: string): Gauge;
  /** `bounds`: ascending upper bounds of the buckets; a last one without bound is added. Default: 1, 2, 5 steps from 1 us to 100 s in milliseconds. */
  histogram(name: string, bounds?: readonly number[]): Histogram;
  /** Plain data, in order of name: it can travel, be printed and be compared. */
  snapshot(): Record<string, Measurement>;
}

export interface Counter {
  add(by?: number): void;
  readonly value: number;
}
export interface Gauge {
  set(value: number): void;
  readonly value: number;
}
export interface Histogram {
  record(value: number): void;
  /** The bound of the bucket below which `q` (0 to 1) of the values lie; never more than the largest value. NaN when empty. */
  quantile(q: number): number;
  readonly value: HistogramValue;
}

export interface HistogramValue {
  count: number;
  sum: number;
  min: number;
  max: number;
  bounds: readonly number[];
  /** One more than `bounds`. */
  counts: number[];
}

export type Measurement = { kind: "counter" | "gauge"; value: number } | ({ kind: "histogram" } & HistogramValue);

const defaultBounds = [-3, -2, -1, 0, 1, 2, 3, 4].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power)).concat(100_000);

export function createMetrics(): Metrics {
  const instruments = new Map<string, { kind: Measurement["kind"]; instrument: Counter | Gauge | Histogram }>();
  function named<T extends Counter | Gauge | Histogram>(name: string, kind: Measurement["kind"], make: () => T): T {
    const present = instruments.get(name);
    if (present && present.kind !== kind) throw new RuntimeError("ERR_INPUT", `metric "${name}" is a ${present.kind}, not a ${kind}.`, { name, kind });
    if (present) return present.instrument as T;
    const instrument = make();
    instruments.set(name, { kind, instrument });
    return instrument;
  }
  return {
    counter: (name) => named(name, "counter", makeCounter),
    gauge: (name) => named(name, "gauge", makeGauge),
    histogram: (name, bounds = defaultBounds) => named(name, "histogram", () => makeHistogram(name, bounds)),
    snapshot: () => Object.fromEntries([...instruments].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, { kind, instrument }]) => [name,
      kind === "histogram" ? { kind, ...(instrument as Histogram).value } : { kind, value: (instrument as Counter).value }])),
  };
}

function makeCounter(): Counter {
  let value = 0;
  return {
    add(by = 1) {
      if (!(by >= 0)) throw new RuntimeError("ERR_INPUT", `a counter grows by at least 0, got ${by}. Use a gauge for what can fall.`, { by });
      value += by;
    },
    get value() {
      return value;
    },
  };
}

function makeGauge(): Gauge {
  let value = 0;
  return {
    set: (to) => void (value = to),
    get value() {
      return value;
    },
  };
}

function makeHistogram(name: string, bounds: readonly number[]): Histogram {
  if (bounds.some((bound, i) => !(bound > (bounds[i - 1] ?? -Infinity)))) {
    throw new RuntimeError("ERR_INPUT", `histogram "${name}": expected ascending bounds, got ${bounds.join(", ")}.`, { name, bounds });
  }
  const counts = new Array<number>(bounds.length + 1).fill(0);
  let [count, sum, min, max] = [0, 0, Infinity, -Infinity];
  return {
    record(value) {
      const bucket = bounds.findIndex((bound) => value <= bound);
      counts[bucket < 0 ? bounds.length : bucket]++;
      count++;
      sum += value;
      min = Math.min(min, value);
      max = Math.max(max, value);
    },
    quantile(q) {
      let seen = 0;
      for (let i = 0; i < counts.length; i++) {
        seen += counts[i];
        if (count > 0 && seen >= q * count && counts[i] > 0) return Math.min(bounds[i] ?? max, max);
      }
      return NaN;
    },
    get value() {
      return { count, sum, min, max, bounds, counts: [...counts] };
    },
  };
}
