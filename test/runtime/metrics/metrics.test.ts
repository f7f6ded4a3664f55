import assert from "node:assert/strict";
import type { Clock } from "../../../runtime/clock.ts";
import { measureEventLoop } from "../../../runtime/metrics/event-loop-delay.ts";
import { createMetrics } from "../../../runtime/metrics/metrics.ts";

describe("metrics", () => {
  it("MET-1: counters grow, gauges are set, histograms sort values into buckets", () => {
    const m = createMetrics();
    m.counter("steps").add();
    m.counter("steps").add(2);
    m.gauge("queue").set(5);
    m.gauge("queue").set(3);
    for (const value of [0.5, 1, 1.5, 10, 1000]) m.histogram("ms", [1, 10, 100]).record(value);
    assert.deepEqual(m.snapshot(), {
      ms: { kind: "histogram", count: 5, sum: 1013, min: 0.5, max: 1000, bounds: [1, 10, 100], counts: [2, 2, 0, 1] },
      queue: { kind: "gauge", value: 3 },
      steps: { kind: "counter", value: 3 },
    });
    assert.throws(() => m.counter("steps").add(-1), { code: "ERR_INPUT" });
  });

  it("tells quantiles as the bound of their bucket, never above the largest value", () => {
    const h = createMetrics().histogram("ms", [1, 10, 100]);
    assert.ok(Number.isNaN(h.quantile(0.5)));
    for (let i = 0; i < 98; i++) h.record(0.7);
    h.record(7);
    h.record(70);
    assert.deepEqual([0.5, 0.98, 0.99, 1].map((q) => h.quantile(q)), [1, 1, 10, 70]);
  });

  it("MET-2: one name is one instrument of one kind", () => {
    const m = createMetrics();
    assert.equal(m.counter("a"), m.counter("a"));
    assert.throws(() => m.gauge("a"), { code: "ERR_INPUT", message: /is a counter/ });
    assert.throws(() => m.histogram("h", [1, 1]), { code: "ERR_INPUT", message: /ascending/ });
  });
});

describe("event-loop meter", () => {
  /** A clock whose timers fire when told to, however late. */
  function handClock(): Clock & { now_: number; fire(): void; armed: number } {
    let next: (() => void) | undefined;
    return {
      now_: 0,
      get armed() { return next ? 1 : 0; },
      now() { return this.now_; },
      after(_, fire) {
        next = fire;
        return () => (next = undefined);
      },
      fire() {
        const due = next;
        next = undefined;
        due?.();
      },
    };
  }

  it("ED-1: counts ticks, those late by more than 50 ms, and the worst", () => {
    const clock = handClock();
    const meter = measureEventLoop({ clock });
    for (const elapsed of [1, 1, 51, 52, 1, 201]) { // due after 1 ms each: late by 0, 0, 50, 51, 0, 200
      clock.now_ += elapsed;
      clock.fire();
    }
    assert.deepEqual(meter.read(), { ticks: 6, late: 2, worstMs: 200 });
    meter.reset();
    assert.deepEqual(meter.read(), { ticks: 0, late: 0, worstMs: 0 });
    meter.stop();
    assert.equal(clock.armed, 0);
  });

  it("notices a held event loop", async () => {
    const meter = measureEventLoop({ lateMs: 5 });
    await new Promise((resolve) => setTimeout(resolve, 5));
    for (const end = performance.now() + 20; performance.now() < end; );
    await new Promise((resolve) => setTimeout(resolve, 5));
    meter.stop();
    assert.ok(meter.read().late >= 1 && meter.read().worstMs >= 15, JSON.stringify(meter.read()));
  });
});
