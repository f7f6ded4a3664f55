import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Ref } from "../../../runtime/actor/definition.ts";
import { type ActorSystem, createActorSystem } from "../../../runtime/actor/system.ts";
import { native } from "../../../runtime/native.ts";
import { createSocketFolder } from "../../../runtime/transport/socket-folder.ts";
import { createZeromqTransport } from "../../../runtime/transport/zeromq.ts";
import { peer } from "./lane-actor.ts";

const megabyte = 2 ** 18; // floats

/** Two children with a link between them; this process directs them. `tls`: the transports that libucp may take. */
class Pair {
  readonly children: ChildProcess[] = [];
  readonly exits: Promise<unknown[]>[] = [];
  readonly folder = createSocketFolder();
  system!: ActorSystem;
  sender!: Ref<typeof peer.endpoints>;
  receiver!: Ref<typeof peer.endpoints>;

  async open(tls: string): Promise<void> {
    const transport = createZeromqTransport({ node: "parent", folder: this.folder.path });
    this.system = createActorSystem({ node: "parent", transport });
    const program = fileURLToPath(new URL("./lane-process.ts", import.meta.url));
    for (const node of ["sender", "receiver"]) {
      const child = spawn(process.execPath, ["--import", "tsx", "--conditions=source", program, this.folder.path, node],
        { stdio: ["ignore", "inherit", "ignore"], env: { ...process.env, UCX_TLS: tls } }); // libucp logs the death that we cause
      this.children.push(child);
      this.exits.push(once(child, "exit"));
      await transport.connect(node);
    }
    [this.sender, this.receiver] = ["sender", "receiver"].map((node) => this.system.remote(peer, node));
  }

  async kill(): Promise<void> {
    this.children[0].kill("SIGKILL");
    await this.exits[0];
  }

  async close(): Promise<void> {
    await this.system.stop();
    for (const child of this.children) child.kill("SIGCONT");
    assert.deepEqual(await this.exits[1], [0, null], "the receiver lives on and ends by itself");
    await this.kill();
    this.folder.remove();
  }
}

describe("a lane whose sender dies", () => {
  let pair: Pair;
  beforeEach(() => void (pair = new Pair()));
  afterEach(() => pair.close());

  it("shared-memory: what was mapped before still arrives, a slab that was not is ERR_LANE", async () => {
    await pair.open("all");
    const sent = [await pair.sender.offer.call({ lane: "shared-memory", floats: megabyte }), await pair.sender.offer.call({ lane: "shared-memory", floats: megabyte })];
    const unknown = await pair.sender.offer.call({ lane: "shared-memory", floats: 100 * megabyte });
    assert.equal(await pair.receiver.fetch.call(sent[0]), "fetched");
    await pair.kill();
    assert.equal(await pair.receiver.fetch.call(sent[1]), "fetched");
    await assert.rejects(pair.receiver.fetch.call(unknown), { code: "ERR_LANE", message: /slabOpen/ });
  });

  for (const [tls, after] of [["tcp", "before the read"], ["tcp", "during the read"]] as const) {
    it(`ucx over ${tls}: killed ${after}, the read ends with ERR_LANE`, async function () {
      if (!native().ucxInfo().usable) this.skip();
      await pair.open(tls);
      const [first, next] = [await pair.sender.offer.call({ lane: "ucx", floats: megabyte }), await pair.sender.offer.call({ lane: "ucx", floats: 64 * megabyte })];
      assert.equal(await pair.receiver.fetch.call(first), "fetched");
      assert.equal(await pair.receiver.held.call("ucx"), 0);
      if (after === "before the read") await pair.kill();
      else pair.children[0].kill("SIGSTOP"); // over tcp the sender's thread answers reads, so this one cannot end
      const reading = pair.receiver.fetch.call(next, { timeoutMs: 10_000 });
      reading.catch(() => undefined); // looked at below
      if (after === "during the read") assert.equal(await pair.receiver.held.call("ucx"), 1, "the read is under way");
      await pair.kill();
      await assert.rejects(reading, { code: "ERR_LANE", message: /tensor "x" from sender: its bytes did not come: .*/ });
    });
  }

  it("ucx over the best transport: killed before the read, it ends with the bytes where they are mapped, else with ERR_LANE", async function () {
    if (!native().ucxInfo().usable) this.skip();
    await pair.open("all");
    const sent = await pair.sender.offer.call({ lane: "ucx", floats: megabyte });
    await pair.kill();
    const outcome = await pair.receiver.fetch.call(sent, { timeoutMs: 10_000 }).catch((error: { code?: string }) => error.code);
    assert.ok(outcome === "fetched" || outcome === "ERR_LANE", `it ended with ${outcome}`);
  });

  it("LA-7: ucx: a read from a sender that stands still ends when its peer is declared dead", async function () {
    if (!native().ucxInfo().usable) this.skip();
    await pair.open("tcp");
    const sent = await pair.sender.offer.call({ lane: "ucx", floats: megabyte });
    pair.children[0].kill("SIGSTOP");
    const reading = pair.receiver.fetch.call(sent, { timeoutMs: 10_000 });
    reading.catch(() => undefined);
    await pair.receiver.peerDown.call({ lane: "ucx", reason: "it stands still" });
    await assert.rejects(reading, { code: "ERR_LANE", message: /it stands still/ });
    assert.equal(await pair.receiver.held.call("ucx"), 1, "late bytes may still come: the slice is not used again");
    await assert.rejects(pair.receiver.fetch.call(sent), { code: "ERR_LANE", message: /its peer is gone: it stands still/ });
  });
});
