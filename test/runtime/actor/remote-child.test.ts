import assert from "node:assert/strict";
import { type ActorContext, type InitContext, defineActor } from "../../../runtime/actor/definition.ts";
import { type Supervisor, createSupervisor } from "../../../runtime/actor/supervisor.ts";
import { type ActorSystem, type UnhandledFailure, createActorSystem } from "../../../runtime/actor/system.ts";
import type { RuntimeError } from "../../../runtime/errors.ts";
import { simulatedClock } from "../../../runtime/clock.ts";
import { createHub, type Hub } from "../../../runtime/transport/in-process.ts";
import { settled } from "./world.ts";

/** What happened over there, by the name of the child: its state is of no use to the owner, and its code does not travel. */
const log: string[] = [];

const child = defineActor({
  name: "child",
  init: ({ name, fails }: { name: string; fails?: boolean }) => {
    if (fails) throw new Error(`${name} has no page`);
    log.push(`init ${name}`);
    return { name };
  },
  endpoints: {
    where: (_, __: undefined, { self }: ActorContext) => self,
    crash(state) { throw new Error(`${state.name} tripped`); },
  },
  terminate: ({ name }) => void log.push(`terminate ${name}`),
});

const owner = defineActor({
  name: "owner",
  init: async (config: { children: string[]; supervisor?: Supervisor }, context: InitContext) => {
    const refs = [];
    for (const name of config.children) refs.push(await context.spawn(child, { name }, { name, node: "there", supervisor: config.supervisor }));
    return { refs };
  },
  endpoints: {
    where: (state, i: number) => state.refs[i].where.call(),
    hurt: (state, i: number) => state.refs[i].crash.cast(),
  },
  terminate: () => void log.push("terminate owner"),
});

describe("children on another node", () => {
  let hub: Hub, clock: ReturnType<typeof simulatedClock>, here: ActorSystem, there: ActorSystem, failures: UnhandledFailure[];
  async function start(node: string): Promise<ActorSystem> {
    const transport = hub.transport(node);
    const system = createActorSystem({ node, transport, clock, definitions: [child] });
    system.onFailure((failure) => failures.push(failure));
    await Promise.all([transport.connect(node === "here" ? "there" : "here"), node === "here" ? undefined : hereTransport?.connect("there")]);
    return system;
  }
  let hereTransport: ReturnType<Hub["transport"]> | undefined;
  beforeEach(async () => {
    [log.length, failures, clock] = [0, [], simulatedClock()];
    hub = createHub({ clock });
    hereTransport = hub.transport("here");
    here = createActorSystem({ node: "here", transport: hereTransport, clock });
    here.onFailure((failure) => failures.push(failure));
    there = await start("there");
  });
  afterEach(async () => {
    const stopped = Promise.all([here.stop(), there.stop()]);
    for (let i = 0; i < 3; i++) {
      await settled();
      clock.advance(30_000);
    }
    await stopped;
    assert.deepEqual([here, there].map(({ stats }) => [stats.actors, stats.pendingCalls, stats.deadlines]), [[0, 0, 0], [0, 0, 0]]);
  });

  it("SUP-6: live there, are named there, and stop before their owner does", async () => {
    const ref = await here.spawn(owner, { children: ["one", "two"] });
    assert.equal(await ref.where.call(1), "there/two");
    await here.stopActor(ref);
    assert.deepEqual(log, ["init one", "init two", "terminate two", "terminate one", "terminate owner"]);
    assert.deepEqual([there.stats.actors, failures], [0, []]);
  });

  it("SUP-6: the failure of one is its owner's, with its error as cause; its own node has nobody to tell", async () => {
    const ref = await here.spawn(owner, { children: ["one"] });
    await ref.hurt.call(0);
    await settled();
    assert.deepEqual(failures.map(({ address, failure }) => [address, failure.message, failure.cause?.message]), [["here/owner", "actor there/one failed.", "one tripped"]]);
    assert.deepEqual(log, ["init one", "terminate one", "terminate owner"]);
  });

  it("SUP-6: a supervisor begins them again over there, the others with them", async () => {
    const supervisor = createSupervisor({ name: "s", strategy: "rest-for-one" });
    const ref = await here.spawn(owner, { children: ["one", "two", "three"], supervisor });
    await ref.hurt.call(1);
    await settled();
    assert.deepEqual(log.slice(3), ["terminate two", "terminate three", "init two", "init three"]);
    assert.equal(await ref.where.call(2), "there/three");
    assert.deepEqual([supervisor.restarts, there.stats.actors, failures], [1, 3, []]);
  });

  it("SUP-6: the death of their node is their failure", async () => {
    await here.spawn(owner, { children: ["one"] });
    hub.kill("there");
    await settled();
    assert.equal(failures[0].address, "here/owner");
    assert.match(failures[0].failure.cause!.message, /node there is dead: the process of there is gone/);
    assert.equal(failures[0].failure.cause!.code, "ERR_DEAD");
    assert.equal(here.stats.actors, 0);
  });

  it("SUP-3, SUP-6: while their node is dead each try uses up the budget; nothing waits", async () => {
    const supervisor = createSupervisor({ name: "s", intensity: { max: 3, withinMs: 1000 } });
    await here.spawn(owner, { children: ["one"], supervisor });
    hub.kill("there");
    await settled();
    assert.equal(supervisor.restarts, 3);
    assert.match(failures[0].failure.message, /supervisor "s" gives up: there\/one failed once more after 3 restarts/);
    assert.equal(here.stats.actors, 0);
  });

  it("SUP-6: on a node that is there again they begin again", async () => {
    const supervisor = createSupervisor({ name: "s", intensity: { max: 3, withinMs: 1000 } });
    const ref = await here.spawn(owner, { children: ["one"], supervisor });
    hub.kill("there");
    there = await start("there"); // before anybody here has noticed more than the end of the link
    await settled();
    assert.equal(await ref.where.call(0), "there/one");
    assert.ok(supervisor.restarts >= 1);
    assert.deepEqual(failures, []);
  });

  it("SUP-6: the death of their owner's node stops them", async () => {
    await here.spawn(owner, { children: ["one"] });
    hub.kill("here");
    await settled();
    assert.equal(there.stats.actors, 0);
    assert.deepEqual(log.filter((line) => line.includes("one")), ["init one", "terminate one"]);
  });

  it("SUP-6: the end of their owner stops them, also of one that fails", async () => {
    const fragile = defineActor({
      name: "fragile",
      init: async (_: undefined, context: InitContext) => void (await context.spawn(child, { name: "one" }, { name: "one", node: "there" })),
      endpoints: { crash() { throw new Error("x"); } },
    });
    const ref = await here.spawn(fragile, undefined);
    ref.crash.cast();
    await settled();
    assert.equal(there.stats.actors, 0);
    assert.deepEqual(log, ["init one", "terminate one"]);
  });

  it("a system may own them itself: they stop with it, and their failure is its own", async () => {
    const one = await here.spawn(child, { name: "one" }, { name: "one", node: "there" });
    await here.spawn(child, { name: "two" }, { name: "two", node: "there" });
    one.crash.cast();
    await settled();
    assert.deepEqual(failures.map(({ address, failure }) => [address, failure.cause?.message]), [["here/-", "one tripped"]]);
    await here.stop();
    assert.equal(there.stats.actors, 0);
  });

  it("an init that fails over there rejects the spawn with its error; an unknown name says what is known", async () => {
    await assert.rejects(here.spawn(child, { name: "one", fails: true }, { node: "there" }), { message: "one has no page" });
    await assert.rejects(here.spawn(owner, { children: [] }, { node: "there" }), { code: "ERR_ADDRESS", message: /node there cannot start an actor "owner": it was given the definitions child/ });
    assert.equal(there.stats.actors, 0);
    assert.deepEqual(failures, []);
  });

  it("a spawn that nobody answers leaves no actor behind, however late it begins", async () => {
    hub.hold("there");
    const spawned = assert.rejects(here.spawn(child, { name: "one" }, { node: "there" }), (error: RuntimeError) => error.code === "ERR_DEADLINE");
    await settled();
    clock.advance(30_000);
    await settled();
    clock.advance(30_000);
    await spawned;
    hub.release("there");
    await settled();
    assert.equal(there.stats.actors, 0);
    assert.equal(log.filter((line) => line.startsWith("init")).length, log.filter((line) => line.startsWith("terminate")).length);
    assert.deepEqual(failures.map(({ failure }) => failure.code), ["ERR_DEADLINE"]); // the stop was not answered either
  });

  it("only its owner stops one", async () => {
    await here.spawn(owner, { children: ["one"] });
    await assert.rejects(here.spawn(child, { name: "x" }, { name: "one", node: "there" }), { code: "ERR_ADDRESS", message: /there\/one exists already/ });
    hub.hold("there");
    const second = assert.rejects(here.spawn(child, { name: "x" }, { name: "one", node: "there" }), { code: "ERR_DEADLINE" });
    for (let i = 0; i < 2; i++) {
      await settled();
      clock.advance(30_000); // nobody answers: the spawn and the stop after it run out of time, and arrive late
    }
    await second;
    hub.release("there");
    await settled();
    assert.equal(there.stats.actors, 1);
    failures.length = 0;
  });
});
