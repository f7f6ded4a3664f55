import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { simulatedClock } from "../../../runtime/clock.ts";
import { Deadlines } from "../../../runtime/actor/deadlines.ts";

describe("deadlines", () => {
  it("DL-1: each expires once, at its time and not before, unless it was cancelled", () => {
    const clock = simulatedClock(), deadlines = new Deadlines(clock);
    const seen: string[] = [];
    const due = [5, 70, 5, 200, 6, 65].map((ms, i) => deadlines.after(ms, () => seen.push(`${i} at ${clock.now()}`)));
    deadlines.cancel(due[4]);
    deadlines.cancel(due[4]);
    clock.advance(4.9);
    assert.deepEqual(seen, []);
    clock.advance(300);
    assert.deepEqual(seen, ["0 at 5", "2 at 5", "5 at 65", "1 at 70", "3 at 200"]);
    deadlines.cancel(due[0]);
    assert.equal(deadlines.size, 0);
  });

  it("DL-1: a thousand seeded ones agree with a timer each, those made and cancelled while others expire too", () => {
    const clock = simulatedClock(), deadlines = new Deadlines(clock);
    let seed = 7;
    const random = (n: number): number => (seed = (seed * 48_271) % 2_147_483_647) % n;
    const mine: string[] = [], theirs: string[] = [];
    const open = (name: string): void => {
      const ms = random(500);
      const wheel = deadlines.after(ms, () => {
        mine.push(`${name} ${clock.now()}`);
        if (random(3) === 0) deadlines.cancel(deadlines.after(random(50), () => mine.push("never")));
      });
      const timer = clock.after(ms, () => theirs.push(`${name} ${clock.now()}`));
      if (random(4) === 0) (deadlines.cancel(wheel), timer());
    };
    for (let i = 0; i < 1000; i++) {
      open(`${i}`);
      clock.advance(random(5));
    }
    clock.advance(1000);
    assert.deepEqual(mine.sort(), theirs.sort());
    assert.ok(mine.length > 600);
  });

  it("DL-2: cancelled deadlines keep no process alive, waiting ones do", () => {
    const run = (then: string): number => {
      const program = `import { Deadlines } from ${JSON.stringify(fileURLToPath(new URL("../../../runtime/actor/deadlines.ts", import.meta.url)))};
        import { realClock } from ${JSON.stringify(fileURLToPath(new URL("../../../runtime/clock.ts", import.meta.url)))};
        const deadlines = new Deadlines(realClock);
        ${then}`;
      const begun = performance.now();
      const { status, stderr } = spawnSync(process.execPath, ["--import", "tsx", "--conditions=source", "--input-type=module", "-e", program], { encoding: "utf8", timeout: 20_000 });
      assert.equal(status, 5, stderr);
      return performance.now() - begun;
    };
    assert.ok(run("deadlines.cancel(deadlines.after(30_000, () => process.exit(1))); process.exitCode = 5;") < 15_000);
    run("deadlines.cancel(deadlines.after(30_000, () => {})); deadlines.after(50, () => { process.exitCode = 5; });");
  });
});
