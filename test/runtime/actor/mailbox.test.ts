import assert from "node:assert/strict";
import { type ActorContext, defineActor } from "../../../runtime/actor/definition.ts";
import type { RuntimeError } from "../../../runtime/errors.ts";
import { Mailbox } from "../../../runtime/actor/mailbox.ts";
import { type World, gate, settled, worlds } from "./world.ts";

const slow = defineActor({
  name: "slow",
  init: (config: { gate: Promise<void>; got: number[] }) => config,
  endpoints: {
    async take(state, n: number) {
      await state.gate;
      state.got.push(n);
    },
    async glance(state, n: number) {
      await state.gate;
      state.got.push(-n);
    },
  },
  interleave: ["glance"],
  mailbox: { capacity: 3 },
});

for (const [name, start] of Object.entries(worlds)) {
  describe(`mailbox ${name}`, () => {
    let w: World;
    beforeEach(async () => void (w = await start()));
    afterEach(() => w.end());

    it("MB-1: begins 500 messages of one sender in the order sent", async () => {
      const got: number[] = [];
      const list = defineActor({ name: "list", init: () => got, endpoints: { push: async (state, n: number) => { await null; state.push(n); } } });
      const ref = await w.spawn(list, undefined);
      for (let n = 0; n < 499; n++) ref.push.cast(n);
      await ref.push.call(499);
      assert.deepEqual(got, Array.from({ length: 500 }, (_, n) => n));
    });

    it("MB-2: refuses a call beyond the capacity, drops none that it took", async () => {
      const g = gate();
      const got: number[] = [];
      const ref = await w.spawn(slow, { gate: g.opened, got });
      const running = ref.take.call(0);
      await settled();
      const waiting = [1, 2, 3].map((n) => ref.take.call(n));
      await assert.rejects(ref.take.call(4), { code: "ERR_MAILBOX_FULL" });
      g.open();
      await Promise.all([running, ...waiting]);
      assert.deepEqual(got, [0, 1, 2, 3]);
    });

    it("MB-2: counts interleaved messages that run", async () => {
      const g = gate();
      const ref = await w.spawn(slow, { gate: g.opened, got: [] });
      const running = [1, 2, 3].map((n) => ref.glance.call(n));
      await settled();
      await assert.rejects(ref.glance.call(4), { code: "ERR_MAILBOX_FULL" });
      g.open();
      await Promise.all(running);
      await ref.glance.call(5);
    });

    it("MB-2: a refused cast throws here or comes back from another node", async () => {
      const g = gate();
      const ref = await w.spawn(slow, { gate: g.opened, got: [] });
      const running = ref.take.call(0);
      await settled();
      for (const n of [1, 2, 3]) ref.take.cast(n);
      if (w.here === w.there) assert.throws(() => ref.take.cast(4), { code: "ERR_MAILBOX_FULL" });
      else {
        ref.take.cast(4);
        await settled();
        assert.deepEqual(w.failures.map((f) => [f.address, f.undeliverable, f.failure.code]), [["there/slow", "take", "ERR_MAILBOX_FULL"]]);
      }
      g.open();
      await running;
    });
  });
}

/** The system lane: what systems say to each other waits behind nothing that is full. */
describe("a full mailbox", () => {
  const patient = defineActor({
    name: "patient",
    init: (log: string[]) => log,
    endpoints: {
      wait: (log, word: string, { signal }: ActorContext) => (log.push(`${word} begun`), new Promise<void>((resolve) => signal.addEventListener("abort", () => (log.push(`${word} aborted`), resolve())))),
      fill: () => {},
    },
    mailbox: { capacity: 3 },
  });

  for (const [name, start] of Object.entries(worlds)) {
    describe(name, () => {
      let w: World;
      let log: string[];
      beforeEach(async () => {
        w = await start();
        log = [];
      });
      afterEach(() => w.end());
      const full = async () => {
        const ref = await w.spawn(patient, log);
        const caller = new AbortController();
        const running = ref.wait.call("first", { signal: caller.signal }).then(() => "ended", (error: RuntimeError) => error.code);
        await settled();
        for (let i = 0; i < 3; i++) ref.fill.cast();
        await assert.rejects(ref.fill.call(), { code: "ERR_MAILBOX_FULL" });
        return { ref, caller, running };
      };

      it("lets an abort through to the handler that runs", async () => {
        const { ref, caller, running } = await full();
        caller.abort();
        assert.equal(await running, "ERR_ABORTED");
        await settled();
        assert.deepEqual(log, ["first begun", "first aborted"]);
        await ref.fill.call();
      });

      it("lets a monitor, a stop and the news of it through", async () => {
        const { ref, running } = await full();
        const notices: string[] = [];
        w.here.monitor(ref, ({ reason }) => notices.push(reason));
        await settled();
        await w.there.stopActor(ref);
        await settled();
        assert.deepEqual(notices, ["stopped"]);
        assert.deepEqual(log, ["first begun", "first aborted"]);
        assert.equal(await running, "ended");
      });
    });
  }

  it("of the link lets an abort pass the messages that wait, also the call it is for", async () => {
    const w = await worlds["between two nodes"]();
    const log: string[] = [];
    const ref = await w.spawn(patient, log);
    const caller = new AbortController();
    w.hub!.hold("there");
    const given = assert.rejects(ref.wait.call("late", { signal: caller.signal }), { code: "ERR_ABORTED" });
    let taken = 0;
    assert.throws(() => {
      for (; taken < 100_000; taken++) ref.fill.cast();
    }, { code: "ERR_MAILBOX_FULL" });
    const notices: string[] = [];
    w.here.monitor({ address: "there/nobody" }, ({ reason }) => notices.push(reason));
    caller.abort();
    await given;
    w.hub!.release("there");
    await settled();
    assert.deepEqual([log, notices], [[], ["unknown"]]);
    assert.ok(taken > 8000 && w.failures.every(({ undeliverable }) => undeliverable === "fill")); // its mailbox is small: they came back
    await w.end();
  });
});

describe("mailbox", () => {
  it("keeps the two kinds apart and gives all of them up at once", () => {
    const box = new Mailbox<string>("a/b", 4);
    box.push("o1", false);
    box.push("i1", true);
    box.push("o2", false);
    assert.equal(box.next(true), "i1");
    assert.equal(box.next(false), "o1");
    box.push("i2", true);
    assert.deepEqual(box.takeAll(), ["o2", "i2"]);
    assert.equal(box.waiting, 0);
  });
});
