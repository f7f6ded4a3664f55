import assert from "node:assert/strict";
import { type ActorContext, defineActor } from "../../../runtime/actor/definition.ts";
import { createSupervisor } from "../../../runtime/actor/supervisor.ts";
import type { DownNotice } from "../../../runtime/actor/system.ts";
import { type World, settled, worlds } from "./world.ts";

const mortal = defineActor({
  name: "mortal",
  init: () => 0,
  endpoints: {
    crash() { throw new Error("tripped"); },
    wait: (_, __: undefined, { signal }: ActorContext) => new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve())),
    ok: () => "ok",
  },
});

for (const [name, start] of Object.entries(worlds)) {
  describe(`monitor ${name}`, () => {
    let w: World;
    let notices: DownNotice[];
    beforeEach(async () => {
      w = await start();
      notices = [];
    });
    afterEach(() => w.end());
    const watch = (address: string): (() => void) => w.here.monitor({ address }, (notice) => notices.push(notice));

    it("MON-1: tells once when the actor stops", async () => {
      const ref = await w.spawn(mortal, undefined);
      watch(ref.address);
      await settled();
      assert.equal(notices.length, 0);
      await w.there.stopActor(ref);
      await settled();
      assert.deepEqual(notices.map((n) => [n.address, n.reason]), [[ref.address, "stopped"]]);
    });

    it("MON-1: tells why it failed, but not of a supervised restart", async () => {
      const ref = await w.spawn(mortal, undefined, { supervisor: createSupervisor({ name: "s", intensity: { max: 1, withinMs: 1000 } }) });
      watch(ref.address);
      ref.crash.cast();
      await settled();
      assert.equal(notices.length, 0);
      ref.crash.cast();
      await settled();
      assert.deepEqual(notices.map((n) => [n.reason, n.failure?.message]), [["failed", "tripped"]]);
    });

    it("MON-2: tells of an actor that was gone before, and of one that never was", async () => {
      const ref = await w.spawn(mortal, undefined);
      await w.there.stopActor(ref);
      watch(ref.address);
      watch(`${w.there.node}/nobody`);
      await settled();
      assert.deepEqual(notices.map((n) => n.reason), ["stopped", "unknown"]);
    });

    it("ends with its interest: nothing is told after it was withdrawn", async () => {
      const ref = await w.spawn(mortal, undefined);
      const [stop] = [watch(ref.address), watch(ref.address)];
      stop();
      await settled();
      await w.there.stopActor(ref);
      await settled();
      assert.equal(notices.length, 1);
    });
  });
}

describe("a node that dies", () => {
  let w: World;
  beforeEach(async () => void (w = await worlds["between two nodes"]()));
  afterEach(() => w.end());

  it("CALL-2: rejects all its pending calls at once; no clock moves", async () => {
    const ref = await w.spawn(mortal, undefined);
    const calls = [1, 2, 3].map(() => assert.rejects(ref.wait.call(), { code: "ERR_DEAD", message: /node there is dead: its process was killed/ }));
    await settled();
    w.here.peerDown("there", "its process was killed");
    await Promise.all(calls);
    assert.equal(w.here.stats.pendingCalls, 0);
  });

  it("is noticed by a broken link, and everyone who cares is told", async () => {
    const ref = await w.spawn(mortal, undefined);
    const notices: string[] = [];
    w.here.monitor(ref, (n) => notices.push(n.reason));
    w.here.onPeerDown((node) => notices.push(`peer ${node}`));
    await settled();
    w.hub!.kill("there");
    await settled();
    assert.deepEqual(notices.sort(), ["node-dead", "peer there"]);
    w.here.monitor(ref, (n) => notices.push(`later ${n.reason}`));
    await settled();
    assert.equal(notices[2], "later node-dead");
  });

  it("messages to it throw ERR_DEAD until it is up again", async () => {
    const ref = await w.spawn(mortal, undefined);
    w.here.peerDown("there", "gone");
    await assert.rejects(ref.ok.call(), { code: "ERR_DEAD" });
    assert.throws(() => ref.ok.cast(), { code: "ERR_DEAD" });
    w.here.peerUp("there");
    assert.equal(await ref.ok.call(), "ok");
  });

  it("a node without a link is unreachable, which is another fact than dead", async () => {
    const notices: string[] = [];
    const far = w.here.remote(mortal, "elsewhere");
    await assert.rejects(far.ok.call(), { code: "ERR_UNREACHABLE" });
    assert.throws(() => far.ok.cast(), { code: "ERR_UNREACHABLE" });
    w.here.monitor(far, (n) => notices.push(n.reason));
    await settled();
    assert.deepEqual(notices, ["unreachable"]);
  });

  it("a peer that does not read cannot make its senders wait", async () => {
    const ref = await w.spawn(mortal, undefined);
    w.hub!.hold("there");
    const call = assert.rejects(ref.ok.call(undefined, { timeoutMs: 100 }), { code: "ERR_DEADLINE" });
    await settled();
    w.clock.advance(100);
    await call;
    w.hub!.release("there");
    assert.equal(await ref.ok.call(), "ok");
    await settled();
    assert.deepEqual(w.failures, []);
  });
});
