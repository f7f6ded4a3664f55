import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { RuntimeError } from "../../../runtime/errors.ts";
import { createHub } from "../../../runtime/transport/in-process.ts";
import { createSocketFolder } from "../../../runtime/transport/socket-folder.ts";
import type { PeerDown, Transport } from "../../../runtime/transport/transport.ts";
import { createZeromqTransport } from "../../../runtime/transport/zeromq.ts";

/** One suite that every transport passes. */
const kinds = {
  "in-process": () => {
    const hub = createHub();
    return { make: (node: string, limits = {}) => hub.transport(node, { limits }), end: () => {}, files: () => [] as string[] };
  },
  zeromq: () => {
    const folder = createSocketFolder();
    return {
      make: (node: string, limits = {}) => createZeromqTransport({ node, folder: folder.path, limits }),
      end: () => folder.remove(),
      files: () => readdirSync(folder.path),
    };
  },
};

const bytes = (text: string): Uint8Array[] => [new TextEncoder().encode(text)];
const text = (frames: Uint8Array[]): string => new TextDecoder().decode(frames[0]);

for (const [name, start] of Object.entries(kinds)) {
  describe(`transport ${name}`, () => {
    const open: Transport[] = [];
    let world: ReturnType<typeof start>;
    beforeEach(() => void (world = start()));
    afterEach(async () => {
      await Promise.all(open.splice(0).map((t) => t.close()));
      world.end();
    });
    const make = (node: string, limits = {}): Transport => {
      const transport = world.make(node, limits);
      open.push(transport);
      return transport;
    };
    async function pair(): Promise<[Transport, Transport]> {
      const [a, b] = [make("a"), make("b")];
      await Promise.all([b.connect("a"), a.connect("b")]);
      return [a, b];
    }
    const messages = (t: Transport, count: number): Promise<Uint8Array[][]> => new Promise((resolve) => {
      const got: Uint8Array[][] = [];
      t.onMessage((_, frames) => got.push(frames) === count && resolve(got));
    });

    it("TR-1: carries 2000 messages in both directions, each once and in order", async () => {
      const [a, b] = await pair();
      const [atA, atB] = [messages(a, 2000), messages(b, 2000)];
      for (let i = 0; i < 2000; i++) {
        a.send("b", bytes(`${i}`));
        b.send("a", bytes(`${i}`));
      }
      const expected = Array.from({ length: 2000 }, (_, i) => `${i}`);
      assert.deepEqual((await atB).map(text), expected);
      assert.deepEqual((await atA).map(text), expected);
    });

    it("TR-1: carries several frames of several sizes as one message, bit for bit", async () => {
      const [a, b] = await pair();
      const sent = [1, 0, 100_000, 3_000_000].map((n) => Uint8Array.from({ length: n }, (_, i) => (i * 7 + n) % 256));
      const arrived = messages(b, 1);
      a.send("b", sent);
      const [frames] = await arrived;
      assert.deepEqual(frames.map((f) => Buffer.compare(f, sent[frames.indexOf(f)])), [0, 0, 0, 0]);
    });

    it("TR-1: keeps messages that arrive before there is a handler", async () => {
      const [a, b] = await pair();
      const replied = messages(a, 1);
      a.send("b", bytes("early"));
      b.send("a", bytes("go"));
      await replied;
      assert.equal(text((await messages(b, 1))[0]), "early");
    });

    it("TR-2: refuses with ERR_MAILBOX_FULL beyond its bound and counts what waits", async () => {
      const [a, b] = [make("a", { messages: 3 }), make("b")];
      await Promise.all([a.connect("b"), b.connect("a")]);
      const arrived = messages(b, 3);
      const refused = ((): RuntimeError | undefined => {
        for (let i = 0; i < 100; i++) {
          try {
            a.send("b", bytes(`${i}`));
          } catch (error) {
            return error as RuntimeError;
          }
        }
      })();
      assert.equal(refused?.code, "ERR_MAILBOX_FULL");
      assert.deepEqual(refused?.details.messages, 3);
      assert.equal(a.peers()[0].queuedMessages, 3);
      assert.deepEqual((await arrived).map(text), ["0", "1", "2"]);
    });

    it("TR-7: urgent messages pass those that wait, and have room when the others have none", async () => {
      const [a, b] = [make("a", { messages: 5 }), make("b")];
      await Promise.all([a.connect("b"), b.connect("a")]);
      const arrived = messages(b, 7);
      for (let i = 0; i < 5; i++) a.send("b", bytes(`${i}`));
      assert.throws(() => a.send("b", bytes("5")), { code: "ERR_MAILBOX_FULL" });
      for (const word of ["stop", "down"]) a.send("b", bytes(word), { urgent: true });
      const order = (await arrived).map(text);
      assert.ok(order.indexOf("stop") <= 1 && order.indexOf("down") <= 2, order.join()); // one message may have been on its way
      assert.deepEqual(order.filter((word) => word.length > 1), ["stop", "down"]);
      assert.deepEqual(order.filter((word) => word.length === 1), ["0", "1", "2", "3", "4"]);
    });

    it("TR-3: a node without a link is ERR_UNREACHABLE", () => {
      assert.throws(() => make("a").send("nobody", bytes("x")), { code: "ERR_UNREACHABLE" });
    });

    it("TR-3: a peer that never connects is ERR_UNREACHABLE after the deadline", async () => {
      await assert.rejects(make("a").connect("nobody", { timeoutMs: 20 }), { code: "ERR_UNREACHABLE" });
      await assert.rejects(make("zz").connect("nobody", { timeoutMs: 20 }), { code: "ERR_UNREACHABLE" });
      assert.deepEqual(world.files(), []);
    });

    it("TR-4, TR-6: closing delivers what was sent before, then tells the peer once that the link was closed", async () => {
      const [a, b] = await pair();
      const events: string[] = [];
      const down = new Promise<PeerDown>((resolve) => b.onPeerDown((node, reason) => (events.push(`down ${node}`), resolve(reason))));
      b.onMessage((_, frames) => void events.push(text(frames)));
      for (let i = 0; i < 300; i++) a.send("b", bytes(`${i}`));
      await a.close();
      assert.equal((await down).kind, "closed");
      assert.deepEqual(events, [...Array.from({ length: 300 }, (_, i) => `${i}`), "down a"]);
      assert.throws(() => b.send("a", bytes("x")), { code: "ERR_UNREACHABLE" });
    });

    it("links the same two names again after a close", async () => {
      const [a, b] = await pair();
      const gone = new Promise<void>((resolve) => b.onPeerDown(() => resolve()));
      await a.close();
      await gone;
      const again = make("a");
      await Promise.all([again.connect("b"), b.connect("a")]);
      const arrived = messages(b, 1);
      again.send("b", bytes("second life"));
      assert.equal(text((await arrived)[0]), "second life");
    });

    it("TR-6: leaves no file in the folder once the link is up", async () => {
      await pair();
      assert.deepEqual(world.files(), []);
    });

    it("links three nodes pairwise", async () => {
      const nodes = ["a", "b", "c"].map((n) => make(n));
      await Promise.all(nodes.flatMap((x) => nodes.filter((y) => y !== x).map((y) => x.connect(y.node))));
      const atC = messages(nodes[2], 2);
      nodes[0].send("c", bytes("from a"));
      nodes[1].send("c", bytes("from b"));
      assert.deepEqual((await atC).map(text).sort(), ["from a", "from b"]);
    });
  });
}
