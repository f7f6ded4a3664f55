import assert from "node:assert/strict";
import { Credits, Inbox } from "../../../runtime/pipeline/run/inbox.ts";

describe("inbox", () => {
  it("IN-1: gives what is there, and what comes later to whoever waits for it", async () => {
    const inbox = new Inbox<number>();
    inbox.put("a", 1);
    assert.equal(await inbox.take("a"), 1);
    const later = inbox.take("b");
    inbox.put("b", 2);
    assert.equal(await later, 2);
    assert.equal(inbox.waiting, 0);
  });

  it("IN-2: refuses a key that comes twice", () => {
    const inbox = new Inbox<number>();
    inbox.put("a", 1);
    assert.throws(() => inbox.put("a", 2), /a arrived twice/);
    assert.deepEqual(inbox.drain(), [1]);
  });

  it("IN-3: fails whoever waits, and whoever comes later, with the first reason", async () => {
    const inbox = new Inbox<number>();
    const waiting = assert.rejects(inbox.take("a"), /peer gone/);
    inbox.fail(new Error("peer gone"));
    inbox.fail(new Error("and everything after it"));
    await waiting;
    await assert.rejects(inbox.take("b"), /peer gone/);
  });

  it("IN-4: a signal ends the wait with its reason; what comes after it stays to be drained", async () => {
    const inbox = new Inbox<number>();
    const caller = new AbortController();
    const waiting = assert.rejects(inbox.take("a", caller.signal), /given up/);
    caller.abort(new Error("given up"));
    await waiting;
    inbox.put("a", 1);
    assert.deepEqual(inbox.drain(), [1]);
    await assert.rejects(inbox.take("b", caller.signal), /given up/);
    assert.equal(inbox.waiting, 0);
  });

  it("IN-4: a signal that aborts after the value came changes nothing", async () => {
    const inbox = new Inbox<number>();
    const caller = new AbortController();
    const waiting = inbox.take("a", caller.signal);
    inbox.put("a", 1);
    caller.abort();
    assert.equal(await waiting, 1);
  });
});

describe("credits", () => {
  it("CR-1: at most `limit` are out, and those who wait get them in order", async () => {
    const credits = new Credits(2);
    await credits.acquire();
    await credits.acquire();
    const got: string[] = [];
    const waiting = ["first", "second"].map((name) => credits.acquire().then(() => got.push(name)));
    credits.giveBack();
    await waiting[0];
    assert.deepEqual(got, ["first"]);
    credits.giveBack();
    await waiting[1];
    assert.deepEqual(got, ["first", "second"]);
    credits.giveBack();
    credits.giveBack();
    assert.throws(() => credits.giveBack(), /more than 2 came back/);
  });

  it("CR-2: whoever gave up gets none, and the next in line gets it", async () => {
    const credits = new Credits(1);
    await credits.acquire();
    const caller = new AbortController();
    const gaveUp = assert.rejects(credits.acquire(caller.signal), /given up/);
    const patient = credits.acquire();
    caller.abort(new Error("given up"));
    await gaveUp;
    credits.giveBack();
    await patient;
    await assert.rejects(credits.acquire(caller.signal), /given up/);
    credits.giveBack();
    await credits.acquire();
  });

  it("CR-3: a dead peer ends every wait", async () => {
    const credits = new Credits(1);
    await credits.acquire();
    const waiting = assert.rejects(credits.acquire(), /peer gone/);
    credits.fail(new Error("peer gone"));
    await waiting;
    await assert.rejects(credits.acquire(), /peer gone/);
  });
});
