import assert from "node:assert/strict";
import { createTimeline, monotonicUs } from "../../../runtime/metrics/index.ts";
import { native } from "../../../runtime/native.ts";
import { matmul } from "../../../runtime/ops/index.ts";
import { Scope, fence, full, type Tensor } from "../../../runtime/tensor/index.ts";

const compute = { kind: "compute", name: "F0", step: 0, stage: "text", microbatch: 0 } as const;
const wait = { kind: "wait-for-input", name: "activations 0 of text", step: 0, peer: "text" } as const;

describe("timeline", () => {
  it("TL-1 records and stamps nothing while it is off", async () => {
    const stamped: number[] = [];
    const timeline = createTimeline({ stamp: () => stamped.push(0) - 1, stampsTake: () => [] });
    assert.equal(timeline.device(compute, () => 7), 7);
    assert.equal(await timeline.host(wait, async () => 8), 8);
    assert.deepEqual(timeline.take(), []);
    assert.equal(stamped.length, 0);
  });

  it("TL-2, TL-3 says when the stream ran what the host enqueued, on the clock of waits", async () => {
    const timeline = createTimeline(native());
    timeline.on = true;
    const before = monotonicUs();
    const scope = new Scope("timeline");
    scope.enter(() => {
      const x = full([512, 512], 0.5, "f32");
      const multiply = (name: string): Tensor => timeline.device({ ...compute, name }, () => matmul(x, x));
      multiply("F0");
      multiply("F1");
    });
    scope.close();
    await timeline.host(wait, fence);
    const after = monotonicUs();
    const spans = timeline.take();
    const [first, next] = spans.filter(({ on }) => on === "device"), [waited] = spans.filter(({ on }) => on === "host");
    assert.deepEqual([first.name, next.name, waited.name], ["F0", "F1", "activations 0 of text"]);
    const inOrder = [before, first.begin, first.end, next.begin, next.end, after];
    assert.deepEqual(inOrder, [...inOrder].sort((a, b) => a - b));
    assert.ok(next.end <= waited.end && waited.begin >= before, JSON.stringify(spans));
    assert.ok(first.end > first.begin);
    assert.deepEqual(timeline.take(), [], "taken once");
  });

  it("TL-4 keeps the span of work that throws", async () => {
    let now = 0;
    const timeline = createTimeline({ stamp: () => 0, stampsTake: () => [5] }, () => (now += 10));
    timeline.on = true;
    assert.throws(() => timeline.device(compute, () => { throw new Error("no"); }), /no/);
    await assert.rejects(timeline.host(wait, async () => { throw new Error("never"); }), /never/);
    assert.deepEqual(timeline.take(), [{ ...compute, on: "device", begin: 5, end: 5 }, { ...wait, on: "host", begin: 10, end: 20 }]);
  });

  it("stamps are taken of an idle stream only", async () => {
    await fence();
    const scope = new Scope("timeline");
    scope.enter(() => {
      const x = full([1024, 1024], 0.5, "f32");
      matmul(x, x);
    });
    scope.close();
    native().stamp();
    assert.throws(() => native().stampsTake(), /stampsTake: \d+ commands are pending; await fence\(\) first/);
    await fence();
    assert.equal(native().stampsTake().length, 1);
  });
});
