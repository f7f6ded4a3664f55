import assert from "node:assert/strict";
import { rank, rankNode } from "../../../runtime/pipeline/run/rank.ts";
import type { RuntimeError } from "../../../runtime/errors.ts";
import { fence, memory } from "../../../runtime/tensor/index.ts";
import { type KillWorld, killWorld, schedules } from "./kill-world.ts";

const numKills = 200;

/** Lehmer's generator: the same kills every run. */
function seeded(seed: number): (n: number) => number {
  let state = (seed * 7919 + 1) % 2_147_483_647;
  return (n) => (state = (state * 48_271) % 2_147_483_647) % n;
}

/** The clock stands still: what is not over after so many turns of the event loop waits for ever. */
async function settles<T>(what: string, work: Promise<T>): Promise<T> {
  let over = false;
  const watched = work.finally(() => (over = true));
  watched.catch(() => {});
  for (const begun = performance.now(); !over; ) {
    if (performance.now() - begun > 10_000) throw new Error(`${what}: hangs`);
    await new Promise((resolve) => setImmediate(resolve));
  }
  return watched;
}

/** How many events a whole run has, by schedule: a kill comes at one of them. */
const numEvents = new Map<string, number>();

describe("ranks that are killed at any action of the schedule", function () {
  this.timeout(120_000);

  for (const schedule of schedules) {
    it(`none killed: the steps of ${schedule} run, and nothing is left`, async () => {
      const tensors = memory().tensors;
      const w = await killWorld(schedule, seeded(1)), before = w.events;
      await settles("the run", w.run());
      numEvents.set(schedule, w.events - before);
      await nothingLeft(w, tensors);
    });
  }

  it(`${numKills} seeded kills: never a hang, everybody learns, nothing is left`, async () => {
    const victims = new Map<string, number>();
    for (let seed = 1; seed <= numKills; seed++) {
      const random = seeded(seed), schedule = schedules[seed % schedules.length], tensors = memory().tensors;
      const w = await killWorld(schedule, random);
      const victim = w.names[random(w.names.length)], at = 1 + random(numEvents.get(schedule)!);
      const what = `seed ${seed}: ${victim} killed at event ${at} under ${schedule}`;
      w.killAt(victim, at);
      const ended = await settles(what, w.run().then(() => undefined, (error: unknown) => error as RuntimeError));
      if (w.killed) {
        victims.set(victim, (victims.get(victim) ?? 0) + 1);
        await everybodyLearnt(what, w, victim, ended);
      }
      await settles(`${what}, the end`, nothingLeft(w, tensors));
    }
    assert.ok([...victims.values()].reduce((a, b) => a + b) > 0.9 * numKills && victims.size === 4, JSON.stringify([...victims]));
  });
});

/** The driver hears the victim's name; the others have given up their step (`introduce` waits for it), and know that the victim is gone. */
async function everybodyLearnt(what: string, w: KillWorld, victim: string, ended: RuntimeError | undefined): Promise<void> {
  if (ended) assert.ok(["ERR_DEAD", "ERR_ABORTED"].includes(ended.code) && `${ended.message} ${String(ended.cause)}`.includes(victim), `${what}: ${ended.code} ${ended.message}`);
  for (const [name, system] of w.systems) {
    if (name === victim) continue;
    await settles(`${what}: ${name} answers`, w.driver.remote(rank, rankNode(name)).introduce.call());
    await assert.rejects(settles(`${what}: ${name} asks`, system.remote(rank, rankNode(victim)).introduce.call()), ({ code }: RuntimeError) => ["ERR_DEAD", "ERR_UNREACHABLE"].includes(code));
  }
  await assert.rejects(w.driver.remote(rank, rankNode(victim)).introduce.call(), { code: "ERR_DEAD" }, what);
  assert.equal(w.driver.stats.pendingCalls, 0, what);
}

async function nothingLeft(w: KillWorld, tensors: number): Promise<void> {
  await w.end();
  await fence();
  for (const { node, stats } of [w.driver, ...w.systems.values()]) {
    assert.deepEqual({ pendingCalls: stats.pendingCalls, actors: stats.actors, waitingMessages: stats.waitingMessages, deadlines: stats.deadlines }, { pendingCalls: 0, actors: 0, waitingMessages: 0, deadlines: 0 }, node);
  }
  assert.equal(memory().tensors, tensors, "tensors left");
}
