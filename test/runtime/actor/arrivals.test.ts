import assert from "node:assert/strict";
import { Arrivals } from "../../../runtime/actor/arrivals.ts";
import { defineActor } from "../../../runtime/actor/definition.ts";
import { missingMs } from "../../../runtime/actor/peers.ts";
import { type ActorSystem, createActorSystem } from "../../../runtime/actor/system.ts";
import { simulatedClock } from "../../../runtime/clock.ts";
import type { Envelope } from "../../../runtime/transport/envelope.ts";
import { createHub } from "../../../runtime/transport/in-process.ts";
import { settled } from "./world.ts";
import { unruly } from "./unruly-transport.ts";

const message = (session: number, sequence: number, kind: Envelope["kind"] = "cast"): Envelope =>
  ({ kind, id: 0, from: "a/x", to: "b/y", endpoint: "e", deadlineMs: 0, trace: "", incarnation: 1, session, sequence, payload: `${session}.${sequence}`, attachments: [] });

function listener(): { arrivals: Arrivals; got: unknown[]; take(...messages: Envelope[]): void } {
  const arrivals = new Arrivals(), got: unknown[] = [];
  return { arrivals, got, take: (...messages) => messages.forEach((m) => arrivals.accept(m, ({ payload }) => got.push(payload))) };
}

describe("arrivals", () => {
  it("AR-1: lets each message through once, in order, whatever order they come in", () => {
    const { arrivals, got, take } = listener();
    take(message(1, 0), message(1, 2), message(1, 2), message(1, 0), message(1, 3));
    assert.deepEqual([got, arrivals.missing], [["1.0"], 1]);
    take(message(1, 1), message(1, 1), message(1, 3));
    assert.deepEqual([got, arrivals.missing, arrivals.dropped], [["1.0", "1.1", "1.2", "1.3"], undefined, 4]);
  });

  it("AR-1: signals are numbered by themselves, so that they may overtake", () => {
    const { got, take } = listener();
    take(message(1, 0, "signal"), message(1, 1), message(1, 1, "signal"), message(1, 0));
    assert.deepEqual(got, ["1.0", "1.1", "1.0", "1.1"]);
  });

  it("AR-2: a session begins with its first message; what comes of earlier ones is dropped, also what waited", () => {
    const { arrivals, got, take } = listener();
    take(message(1, 0), message(1, 2), message(2, 1), message(2, 0), message(1, 1), message(1, 2), message(2, 2));
    assert.deepEqual([got, arrivals.dropped], [["1.0", "2.0", "2.1", "2.2"], 2]);
  });

  it("AR-3: a gap beyond its bound is told", () => {
    const { arrivals } = listener();
    const taken = Array.from({ length: 4098 }, (_, i) => arrivals.accept(message(1, i + 1), () => {}));
    assert.deepEqual([taken.indexOf(false), arrivals.missing], [4096, 0]);
  });
});

/** Notes what comes; the note is the reply. */
const notes = defineActor({
  name: "notes",
  init: (): number[] => [],
  endpoints: { note: (state, n: number) => state.push(n) && n, all: (state) => [...state] },
});

describe("a transport that duplicates and reorders when it connects again", () => {
  async function world(seed: number) {
    let state = seed;
    const random = (n: number): number => (state = (state * 48_271) % 2_147_483_647) % n;
    const clock = simulatedClock(), hub = createHub({ clock });
    const ends = ["here", "there"].map((node) => unruly(hub.transport(node), random));
    const systems = ends.map((transport) => createActorSystem({ node: transport.node, transport, clock }));
    const connect = (): Promise<unknown> => Promise.all([ends[0].connect("there"), ends[1].connect("here")]);
    await connect();
    await systems[1].spawn(notes, undefined);
    return {
      clock, ends, random, systems: systems as [ActorSystem, ActorSystem], far: systems[0].remote(notes, "there"),
      async reconnect() {
        await ends[0].disconnect("there");
        await connect();
        for (const end of ends) end.reconnected();
      },
      end: () => Promise.all(systems.map((system) => system.stop())),
    };
  }

  for (const seed of [1, 2, 3, 4, 5, 6]) {
    it(`AR-1: every message arrives once and in order, every call is answered by its own answer (seed ${seed})`, async () => {
      const w = await world(seed);
      let next = 0;
      for (let round = 0; round < 5; round++) {
        const calls: Promise<unknown>[] = [];
        for (let i = 0; i < 60; i++) {
          const n = next++;
          if (w.random(3) === 0) calls.push(w.far.note.call(n).then((reply) => assert.equal(reply, n)));
          else w.far.note.cast(n);
          if (w.random(20) === 0) await settled();
        }
        await Promise.all(calls);
        await settled(); // all that was sent has arrived: what comes of it later comes again
        await w.reconnect();
      }
      assert.deepEqual(await w.far.all.call(), Array.from({ length: next }, (_, i) => i));
      assert.ok(w.systems.every(({ stats }) => stats.droppedMessages > 10), JSON.stringify(w.systems.map(({ stats }) => stats)));
      assert.deepEqual(w.systems.map(({ stats }) => [stats.pendingCalls, stats.waitingMessages, stats.deadlines]), [[0, 0, 0], [0, 0, 0]]);
      await w.end();
    });
  }

  it("AR-3: a lost message ends the link: its calls reject as unreachable, not dead, and the other end learns it", async () => {
    const w = await world(1);
    await w.far.note.call(0);
    const notices: string[] = [], peers: string[] = [];
    w.systems[0].monitor(w.far, ({ reason, message }) => notices.push(`${reason}: ${message}`));
    w.systems[1].onPeerDown((node) => peers.push(node));
    await settled();
    w.ends[0].lose(true);
    const lost = assert.rejects(w.far.note.call(1), { code: "ERR_UNREACHABLE", message: /node there is unreachable: message 1 of its link to here was lost/ });
    await settled();
    const behind = assert.rejects(w.far.note.call(2), { code: "ERR_UNREACHABLE" });
    await settled();
    w.clock.advance(missingMs);
    await Promise.all([lost, behind]);
    await settled();
    assert.match(notices.join(), /^unreachable: node there is unreachable/);
    assert.deepEqual(peers, ["here"]);
    await assert.rejects(w.far.note.call(3), { code: "ERR_UNREACHABLE" });
    await w.reconnect();
    assert.deepEqual(await w.far.all.call(), [0, 1, 2]);
    await w.end();
  });
});
