import assert from "node:assert/strict";
import { type ActorContext, defineActor, type InitContext } from "../../../runtime/actor/definition.ts";
import { type RestartIntensity, type RestartStrategy, createSupervisor } from "../../../runtime/actor/supervisor.ts";
import type { RuntimeError } from "../../../runtime/errors.ts";
import { type World, gate, settled, worlds } from "./world.ts";

/** Counts its lives; `crash` is fatal when cast. */
const worker = defineActor({
  name: "worker",
  init: (config: { log: string[]; failInit?: (life: number) => boolean }) => {
    const life = config.log.filter((l) => l.startsWith("init")).length + 1;
    config.log.push(`init ${life}`);
    if (config.failInit?.(life)) throw new Error(`init ${life} fails`);
    return { ...config, life, count: 0 };
  },
  endpoints: {
    count: (state) => ++state.count,
    life: (state) => state.life,
    crash(state, word: string) { throw new Error(`${word} in life ${state.life}`); },
    note(state, word: string) { state.log.push(`${word} in life ${state.life}`); },
  },
  terminate: (state) => void state.log.push(`terminate ${state.life}`),
});

/** One of several children that share a log. */
const sibling = defineActor({
  name: "sibling",
  init: (config: { name: string; log: string[]; lives: number; failInit?: (life: number) => boolean }) => {
    const life = ++config.lives;
    if (config.failInit?.(life)) {
      config.log.push(`init ${config.name}${life} fails`);
      throw new Error(`init ${life} fails`);
    }
    config.log.push(`init ${config.name}${life}`);
    return { ...config, life };
  },
  endpoints: {
    life: (state) => state.life,
    crash(state, word: string) { throw new Error(`${word} in life ${state.life}`); },
    note(state, word: string) { state.log.push(`${word} ${state.name}${state.life}`); },
    wait: (_, __: undefined, { signal }: ActorContext) => new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve())),
  },
  terminate: (state) => void state.log.push(`terminate ${state.name}${state.life}`),
});

async function siblings(w: World, strategy: RestartStrategy, intensity?: RestartIntensity, failInit?: (life: number) => boolean) {
  const log: string[] = [], supervisor = createSupervisor({ name: "all", strategy, intensity });
  const refs = [];
  for (const name of ["a", "b", "c"]) refs.push(await w.spawn(sibling, { name, log, lives: 0, failInit: name === "c" ? failInit : undefined }, { name, supervisor }));
  return { log, refs, supervisor };
}

for (const [name, start] of Object.entries(worlds)) {
  describe(`supervisor ${name}`, () => {
    let w: World;
    beforeEach(async () => void (w = await start()));
    afterEach(() => w.end());

    it("SUP-1: starts a failed actor again with fresh state under the same reference", async () => {
      const log: string[] = [];
      const ref = await w.spawn(worker, { log }, { supervisor: createSupervisor({ name: "s" }) });
      assert.equal(await ref.count.call(), 1);
      assert.equal(await ref.count.call(), 2);
      ref.crash.cast("x");
      await settled();
      assert.equal(await ref.count.call(), 1);
      assert.equal(await ref.life.call(), 2);
      assert.deepEqual(log, ["init 1", "terminate 1", "init 2"]);
      assert.deepEqual(w.failures, []);
    });

    it("MB-3: messages that waited survive the restart in order; the one that failed does not come again", async () => {
      const log: string[] = [];
      const ref = await w.spawn(worker, { log }, { supervisor: createSupervisor({ name: "s" }) });
      ref.note.cast("before");
      ref.crash.cast("x");
      for (const word of ["a", "b"]) ref.note.cast(word);
      assert.equal(await ref.life.call(), 2);
      assert.deepEqual(log, ["init 1", "before in life 1", "terminate 1", "init 2", "a in life 2", "b in life 2"]);
    });

    it("SUP-2: one failure more than the budget stops the other children and reaches the system, with the chain of causes", async () => {
      const logs: string[][] = [[], []];
      const supervisor = createSupervisor({ name: "pool", intensity: { max: 2, withinMs: 1000 } });
      const ref = await w.spawn(worker, { log: logs[0] }, { name: "one", supervisor });
      const other = await w.spawn(worker, { log: logs[1] }, { name: "two", supervisor });
      for (let i = 0; i < 3; i++) {
        ref.crash.cast("x");
        await settled();
      }
      assert.deepEqual(logs[0].filter((l) => l.startsWith("init")), ["init 1", "init 2", "init 3"]);
      assert.deepEqual(logs[1], ["init 1", "terminate 1"]);
      assert.equal(w.failures.length, 1);
      assert.match(w.failures[0].failure.message, /supervisor "pool" gives up: .*\/one failed once more after 2 restarts within 1000 ms/);
      assert.equal(w.failures[0].failure.cause?.message, "x in life 3");
      await assert.rejects(other.count.call(), { code: "ERR_DEAD" });
    });

    it("SUP-2: the budget comes back as time passes", async () => {
      const log: string[] = [];
      const ref = await w.spawn(worker, { log }, { supervisor: createSupervisor({ name: "s", intensity: { max: 1, withinMs: 1000 } }) });
      for (let i = 0; i < 3; i++) {
        ref.crash.cast("x");
        await settled();
        w.clock.advance(1001);
      }
      assert.equal(await ref.life.call(), 4);
      assert.deepEqual(w.failures, []);
    });

    it("SUP-3: an init that fails while restarting uses up the budget", async () => {
      const log: string[] = [];
      const supervisor = createSupervisor({ name: "s", intensity: { max: 2, withinMs: 1000 } });
      const ref = await w.spawn(worker, { log, failInit: (life) => life > 1 }, { supervisor });
      ref.crash.cast("x");
      await settled();
      assert.deepEqual(log, ["init 1", "terminate 1", "init 2", "init 3"]);
      assert.equal(w.failures[0].failure.cause?.message, "init 3 fails");
      assert.equal(supervisor.restarts, 2);
    });

    for (const [strategy, expected] of [
      ["one-for-one", ["terminate b1", "init b2"]],
      ["one-for-all", ["terminate b1", "terminate c1", "terminate a1", "init a2", "init b2", "init c2"]],
      ["rest-for-one", ["terminate b1", "terminate c1", "init b2", "init c2"]],
    ] as const) {
      it(`SUP-4: ${strategy}: who ends and begins again, and in which order`, async () => {
        const { log, refs, supervisor } = await siblings(w, strategy);
        const stopped: string[] = [];
        for (const ref of refs) w.here.monitor(ref, ({ address }) => stopped.push(address));
        refs[1].crash.cast("x");
        refs[2].note.cast("waits"); // MB-3 holds for those that are taken along, too
        await settled();
        assert.deepEqual(log.slice(3).filter((line) => !line.includes("waits")), expected);
        assert.equal(log.filter((line) => line.startsWith("waits")).length, 1);
        assert.equal(supervisor.restarts, 1);
        assert.deepEqual(stopped, []);
        assert.deepEqual(await Promise.all(refs.map((ref) => ref.life.call())), ["a", "b", "c"].map((name) => (expected.some((line) => line === `init ${name}2`) ? 2 : 1)));
        assert.deepEqual(w.failures, []);
      });

      it(`SUP-2: ${strategy}: a budget of restarts holds for all children together`, async () => {
        const { log, refs } = await siblings(w, strategy, { max: 2, withinMs: 1000 });
        for (const i of [0, 1, 2]) {
          refs[i].crash.cast("x");
          await settled();
        }
        assert.match(w.failures[0].failure.message, /gives up: .*\/c failed once more after 2 restarts within 1000 ms/);
        assert.equal(w.there.stats.actors, 0);
        assert.equal(log.filter((line) => line.startsWith("init")).length, log.filter((line) => line.startsWith("terminate")).length);
      });
    }

    it("SUP-4: a call that runs in an actor taken along is answered with the cause, and its context aborts", async () => {
      const { refs } = await siblings(w, "one-for-all");
      const call = assert.rejects(refs[2].wait.call(), (error: RuntimeError) => error.code === "ERR_DEAD" && /restarted with another that failed/.test(error.message) && (error.cause as Error).message === "x in life 1");
      await settled();
      refs[0].crash.cast("x");
      await call;
      assert.equal(await refs[2].life.call(), 2);
    });

    it("SUP-3: an init that fails while others are restarted with it is one more failure, and all begin again", async () => {
      const { log, refs, supervisor } = await siblings(w, "one-for-all", undefined, (life) => life === 2);
      refs[0].crash.cast("x");
      await settled();
      assert.deepEqual(log.slice(3), ["terminate a1", "terminate c1", "terminate b1", "init a2", "init b2", "init c2 fails", "terminate b2", "terminate a2", "init a3", "init b3", "init c3"]);
      assert.equal(supervisor.restarts, 2);
    });

    it("SUP-5: two that fail at once are restarted once", async () => {
      const { log, refs, supervisor } = await siblings(w, "one-for-all");
      refs[1].crash.cast("x");
      refs[2].crash.cast("y");
      await settled();
      assert.equal(supervisor.restarts, 1);
      assert.deepEqual(log.filter((line) => line.startsWith("init")), ["init a1", "init b1", "init c1", "init a2", "init b2", "init c2"]);
      assert.equal(await refs[2].life.call(), 2);
    });

    it("SUP-4: a child that is asked to stop while all begin again stays stopped, the others live", async () => {
      const { log, refs } = await siblings(w, "one-for-all");
      refs[0].crash.cast("x");
      await Promise.resolve();
      await w.there.stopActor(refs[1]);
      await settled();
      assert.equal(await refs[2].life.call(), 2);
      await assert.rejects(refs[1].life.call(), { code: "ERR_DEAD" });
      assert.deepEqual(log.filter((line) => line.includes(" b")), ["init b1", "terminate b1"]);
    });

    it("tells about each restart, with its cause", async () => {
      const events: unknown[] = [];
      const supervisor = createSupervisor({ name: "s", onRestart: (e) => events.push([e.address, e.failure.message, e.restarts, e.restarted]) });
      const ref = await w.spawn(worker, { log: [] }, { supervisor });
      ref.crash.cast("x");
      await settled();
      assert.deepEqual(events, [[`${w.there.node}/worker`, "x in life 1", 1, [`${w.there.node}/worker`]]]);
    });
  });
}

describe("ownership", () => {
  const parent = defineActor({
    name: "parent",
    init: async (config: { log: string[]; supervised?: boolean }, context: InitContext) => {
      const supervisor = config.supervised ? createSupervisor({ name: "children", intensity: { max: 0, withinMs: 1000 } }) : undefined;
      return { ...config, child: await context.spawn(worker, { log: config.log }, { name: "child", supervisor }) };
    },
    endpoints: { hurt: (state) => state.child.crash.cast("x") },
    terminate: ({ log }) => void log.push("terminate parent"),
  });
  let w: World;
  beforeEach(async () => void (w = await worlds["in one node"]()));
  afterEach(() => w.end());

  it("children stop before their owner", async () => {
    const log: string[] = [];
    const ref = await w.spawn(parent, { log });
    await w.here.stopActor(ref);
    assert.deepEqual(log, ["init 1", "terminate 1", "terminate parent"]);
    assert.equal(w.here.stats.actors, 0);
  });

  it("an unhandled failure of a child fails its owner, with the child's error as cause", async () => {
    const log: string[] = [];
    const ref = await w.spawn(parent, { log });
    await ref.hurt.call();
    await settled();
    assert.deepEqual(log, ["init 1", "terminate 1", "terminate parent"]);
    assert.deepEqual(w.failures.map((f) => [f.address, f.failure.message, f.failure.cause?.message]), [["here/parent", "actor here/child failed.", "x in life 1"]]);
  });

  it("SUP-2: a supervisor that gives up fails the owner of its children", async () => {
    const ref = await w.spawn(parent, { log: [], supervised: true });
    await ref.hurt.call();
    await settled();
    assert.equal(w.failures[0].address, "here/parent");
    assert.match(w.failures[0].failure.message, /supervisor "children" gives up/);
    assert.equal(w.failures[0].failure.cause?.message, "x in life 1");
  });

  it("a child that fails while its owner is still in init fails the owner afterwards", async () => {
    const hasty = defineActor({
      name: "hasty",
      init: async (log: string[], context: InitContext) => {
        const child = await context.spawn(worker, { log }, { name: "child" });
        child.crash.cast("early");
        await settled();
        return log;
      },
      endpoints: { ok: () => 1 },
      terminate: (log) => void log.push("terminate hasty"),
    });
    const log: string[] = [];
    await w.spawn(hasty, log);
    await settled();
    assert.deepEqual(log, ["init 1", "terminate 1", "terminate hasty"]);
    assert.equal(w.failures[0].failure.cause?.message, "early in life 1");
  });

  it("stopping an actor whose restart is in the middle of init stops it once that is through", async () => {
    const log: string[] = [];
    const [g, again] = [gate(), gate()];
    const patient = defineActor({
      name: "patient",
      init: async () => {
        log.push("init");
        if (log.length > 1) again.open();
        if (log.length > 1) await g.opened;
      },
      endpoints: { crash() { throw new Error("x"); } },
      terminate: () => void log.push("terminate"),
    });
    const ref = await w.spawn(patient, undefined, { supervisor: createSupervisor({ name: "s" }) });
    ref.crash.cast();
    await again.opened;
    const stopping = w.here.stopActor(ref);
    g.open();
    await stopping;
    assert.deepEqual(log, ["init", "terminate", "init", "terminate"]);
    assert.equal(w.here.stats.actors, 0);
  });

  it("stopping an actor that is being restarted stops it for good", async () => {
    const log: string[] = [];
    const ref = await w.spawn(worker, { log }, { supervisor: createSupervisor({ name: "s" }) });
    ref.crash.cast("x");
    await Promise.resolve().then(() => w.here.stopActor(ref));
    await settled();
    await assert.rejects(ref.count.call(), { code: "ERR_DEAD" });
    assert.equal(log.filter((l) => l.startsWith("init")).length, log.filter((l) => l.startsWith("terminate")).length);
    assert.equal(w.here.stats.actors, 0);
  });
});
