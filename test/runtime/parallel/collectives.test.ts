import assert from "node:assert/strict";
import { connect } from "node:net";
import { readFileSync, readdirSync, readlinkSync } from "node:fs";
import { setTimeout as passed } from "node:timers/promises";
import { RuntimeError } from "../../../runtime/errors.ts";
import { joinGroup, offerGroup } from "../../../runtime/parallel/groups/collectives.ts";
import { fromArray } from "../../../runtime/tensor/index.ts";
import type { Call } from "./collective-bodies.ts";
import { check, everyCall } from "./collective-checks.ts";
import { type GroupProcesses, startGroup } from "./group-processes.ts";
import { type TwoHosts, twoHosts } from "./two-hosts.ts";

const module = new URL("./collective-bodies.ts", import.meta.url);

describe("collectives", function () {
  this.timeout(120_000);

  for (const size of [1, 2, 3, 4]) {
    describe(`of ${size} processes`, () => {
      let group: GroupProcesses;
      before(async () => { group = await startGroup({ size, module }); });
      after(() => group?.end());

      it("CG-1: give every bit that the tree over ranks gives, for every operation, dtype and size", () => check(group, size, everyCall(size)));
      it("pass a barrier together", async () => { await group.run("barrier"); });
    });
  }

  for (const elements of [16, 3_000_000]) {
    for (const delayMs of [0, 100]) {
      it(`CG-2: a member killed ${delayMs} ms into sums of ${elements} elements is named by all others within two seconds, and leaves no memory`, async () => {
        const group = await startGroup({ size: 3, module });
        const outcomes = group.outcomes<{ code: string; message: string; details: { op: string }; failed: string; at: number }>("reduceForever", () => ({ elements }));
        await passed(delayMs);
        const killedAt = Date.now();
        group.processes[1].kill("SIGKILL");
        const [first, killed, last] = await outcomes;
        assert.ok("error" in killed && (killed.error as RuntimeError).code === "ERR_DEAD");
        for (const survivor of [first, last]) {
          assert.ok("result" in survivor, "error" in survivor ? survivor.error.message : "");
          const { code, message, details, failed, at } = survivor.result;
          assert.equal(code, "ERR_COLLECTIVE");
          assert.equal(details.op, "all_reduce");
          assert.match(message, /waiting for rank 1 \(member-1 on host \S+\): its process \d+ has ended/);
          assert.ok(message.includes(failed), `${message} / ${failed}`);
          assert.ok(at - killedAt < 2000, `known after ${at - killedAt} ms`);
        }
        const segment = segmentOf(group.processes[0].pid!);
        assert.ok(segment.length > 0, "a member that lives holds its segment");
        await group.end();
        for (const { pid } of group.processes) assert.deepEqual(segmentOf(pid!), []);
      });
    }
  }

  it("CG-2: a member that gives up ends the waits of all others with its reason", async () => {
    const group = await startGroup({ size: 3, module });
    const messages = await group.run<string>("abortedByZero");
    for (const message of messages) assert.match(message, /rank 0 \(member-0 on host \S+\) gave up: the page was unreadable/);
    await group.end();
  });

  it("CG-2: a member whose device failed tells the others what it was", async () => {
    const group = await startGroup({ size: 3, module });
    const told = await group.run<{ code: string; message: string }>("faultOfOne");
    assert.deepEqual(told.map(({ code }) => code), ["ERR_COLLECTIVE", "ERR_DEVICE", "ERR_COLLECTIVE"]);
    for (const rank of [0, 2]) assert.match(told[rank].message, /all_reduce of group under test, call 1: rank 1 \(member-1 on host \S+\) gave up: gather_rows_forward failed: .*7/);
    await group.end();
  });

  it("CG-2: a process that exits ends the waits of the others, and is not held up by a wait of its own", async () => {
    const group = await startGroup({ size: 3, module });
    const [first, gone, last] = await group.outcomes<string>("exits", () => ({ rank: 1 }));
    assert.ok("error" in gone && /the process ended with 0/.test(gone.error.message));
    for (const other of [first, last]) assert.match("result" in other ? other.result : other.error.message, /rank 1 \(member-1 on host \S+\)( gave up: its process ends|: its process \d+ has ended)/);
    await group.end();
    const waiting = await startGroup({ size: 2, module });
    const begun = Date.now(), [ended] = await waiting.outcomes("exitsWaiting", () => ({ rank: 0 }));
    assert.ok("error" in ended && /the process ended with 3/.test(ended.error.message), JSON.stringify(ended));
    assert.ok(Date.now() - begun < 2000, `${Date.now() - begun} ms`);
    await waiting.end();
  });

  it("are recorded and replayed like any other command", async () => {
    const group = await startGroup({ size: 2, module });
    const sums = [3, 6, 9].map((n) => Float32Array.of(n, 10 * n, 100 * n, n, 10 * n, 100 * n));
    assert.deepEqual(await group.run("replayed"), [sums, sums]);
    await group.end();
  });

  it("CG-2: a member that left is named by those who still want it", async () => {
    const group = await startGroup({ size: 3, module });
    const messages = await group.run<string>("leaveEarly");
    for (const rank of [0, 2]) assert.match(messages[rank], /waiting for rank 1 \(member-1 on host \S+\): it has left the group/);
    await group.end();
  });

  it("a barrier that waits too long says for whom", async () => {
    const group = await startGroup({ size: 3, module, name: "tensor of text" });
    const messages = await group.run<string>("barrierWithoutLast");
    assert.equal(messages[2], "stayed away");
    for (const rank of [0, 1]) assert.match(messages[rank], /^ERR_(DEADLINE barrier tensor of text: waiting for rank 2 \(member-2 on host \S+\)|COLLECTIVE .*waiting for rank 2 \(member-2 on host \S+\), says rank [01] .*)$/);
    assert.ok(messages.some((message) => message.startsWith("ERR_DEADLINE")));
    const later = await group.run<{ message: string }>("oneCall", { op: "allReduce", dtype: "f32", shape: [1] });
    for (const { message } of later) assert.match(message, /waiting for rank 2/);
    await group.end();
  });

  const mismatches: [string, Call, Call, RegExp][] = [
    ["operations", { op: "allReduce", dtype: "f32", shape: [8] }, { op: "allGather", dtype: "f32", shape: [8] }, /all_reduce of f32 x 8 as call 1.*all_gather of f32 x 8 \(1\) as call 1|all_gather of f32 x 8 \(1\) as call 1.*all_reduce of f32 x 8 as call 1/],
    ["sizes", { op: "allReduce", dtype: "f32", shape: [900_000] }, { op: "allReduce", dtype: "f32", shape: [900_001] }, /f32 x 900000 as call 1.*f32 x 900001|f32 x 900001 as call 1.*f32 x 900000/],
    ["dtypes", { op: "allReduce", dtype: "f32", shape: [8] }, { op: "allReduce", dtype: "i32", shape: [8] }, /f32 x 8 as call 1.*i32 x 8|i32 x 8 as call 1.*f32 x 8/],
    ["roots", { op: "broadcast", dtype: "f32", shape: [8], argument: 1 }, { op: "broadcast", dtype: "f32", shape: [8], argument: 2 }, /rank [12].*broadcast/],
  ];
  for (const [what, most, odd, message] of mismatches) {
    it(`CG-3: members that call with different ${what} are told so by name`, async () => {
      const group = await startGroup({ size: 3, module });
      const outcomes = await group.outcomes<{ code: string; message: string } | undefined>("oneCall", (rank) => (rank === 2 ? odd : most));
      const told = outcomes.flatMap((outcome) => ("result" in outcome && outcome.result ? [outcome.result] : []));
      assert.ok(told.length >= 1, "nobody was told");
      for (const failure of told) {
        assert.equal(failure.code, "ERR_COLLECTIVE");
        assert.match(failure.message, message);
      }
      await group.end();
    });
  }

  describe("of two hosts", () => {
    let hosts: TwoHosts;
    before(function () {
      const made = twoHosts();
      if (typeof made === "string") {
        console.log(`      skipped, two hosts cannot be made here: ${made}`);
        this.skip();
      }
      hosts = made;
    });
    after(() => hosts?.remove());

    for (const size of [2, 3]) {
      it(`CG-1: ${size} processes give the same bits, whatever they share`, async () => {
        const group = await startGroup({ size, module, place: hosts.place });
        assert.equal(new Set(group.offers.map(({ place }) => place.host)).size, 2);
        await check(group, size, everyCall(size));
        await group.run("barrier");
        await group.end();
      });
    }

    it("CG-2: a member killed on the other host is named by all others within two seconds", async () => {
      const group = await startGroup({ size: 3, module, place: hosts.place });
      const outcomes = group.outcomes<{ code: string; message: string; at: number }>("reduceForever", () => ({ elements: 300_000 }));
      await passed(200);
      const killedAt = Date.now();
      group.processes[1].kill("SIGKILL");
      const [first, , last] = await outcomes;
      for (const survivor of [first, last]) {
        assert.ok("result" in survivor, "error" in survivor ? survivor.error.message : "");
        assert.equal(survivor.result.code, "ERR_COLLECTIVE");
        assert.match(survivor.result.message, /waiting for rank 1 \(member-1 on host \S+\): .*its process or host has ended/);
        assert.ok(survivor.result.at - killedAt < 2000, `known after ${survivor.result.at - killedAt} ms`);
      }
      await group.end();
    });
  });

  it("refuses seats and offers that do not fit, by name", async () => {
    const seat = { name: "g", rank: 0, size: 2, members: ["a", "b"] };
    assert.throws(() => offerGroup({ ...seat, engine: "ucx" }), { code: "ERR_COLLECTIVE", message: /engine "ucx" does not exist/ });
    assert.throws(() => offerGroup({ ...seat, rank: 2 }), { code: "ERR_COLLECTIVE", message: /rank is 0 to 1, got 2/ });
    assert.throws(() => offerGroup({ ...seat, members: ["a"] }), { code: "ERR_COLLECTIVE", message: /2 members expected/ });
    const [a, b] = [offerGroup(seat), offerGroup({ ...seat, rank: 1 })];
    await assert.rejects(joinGroup(a, [a.offer]), { code: "ERR_COLLECTIVE", message: /2 offers expected, got 1/ });
    await assert.rejects(joinGroup(a, [b.offer, a.offer]), { code: "ERR_COLLECTIVE", message: /expected rank 0 of 2, a/ });
    await assert.rejects(joinGroup(a, [a.offer, b.offer]), { code: "ERR_COLLECTIVE", message: /lives in the same process as rank 0/ });
    const far = { ...b.offer, pid: 1, place: { ...b.offer.place, host: "elsewhere" }, host: "far" };
    await assert.rejects(joinGroup(a, [a.offer, far]), { code: "ERR_COLLECTIVE", message: /share no memory, and b offered no address/ });
    await assert.rejects(joinGroup(a, [a.offer, { ...b.offer, pid: 2 ** 22 + 1 }]), { code: "ERR_COLLECTIVE", message: /rank 1 \(b on host \S+\)/ });
  });

  it("hangs up on a stranger at its port, and says whom it still waits for", async () => {
    const seat = offerGroup({ name: "guarded", rank: 1, size: 2, members: ["a", "b"], address: "127.0.0.1" });
    const far = { ...seat.offer, rank: 0, member: "a", pid: 1, place: { ...seat.offer.place, host: "elsewhere" }, host: "far" };
    const joined = joinGroup(seat, [far, seat.offer], { timeoutMs: 1000 });
    for (const greeting of ["octavog1\0\0\0\0\0\0\0\0" + "0".repeat(16), "GET / HTTP/1.1\r\nHost: somewhere\r\n\r\n"]) {
      const stranger = connect(seat.offer.port, "127.0.0.1").resume();
      stranger.on("error", () => {}); // hung up on while it still writes
      stranger.write(greeting);
      const bytes = await new Promise<number>((resolve) => { stranger.on("close", () => resolve(stranger.bytesRead)); });
      assert.equal(bytes, 0, "a stranger is told nothing");
    }
    await assert.rejects(joined, { code: "ERR_COLLECTIVE", message: /group guarded: rank 1 \(b on host \S+\) cannot join: waiting for rank 0 \(a on host far\)/ });
  });

  it("checks shapes and dtypes at the call", async () => {
    const seat = offerGroup({ name: "alone", rank: 0, size: 1, members: ["me"] });
    const group = await joinGroup(seat, [seat.offer]);
    const sent = fromArray(new Float32Array(1), [1]);
    sent.lock("it was sent");
    assert.throws(() => group.allReduce(sent), { code: "ERR_HANDLE", message: /allReduce: .*may only be read: it was sent/ });
    sent.dispose();
    const x = fromArray(new Float32Array(6), [2, 3]), bytes = fromArray(new Uint8Array(2), [2]);
    assert.throws(() => group.allReduce(bytes), { code: "ERR_DTYPE", message: /allReduce: expected f64, f32, bf16, i64, i32, got u8/ });
    assert.throws(() => group.allGather(x, 2), { code: "ERR_SHAPE", message: /allGather: tensor expected an axis 2/ });
    assert.throws(() => group.broadcast(x, 1), { code: "ERR_COLLECTIVE", message: /root expected 0..0, got 1/ });
    group.close();
    assert.throws(() => group.allReduce(x), { code: "ERR_COLLECTIVE", message: /it is closed/ });
    x.dispose();
    bytes.dispose();
  });
});

/** Descriptors of anonymous segments that a process holds. */
function segmentOf(pid: number): string[] {
  try {
    const links = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
    return [...links, ...readFileSync(`/proc/${pid}/maps`, "utf8").split("\n")].filter((line) => line.includes("memfd:octavo"));
  } catch {
    return []; // the process is gone, and with it all that it held
  }
}
