import assert from "node:assert/strict";
import { simulatedClock } from "../../../runtime/clock.ts";
import { Pulse, type RankProgress, type Vitals, beatMs, leastSilenceMs, vitalsOf } from "../../../runtime/pipeline/run/pulse.ts";

/** Two ranks; a test says what they do. */
function world() {
  const clock = simulatedClock(), told: string[] = [];
  const ranks: Record<string, { progress: RankProgress; answers: boolean; vitals: Vitals | undefined }> = {};
  for (const name of ["image", "text"]) ranks[name] = { progress: { done: 0, at: "F0" }, answers: true, vitals: { state: "S", cpuMs: 0 } };
  const work = { underWay: true, steps: 1 };
  const pulse = new Pulse({
    clock, ranks: Object.keys(ranks), work: () => work, vitals: (name) => ranks[name].vitals,
    ask: (name) => (ranks[name].answers ? Promise.resolve(ranks[name].progress) : new Promise(() => {})),
    stands: (name, what) => told.push(`${name} ${what}`),
  });
  return {
    clock, ranks, work, told, pulse,
    /** Beat by beat; `each` happens in between. */
    async pass(ms: number, each: () => void = () => {}) {
      for (let at = 0; at < ms; at += beatMs) {
        each();
        clock.advance(beatMs);
        for (let i = 0; i < 3; i++) await Promise.resolve();
      }
    },
    advance: (name: string) => void (ranks[name].progress = { done: ranks[name].progress.done + 1, at: `F${ranks[name].progress.done + 1}` }),
  };
}

describe("pulse", () => {
  it("PU-1: a rank that was stopped is told after ten seconds of silence, once, with where it was", async () => {
    const w = world();
    await w.pass(5000, () => w.advance("image"));
    Object.assign(w.ranks.text, { answers: false, vitals: { state: "T", cpuMs: 50 } });
    await w.pass(leastSilenceMs, () => w.advance("image"));
    assert.deepEqual(w.told, []);
    await w.pass(60_000, () => w.advance("image"));
    assert.deepEqual(w.told, ["text stands still: its process lives, but was stopped (SIGSTOP or a debugger), and has not answered for 11 s, at F0"]);
  });

  it("PU-1: one that computes without answering is busy; one that sleeps without answering stands still after a minute", async () => {
    const w = world();
    w.ranks.text.answers = false;
    await w.pass(120_000, () => (w.advance("image"), (w.ranks.text.vitals!.cpuMs += 500)));
    assert.deepEqual(w.told, []);
    await w.pass(62_000, () => w.advance("image"));
    assert.match(w.told.join(), /^text stands still: its process lives \(state S\), but has neither answered nor computed for 61 s/);
  });

  it("PU-1: one that cannot be looked at is unreachable, not dead", async () => {
    const w = world();
    Object.assign(w.ranks.text, { answers: false, vitals: undefined });
    await w.pass(63_000, () => w.advance("image"));
    assert.match(w.told.join(), /^text is unreachable: its process was not reported dead, but has not answered for 61 s/);
  });

  it("PU-2: a schedule in which nothing moves is told after a minute, ten in the first step; the rank furthest behind is named", async () => {
    for (const [steps, ms] of [[1, 60_000], [0, 600_000]]) {
      const w = world();
      w.work.steps = steps;
      await w.pass(3000, () => w.advance("image"));
      await w.pass(ms);
      assert.deepEqual(w.told, []);
      await w.pass(4000);
      assert.match(w.told.join(), new RegExp(`^text does not advance: no worker has come further for ${ms / 1000 + 1} s, and it is the furthest behind, at F0$`));
    }
  });

  it("PU-2: what has taken long before may take long again; between steps nothing need move", async () => {
    const w = world();
    await w.pass(20_000);
    w.advance("text");
    await w.pass(600_000);
    assert.deepEqual(w.told, [], "fifty times twenty seconds");
    w.work.underWay = false;
    await w.pass(2_000_000);
    assert.deepEqual(w.told, []);
    w.pulse.stop();
  });

  it("PU-3: time in which this process stood still counts for nobody", async () => {
    const w = world();
    await w.pass(3000);
    Object.assign(w.ranks.text, { answers: false, vitals: { state: "T", cpuMs: 50 } });
    const now = w.clock.now;
    let leapMs = 3_600_000;
    w.clock.now = () => now() + leapMs; // all timers are late by an hour
    await w.pass(leastSilenceMs - beatMs);
    assert.deepEqual(w.told, []);
    leapMs = 3_600_000;
    await w.pass(3 * beatMs);
    assert.equal(w.told.length, 1);
  });

  it("looks at processes of this host by number and name", () => {
    const { state, cpuMs } = vitalsOf(process.pid, process.argv0)!;
    assert.equal(state, "R");
    assert.ok(cpuMs > 0);
    assert.equal(vitalsOf(process.pid, "octavo worker"), undefined);
    assert.equal(vitalsOf(2 ** 22 + 1, ""), undefined);
  });
});
