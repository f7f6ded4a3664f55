import assert from "node:assert/strict";
import { type ActorContext, defineActor, withAttachments } from "../../../runtime/actor/definition.ts";
import { createActorSystem } from "../../../runtime/actor/system.ts";
import { RuntimeError, ShapeError } from "../../../runtime/errors.ts";
import { decode, encode } from "../../../runtime/transport/codec.ts";
import { createHub } from "../../../runtime/transport/in-process.ts";
import { type World, gate, settled, worlds } from "./world.ts";

/** Notes what happens to it, in order. */
const scribe = defineActor({
  name: "scribe",
  init: (config: { log: string[]; gates?: Record<string, Promise<void>> }) => config,
  endpoints: {
    async write(state, word: string) {
      state.log.push(`begin ${word}`);
      await state.gates?.[word];
      state.log.push(`end ${word}`);
      return state.log.length;
    },
    note(state, word: string) {
      state.log.push(word);
    },
    async wait(state, word: string, { signal }: ActorContext) {
      await new Promise((_, reject) => signal.addEventListener("abort", () => {
        state.log.push(`${word}: ${(signal.reason as Error).message}`);
        reject(signal.reason as Error);
      }));
    },
    trouble(_, kind: "shape" | "chain" | "text") {
      if (kind === "shape") throw new ShapeError({ op: "matmul", operand: "weight", expected: "(2, *)", got: [3, 4], fix: "Turn it." });
      if (kind === "text") throw "just words";
      throw new RuntimeError("ERR_DATA", "page 7 is unreadable", { page: 7 }, { cause: new Error("broken JPEG", { cause: new Error("disk") }) });
    },
    echo: (_, x: unknown) => x,
    about: (_, __: undefined, context: ActorContext) => ({ from: context.from, self: context.self, deadline: context.deadline, trace: context.trace }),
    reverse: (_, __: undefined, { attachments }: ActorContext) => withAttachments(attachments.length, [...attachments].reverse()),
  },
  interleave: ["note"],
  terminate: ({ log }) => void log.push("terminated"),
});

for (const [name, start] of Object.entries(worlds)) {
  describe(`actor ${name}`, () => {
    let w: World;
    beforeEach(async () => void (w = await start()));
    afterEach(() => w.end());

    it("AC-1: runs one message at a time, to the end of its promise, in the order sent", async () => {
      const log: string[] = [];
      const [a, b] = [gate(), gate()];
      const ref = await w.spawn(scribe, { log, gates: { a: a.opened, b: b.opened } });
      const calls = [ref.write.call("a")];
      await settled();
      calls.push(ref.write.call("b"), ref.write.call("c"));
      b.open();
      await settled();
      assert.deepEqual(log, ["begin a"]);
      a.open();
      assert.deepEqual(await Promise.all(calls), [2, 4, 6]);
      assert.deepEqual(log, ["begin a", "end a", "begin b", "end b", "begin c", "end c"]);
    });

    it("AC-2: an interleaved endpoint reaches an actor whose handler waits, in its own order", async () => {
      const log: string[] = [];
      const a = gate();
      const ref = await w.spawn(scribe, { log, gates: { a: a.opened } });
      const writing = ref.write.call("a");
      await settled();
      for (const word of ["1", "2", "3"]) ref.note.cast(word);
      await ref.note.call("4");
      assert.deepEqual(log, ["begin a", "1", "2", "3", "4"]);
      a.open();
      await writing;
    });

    it("AC-3: an error in a call is the caller's; the actor lives on with its state", async () => {
      const log: string[] = [];
      const ref = await w.spawn(scribe, { log });
      await assert.rejects(ref.trouble.call("chain"), { code: "ERR_DATA" });
      assert.equal(await ref.write.call("x"), 2);
      assert.deepEqual(w.failures, []);
    });

    it("AC-3: an error in a cast is nobody's: the actor fails and the system's listeners hear why", async () => {
      const log: string[] = [];
      const ref = await w.spawn(scribe, { log });
      ref.trouble.cast("chain");
      await settled();
      assert.equal(w.failures.length, 1);
      assert.equal(w.failures[0].address, `${w.there.node}/scribe`);
      assert.equal(w.failures[0].failure.details.page, 7);
      assert.deepEqual(log, ["terminated"]);
      await assert.rejects(ref.write.call("x"), (error: RuntimeError) => error.code === "ERR_DEAD" && (error.cause as RuntimeError).code === "ERR_DATA");
    });

    it("AC-4: terminate runs once, after the last handler has ended", async () => {
      const log: string[] = [];
      const a = gate();
      const ref = await w.spawn(scribe, { log, gates: { a: a.opened } });
      const writing = ref.write.call("a");
      await settled();
      const stopping = Promise.all([w.there.stopActor(ref), w.there.stopActor(ref)]);
      await settled();
      assert.deepEqual(log, ["begin a"]);
      a.open();
      await stopping;
      assert.equal(await writing, 2);
      assert.deepEqual(log, ["begin a", "end a", "terminated"]);
    });

    it("gives up on a handler that does not end within its grace, and tells its caller", async () => {
      const log: string[] = [];
      const ref = await w.spawn(scribe, { log, gates: { a: gate().opened } });
      const lost = assert.rejects(ref.write.call("a"), { code: "ERR_DEAD" });
      await settled();
      const stopping = w.there.stopActor(ref);
      await settled();
      w.clock.advance(5000);
      await stopping;
      await lost;
      assert.deepEqual(log, ["begin a", "terminated"]);
    });

    it("CALL-1: a call settles at its deadline and its handler's signal aborts", async () => {
      const log: string[] = [];
      const ref = await w.spawn(scribe, { log });
      const call = assert.rejects(ref.wait.call("x", { timeoutMs: 700 }), { code: "ERR_DEADLINE" });
      await settled();
      w.clock.advance(699);
      await settled();
      assert.deepEqual(log, []);
      w.clock.advance(1);
      await call;
      await settled();
      assert.deepEqual(log, [`x: ${ref.address}.wait: the deadline of the call has passed.`]);
      assert.equal(w.here.stats.pendingCalls, 0);
    });

    it("CALL-1: a call that waits past its deadline never begins", async () => {
      const log: string[] = [];
      const a = gate();
      const ref = await w.spawn(scribe, { log, gates: { a: a.opened } });
      const first = ref.write.call("a", { timeoutMs: 5000 });
      const second = assert.rejects(ref.write.call("b", { timeoutMs: 1000 }), { code: "ERR_DEADLINE" });
      await settled();
      w.clock.advance(1000);
      await second;
      a.open();
      await first;
      await ref.write.call("c");
      assert.deepEqual(log, ["begin a", "end a", "begin c", "end c"]);
    });

    it("CALL-1: calls made within a handler have no more time than it has itself", async () => {
      const ref = await w.spawn(scribe, { log: [] });
      const asker = defineActor({
        name: "asker",
        init: () => w.there.remote(scribe, w.there.node),
        endpoints: { ask: (peer, _: undefined, context: ActorContext) => peer.about.call(undefined, { within: context, timeoutMs: 60_000 }) },
      });
      const about = await (await w.spawn(asker, undefined)).ask.call(undefined, { timeoutMs: 250 });
      assert.equal(about.deadline, 250);
      assert.equal(about.from, `${w.there.node}/asker`);
      assert.match(about.trace, new RegExp(`^${w.here.node}\\.`), "the trace begins with the first caller");
      await ref.echo.call(1);
    });

    it("CALL-1: refuses deadlines that no timer can hold", async () => {
      const ref = await w.spawn(scribe, { log: [] });
      await assert.rejects(ref.echo.call(1, { timeoutMs: Infinity }), { code: "ERR_INPUT" });
      await assert.rejects(ref.echo.call(1, { timeoutMs: NaN }), { code: "ERR_INPUT" });
      await assert.rejects(ref.echo.call(1, { timeoutMs: 0 }), { code: "ERR_DEADLINE" });
    });

    it("CALL-2: calls that wait or run reject at once when the actor fails or stops", async () => {
      const ref = await w.spawn(scribe, { log: [], gates: { a: gate().opened } });
      const dead = (call: Promise<unknown>): Promise<void> => assert.rejects(call, { code: "ERR_DEAD" });
      const running = dead(ref.write.call("a"));
      const waiting = dead(ref.write.call("b"));
      await settled();
      const stopping = w.there.stopActor(ref);
      await waiting;
      w.clock.advance(5000);
      await stopping;
      await running;
      await dead(ref.echo.call(1));
    });

    it("CALL-3: aborting rejects at once and aborts the handler", async () => {
      const log: string[] = [];
      const ref = await w.spawn(scribe, { log });
      const controller = new AbortController();
      const call = assert.rejects(ref.wait.call("x", { signal: controller.signal }), { code: "ERR_ABORTED" });
      await settled();
      controller.abort(new Error("enough"));
      await call;
      await settled();
      assert.deepEqual(log, [`x: ${ref.address}.wait: the caller gave up.`]);
      await assert.rejects(ref.echo.call(1, { signal: controller.signal }), { code: "ERR_ABORTED" });
    });

    it("CALL-4: errors arrive with code, details, place and chain of causes", async () => {
      const ref = await w.spawn(scribe, { log: [] });
      await assert.rejects(ref.trouble.call("chain"), (error: RuntimeError) => {
        assert.deepEqual(error.details, { at: `${w.there.node}/scribe.trouble`, page: 7 });
        assert.equal((error.cause as Error).message, "broken JPEG");
        assert.equal(((error.cause as Error).cause as Error).message, "disk");
        return true;
      });
      await assert.rejects(ref.trouble.call("shape"), { code: "ERR_SHAPE", message: "matmul: weight expected (2, *), got (3, 4). Turn it." });
      await assert.rejects(ref.trouble.call("text"), { code: "ERR_ACTOR", message: "just words" });
    });

    it("carries payloads and attachments both ways", async () => {
      const ref = await w.spawn(scribe, { log: [] });
      const payload = { loss: 2.345678901234567, list: [1, null, "x"], big: 2n ** 60n, bytes: Uint8Array.of(1, 2), nested: { a: { b: [] } } };
      assert.deepEqual(await ref.echo.call(payload), payload);
      const sent = [Uint8Array.of(1), Uint8Array.from({ length: 100_000 }, (_, i) => i % 251)];
      const { reply, attachments } = await ref.reverse.fetch(undefined, { attachments: sent });
      assert.equal(reply, 2);
      assert.deepEqual(attachments.map((a) => Buffer.compare(a, sent[1 - attachments.indexOf(a)])), [0, 0]);
    });

    it("names what is missing: endpoint, actor, with the nearest spelling", async () => {
      await w.spawn(scribe, { log: [] });
      const other = defineActor({ name: "scribe", init: () => null, endpoints: { wrote: (_: null, x: string) => x } });
      await assert.rejects(w.here.remote(other, w.there.node).wrote.call("x"), (e: RuntimeError) => e.code === "ERR_ENDPOINT" && e.message.includes('did you mean "write"?'));
      await assert.rejects(w.here.remote(other, w.there.node, "scrib").wrote.call("x"), (e: RuntimeError) => e.code === "ERR_ADDRESS" && e.message.includes('did you mean "scribe"?'));
    });

    it("spawn rejects with the error of init, and the name is free again", async () => {
      const fragile = defineActor({ name: "fragile", init: (fail: boolean) => { if (fail) throw new RuntimeError("ERR_DATA", "no file"); return 0; }, endpoints: { ok: () => 1 } });
      await assert.rejects(w.spawn(fragile, true), { code: "ERR_DATA" });
      assert.equal(await (await w.spawn(fragile, false)).ok.call(), 1);
      await assert.rejects(w.spawn(fragile, false), { code: "ERR_ADDRESS" });
    });

    it("stop rejects pending calls with ERR_ABORTED and refuses later ones", async () => {
      const ref = await w.spawn(scribe, { log: [], gates: { a: gate().opened } });
      const aborted = assert.rejects(ref.write.call("a"), { code: "ERR_ABORTED" });
      const stopping = w.here.stop();
      await aborted;
      w.clock.advance(5000);
      await settled();
      w.clock.advance(5000);
      await stopping;
      await assert.rejects(ref.echo.call(1), { code: "ERR_ABORTED" });
      assert.throws(() => ref.note.cast("x"), { code: "ERR_DEAD" });
    });
  });
}

describe("actor", () => {
  it("takes no answer that was meant for an earlier process of its name", async () => {
    const hub = createHub();
    const [transport, raw] = [hub.transport("here"), hub.transport("raw")];
    const system = createActorSystem({ node: "here", transport });
    await Promise.all([transport.connect("raw"), raw.connect("here")]);
    raw.onMessage((_, frames) => {
      const call = decode(frames);
      const reply = { ...call, kind: "reply" as const, from: call.to, to: call.from };
      raw.send("here", encode({ ...reply, incarnation: call.incarnation + 1, payload: "old" }));
      raw.send("here", encode({ ...reply, sequence: 1, payload: "right" }));
    });
    assert.equal(await system.remote(scribe, "raw").echo.call("x"), "right");
    await Promise.all([system.stop(), raw.close()]);
  });

  it("hears of messages that pretend to come from elsewhere, and of garbage", async () => {
    const hub = createHub();
    const [transport, raw] = [hub.transport("here"), hub.transport("raw")];
    const system = createActorSystem({ node: "here", transport });
    const codes: string[] = [];
    system.onFailure(({ address, failure }) => codes.push(`${address} ${failure.code}`));
    await Promise.all([transport.connect("raw"), raw.connect("here")]);
    const forged = { kind: "cast" as const, id: 0, from: "admin/x", to: "here/y", endpoint: "z", deadlineMs: 0, trace: "", incarnation: 0, session: 1, sequence: 0, payload: 0, attachments: [] };
    raw.send("here", encode(forged));
    raw.send("here", [Uint8Array.of(0xc1)]);
    await settled();
    assert.deepEqual(codes, ["raw/- ERR_ENVELOPE", "raw/- ERR_ENVELOPE"]);
    await Promise.all([system.stop(), raw.close()]);
  });

  it("does not starve the event loop when two actors answer each other for ever", async () => {
    const system = createActorSystem({ node: "a" });
    const ping = defineActor({
      name: "ping",
      init: (peer: string) => ({ peer, count: 0 }),
      endpoints: {
        hit(state, _: undefined, { system }: ActorContext) {
          state.count++;
          system.remote(ping, "a", state.peer).hit.cast();
        },
        count: (state) => state.count,
      },
    });
    await system.spawn(ping, "two", { name: "one" });
    const two = await system.spawn(ping, "one", { name: "two" });
    two.hit.cast();
    await new Promise((resolve) => setTimeout(resolve, 1)); // never fires if microtasks alone carry the messages
    assert.ok((await two.count.call()) as number > 10);
    await system.stop();
  });

  it("refuses endpoint names that references use", () => {
    assert.throws(() => defineActor({ name: "x", init: () => 0, endpoints: { then: () => 1 } }), { code: "ERR_ENDPOINT" });
  });
});
