import assert from "node:assert/strict";
import { native } from "../../runtime/native.ts";
import { type Event, octavo } from "./octavo.ts";

/** `octavo doctor --fabric` with a listener of its own on this host. */
describe("octavo doctor --fabric", function () {
  this.timeout(120_000);
  const readings = async (env: Record<string, string>): Promise<Event[]> => {
    const ended = await octavo(["doctor", "--fabric", "localhost"], { env });
    assert.equal(ended.code, 0, ended.stderr);
    return ended.events.filter(({ event }) => event === "fabric");
  };
  /** The share of the bytes that the loopback interface counted. */
  const onLoopback = ({ bytes, counted }: Event): number => ((counted as { device: string; bytes: number }[]).find(({ device }) => device === "lo")?.bytes ?? 0) / (bytes as number);

  it("proves by the counters of the network which lane goes through it, and how fast each is", async () => {
    const found = await readings({ UCX_TLS: "tcp", UCX_NET_DEVICES: "lo" }), by = new Map(found.map((reading) => [reading.lane, reading]));
    assert.deepEqual([...by.keys()], ["shared-memory", ...(native().ucxInfo().usable ? ["ucx"] : []), "zeromq"]);
    assert.ok(onLoopback(by.get("shared-memory")!) < 0.01);
    assert.ok(onLoopback(by.get("zeromq")!) > 0.95);
    assert.ok(found.every(({ seconds }) => (seconds as number) > 0));
    if (!by.has("ucx")) return;
    assert.deepEqual(by.get("ucx")!.transports, ["tcp/lo"]);
    assert.ok(onLoopback(by.get("ucx")!) > 0.95);
  });

  it("shows that shared memory carries the reads of ucx where it may choose", async function () {
    if (!native().ucxInfo().usable) this.skip();
    const ucx = (await readings({})).find(({ lane }) => lane === "ucx")!;
    assert.match((ucx.transports as string[]).join(), /memory/);
    assert.ok(onLoopback(ucx) < 0.01);
  });

  it("says what to run where nobody answers", async () => {
    const ended = await octavo(["doctor", "--fabric", "127.0.0.1:1"]);
    assert.equal(ended.code, 1);
    assert.match(ended.stdout + ended.stderr, /octavo doctor --fabric-listen 18515/);
  });
});
