import assert from "node:assert/strict";
import type { Span, SpanKind } from "../../../runtime/metrics/index.ts";
import { explainTrace, formatExplanation } from "../../../runtime/pipeline/run/explain.ts";
import { rankAuthors } from "../../../runtime/pipeline/schedule/authors.ts";
import { placeStages } from "../../../runtime/pipeline/schedule/schedule.ts";
import { formatTrace, measuredCosts, readTrace, stepsOf, traceOf, type RankSpans } from "../../../runtime/pipeline/run/trace.ts";

const span = (on: Span["on"], kind: SpanKind, name: string, begin: number, end: number, more: Partial<Span> = {}): Span => ({ on, kind, name, step: 3, begin, end, ...more });
const compute = (stage: string, name: string, begin: number, end: number, step = 3): Span => span("device", "compute", name, begin, end, { stage, microbatch: Number(name.slice(1)), step });

/** Two stages, two microbatches, 1F1B: the second stage is three times slower. Microseconds from 1000. */
const ranks: RankSpans[] = [
  { rank: "encoder", host: "a", spans: [
    compute("encoder", "F0", 1000, 1100), compute("encoder", "F1", 1100, 1200), span("device", "transfer", "activations 1 to decoder", 1200, 1220, { peer: "decoder" }),
    span("host", "wait-for-input", "gradients 0 of decoder", 1150, 1700, { peer: "decoder" }), compute("encoder", "B0", 1700, 1900),
    span("host", "wait-for-input", "gradients 1 of decoder", 1750, 2300, { peer: "decoder" }), compute("encoder", "B1", 2300, 2500), span("device", "optimizer", "update", 2600, 2650),
  ] },
  { rank: "decoder", host: "a", spans: [
    span("host", "wait-for-input", "activations 0 of encoder", 1010, 1110, { peer: "encoder" }), compute("decoder", "F0", 1100, 1300), compute("decoder", "B0", 1300, 1700),
    compute("decoder", "F1", 1700, 1900), compute("decoder", "B1", 1900, 2300),
  ] },
];
const placement = placeStages({ stages: [{ name: "encoder", depth: 0, backward: true, steps: true }, { name: "decoder", depth: 1, backward: true, steps: true }], edges: [{ from: "encoder", to: "decoder", gradient: true, credits: 2 }] });
const schedule = rankAuthors["1f1b"](placement, 2);

describe("trace", () => {
  it("TR-1, TR-3 comes back as it was written, times from its own beginning", () => {
    const trace = traceOf("tiny", ranks, schedule), read = readTrace(formatTrace(trace), "trace.json");
    const moved = (spans: readonly { begin: number; end: number }[]): unknown => spans.map((one) => ({ ...one, begin: one.begin + 1000, end: one.end + 1000 }));
    assert.deepEqual(read.ranks.map(({ rank, host, spans }) => ({ rank, host, spans: JSON.parse(JSON.stringify(moved(spans))) as unknown })), JSON.parse(JSON.stringify(ranks)));
    assert.deepEqual(moved(read.planned), trace.planned);
    assert.equal(read.run, "tiny");
    assert.equal(read.schedule, "1f1b");
    const events = (JSON.parse(formatTrace(trace)) as { traceEvents: { ph: string; ts?: number }[] }).traceEvents;
    assert.ok(events.every(({ ph, ts }) => ph === "M" || (ph === "X" && ts! >= 0)), "what Perfetto reads");
  });

  it("TR-2 plans with the mean cost of what was measured", () => {
    const { compute: costs } = measuredCosts(ranks, schedule);
    assert.deepEqual([...costs], [100, 200, 0, 0, 200, 400, 0, 0]);
    const planned = traceOf("tiny", ranks, schedule).planned.filter(({ rank }) => rank === "decoder");
    assert.deepEqual(planned.map(({ name, begin, end }) => [name, begin, end]), [["1F0", 1100, 1300], ["1B0", 1300, 1700], ["1F1", 1700, 1900], ["1B1", 1900, 2300]]);
  });

  it("a step lasts until the next begins", () => {
    const more = [{ ...ranks[0], spans: [...ranks[0].spans, compute("encoder", "F0", 3000, 3100, 4)] }, ranks[1]];
    assert.deepEqual(stepsOf(more), [{ step: 3, begin: 1000, end: 3000 }, { step: 4, begin: 3000, end: 3100 }]);
  });

  it("refuses what is no trace, naming the file", () => {
    assert.throws(() => readTrace("{", "a.json"), /a\.json: expected a trace written by octavo train --trace, found no JSON/);
    assert.throws(() => readTrace("{}", "a.json"), /found format null/);
    const cut = JSON.parse(formatTrace(traceOf("tiny", ranks))) as { traceEvents: { name: string }[] };
    cut.traceEvents = cut.traceEvents.filter(({ name }) => name !== "process_name");
    assert.throws(() => readTrace(JSON.stringify(cut), "a.json"), /an event "F0" of no rank/);
  });
});

describe("explain", () => {
  const { ranks: [encoder, decoder], ...whole } = explainTrace(traceOf("tiny", ranks, schedule));
  const rounded = (shares: object): object => Object.fromEntries(Object.entries(shares).map(([cause, share]) => [cause, Math.round(1650 * (share as number))]));

  it("EX-1 gives every moment of a rank one cause", () => {
    assert.deepEqual(rounded(encoder.shares), { compute: 600, transfer: 20, optimizer: 50, "wait-for-input": 880, "between steps": 100 });
    assert.deepEqual(rounded(decoder.shares), { compute: 1200, "wait-for-input": 90, "between steps": 360 });
    for (const { shares } of [encoder, decoder]) assert.ok(Math.abs(Object.values(shares).reduce((sum, share) => sum + share, 0) - 1) < 1e-12);
  });

  it("EX-1 a call within what computes counts as the call", () => {
    const { ranks: [one] } = explainTrace(traceOf("nested", [{ rank: "a", host: "h", spans: [compute("a", "F0", 0, 100), span("device", "collective", "tensor of a", 20, 60), compute("a", "B0", 100, 200)] }]));
    assert.deepEqual(one.shares, { compute: 0.8, collective: 0.2 });
  });

  it("EX-2 names who was at work while others waited", () => {
    assert.deepEqual(encoder.waitedFor.map(({ rank, what, share }) => [rank, what, Math.round(1650 * share)]), [["decoder", "compute", 880]]);
    assert.deepEqual(decoder.waitedFor.map(({ rank, what, share }) => [rank, what, Math.round(1650 * share)]), [["encoder", "compute", 90]]);
  });

  it("EX-2 follows a chain of waits to its end, and ends where it closes", () => {
    const wait = (peer: string): Span => span("host", "wait-for-input", `activations 0 of ${peer}`, 0, 100, { peer });
    const chain = explainTrace(traceOf("chain", [
      { rank: "a", host: "h", spans: [compute("a", "F0", 0, 100)] }, { rank: "b", host: "h", spans: [wait("a")] }, { rank: "c", host: "h", spans: [wait("b")] },
    ]));
    assert.deepEqual(chain.ranks[2].waitedFor, [{ rank: "a", what: "compute", share: 1 }]);
    const circle = explainTrace(traceOf("circle", [{ rank: "a", host: "h", spans: [wait("b")] }, { rank: "b", host: "h", spans: [wait("a")] }, { rank: "c", host: "h", spans: [compute("c", "F0", 0, 100)] }]));
    assert.deepEqual(circle.ranks[0].waitedFor, [{ rank: "b", what: "wait-for-input", share: 1 }]);
  });

  it("says it in words, the plan beside it", () => {
    assert.deepEqual([whole.steps, whole.stepMs, whole.plannedMs], [[3], 1.65, 1.5]);
    const text = formatExplanation({ ...whole, ranks: [encoder, decoder] });
    assert.match(text, /^tiny: step 4, 1\.6 ms each; schedule 1f1b, by the plan with these costs 1\.5 ms\n/);
    assert.match(text, /decoder computes most: 72\.7 % of a step\./);
    assert.match(text, /encoder waited 53\.3 % while decoder: compute\./);
  });
});
