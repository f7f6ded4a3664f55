import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RunEvent } from "../../../runtime/index.ts";
import { createConsoleTracker } from "../../../plugins/tracker/console.ts";
import { createJsonLinesTracker } from "../../../plugins/tracker/json-lines.ts";

const start = (runFolder: string): RunEvent => ({ event: "start", run: "tiny", runFolder, seed: 1, precision: "f32", steps: 25, parameters: 1234567, processes: [{ stage: "image", components: ["image"] }] });
const step = (n: number): RunEvent => ({ event: "step", step: n, loss: 7.5 - n / 10, losses: { mlm: 7 }, lr: 1e-3, norm: 1, pagesPerSecond: 12.34, etaSeconds: 75, samples: ["a"] });
const end: RunEvent = { event: "end", reason: "stopped", step: 23, loss: 5.2, seconds: 61, runFolder: "runs/x" };

function recorded(o: { terminal: boolean; every?: number }): { written: () => string; event(e: RunEvent): void; close(): Promise<void> } {
  let text = "";
  const tracker = createConsoleTracker({ every: o.every ?? 10, terminal: o.terminal, write: (more) => { text += more; } });
  return { written: () => text, event: (e) => tracker.event(e), close: () => tracker.close() };
}

describe("tracker/console", () => {
  it("writes a line every few steps away from a terminal, the first and last always (CT-1)", () => {
    const tracker = recorded({ terminal: false });
    tracker.event(start("runs/x"));
    for (let n = 0; n < 25; n++) tracker.event(step(n));
    const lines = tracker.written().trimEnd().split("\n");
    assert.equal(lines[0], "run tiny: 25 steps in f32, 1,234,567 parameters, 1 process; runs/x");
    assert.equal(lines[1], "train  step 1/25  loss 7.5000 (mlm 7.000)  12.3 pages/s  1m15s left");
    assert.deepEqual(lines.slice(1).map((line) => /step (\d+)/.exec(line)?.[1]), ["1", "11", "21", "25"]);
  });

  it("shows the last step of a run that stops between two lines", () => {
    const tracker = recorded({ terminal: false });
    tracker.event(start("runs/x"));
    for (let n = 0; n < 24; n++) tracker.event(step(n));
    tracker.event(end);
    assert.deepEqual(tracker.written().trimEnd().split("\n").slice(-2), ["train  step 24/25  loss 5.2000 (mlm 7.000)  12.3 pages/s  1m15s left", "stopped after step 23 in 1m01s, loss 5.2000; runs/x"]);
  });

  it("renews one line on a terminal, and starts a new one for other events (CT-2)", async () => {
    const tracker = recorded({ terminal: true });
    tracker.event(step(0));
    tracker.event(step(1));
    tracker.event({ event: "warning", message: "careful" });
    tracker.event(step(2));
    await tracker.close();
    const text = tracker.written();
    assert.equal(text.split("\n").length, 4, JSON.stringify(text));
    assert.match(text, /^\rtrain {2}step 1\/.*\u001b\[K\rtrain {2}step 2\/[^\n]*\nwarning: careful\n\rtrain {2}step 3\/[^\n]*\n$/);
  });

  it("cuts the renewed line to the width of the terminal", () => {
    let text = "";
    const tracker = createConsoleTracker({ every: 1, terminal: true, write: (more) => { text += more; }, columns: () => 20 });
    tracker.event(step(0));
    assert.equal(text, "\rtrain  step 1/?  lo\u001b[K");
  });

  it("explains a failure with its causes", () => {
    const tracker = recorded({ terminal: false });
    tracker.event({ event: "failure", message: "image stopped", failure: { code: "ERR_RUN", name: "RuntimeError", message: "image stopped", details: {}, cause: { code: "ERR_DEVICE", name: "RuntimeError", message: "kernel gelu failed", details: {} } } });
    assert.equal(tracker.written(), "failed: image stopped\n  because kernel gelu failed\n");
  });
});

describe("tracker/json-lines", () => {
  let folder: string;
  beforeEach(() => { folder = mkdtempSync(join(tmpdir(), "octavo-tracker-")); });
  afterEach(() => rmSync(folder, { recursive: true }));
  const lines = (file = "events.jsonl") => readFileSync(join(folder, file), "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line) as RunEvent);

  it("has each event on disk when the call returns, losses to the last bit (JT-1)", async () => {
    const tracker = createJsonLinesTracker("events.jsonl", folder);
    const loss = 2.3456789012345678;
    tracker.event({ event: "step", step: 12, loss, losses: {}, lr: 0, norm: 0, pagesPerSecond: 0, etaSeconds: 0, samples: [] });
    assert.deepEqual(lines().map((e) => e.event === "step" && e.loss), [loss]);
    tracker.event(end);
    assert.equal(lines().length, 2);
    await tracker.close();
  });

  it("keeps what comes before the run folder is known (JT-2)", async () => {
    const tracker = createJsonLinesTracker("events.jsonl");
    const warning: RunEvent = { event: "warning", message: "early" };
    tracker.event(warning);
    tracker.event(start(folder));
    await tracker.close();
    assert.deepEqual(lines(), [warning, start(folder)]);
  });

  it("adds to a file that is there, as a resumed run does", async () => {
    for (const _ of [1, 2]) {
      const tracker = createJsonLinesTracker("events.jsonl", folder);
      tracker.event(end);
      await tracker.close();
    }
    assert.equal(lines().length, 2);
  });

  it("lets the run go on when the disk refuses, and says so at the end (JT-3)", async () => {
    mkdirSync(join(folder, "events.jsonl"));
    const tracker = createJsonLinesTracker("events.jsonl", folder);
    tracker.event(end);
    await assert.rejects(tracker.close(), { code: "ERR_RUN", message: /events\.jsonl cannot be written/ });
  });
});
