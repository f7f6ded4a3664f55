import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type InitContext, type Ref, defineActor } from "../../../runtime/actor/definition.ts";
import { createSupervisor } from "../../../runtime/actor/supervisor.ts";
import { type ActorSystem, type UnhandledFailure, createActorSystem } from "../../../runtime/actor/system.ts";
import type { RuntimeError } from "../../../runtime/errors.ts";
import { createSocketFolder } from "../../../runtime/transport/socket-folder.ts";
import { createZeromqTransport } from "../../../runtime/transport/zeromq.ts";
import { echo } from "./echo-actor.ts";

const program = fileURLToPath(new URL("./echo-process.ts", import.meta.url));

interface Peer {
  folder: ReturnType<typeof createSocketFolder>;
  system: ActorSystem;
  child: ChildProcess;
  exited: Promise<unknown[]>;
  far: Ref<typeof echo.endpoints>;
  end(): Promise<void>;
}

async function startPeer(): Promise<Peer> {
  const folder = createSocketFolder();
  const transport = createZeromqTransport({ node: "parent", folder: folder.path });
  const system = createActorSystem({ node: "parent", transport });
  const child = spawn(process.execPath, ["--import", "tsx", "--conditions=source", program, "child", folder.path, "parent"], { stdio: ["ignore", "inherit", "inherit"] });
  const exited = once(child, "exit");
  await transport.connect("child");
  return {
    folder, system, child, exited, far: system.remote(echo, "child"),
    async end() {
      await system.stop();
      folder.remove();
      child.kill("SIGKILL"); // has ended by itself in every test that passed
      await exited;
    },
  };
}

describe("actors in two processes", () => {
  let peer: Peer;
  before(async () => void (peer = await startPeer()));
  after(() => peer.end());

  it("call, cast and attachments work, and the socket file is gone", async () => {
    const { far, folder } = peer;
    assert.equal(await far.add.call(41), 42);
    for (let i = 0; i < 1000; i++) far.tell.cast();
    assert.equal(await far.told.call(), 1000);
    const attachments = [new Uint8Array(0), Uint8Array.of(1, 2, 3), new Uint8Array(5_000_000).fill(7)];
    assert.deepEqual(await far.bytes.call(undefined, { attachments }), [[0, 0], [3, 6], [5_000_000, (7 * 5_000_000) % 65_521]]);
    assert.deepEqual(readdirSync(folder.path), []);
  });

  it("AC-2: an interleaved message reaches an actor whose handler waits in another process", async () => {
    const { far } = peer;
    const controller = new AbortController();
    const held = assert.rejects(far.hold.call(undefined, { signal: controller.signal }), { code: "ERR_ABORTED" });
    assert.equal(await far.note.call("a"), "a");
    assert.equal(await far.note.call("b"), "ab");
    controller.abort();
    await held;
    assert.equal(await far.add.call(1), 2); // the aborted handler has let the next one in
  });

  it("CALL-4: errors cross processes with their chain of causes", async () => {
    await assert.rejects(peer.far.fail.call(), (error: RuntimeError) => {
      assert.equal(error.message, "no such page");
      assert.equal((error.cause as Error).message, "ENOENT");
      assert.equal(error.details.at, "child/echo.fail");
      return true;
    });
  });

  it("CALL-1: a frozen peer costs its callers their deadline and nothing more", async () => {
    peer.child.kill("SIGSTOP");
    await assert.rejects(peer.far.add.call(1, { timeoutMs: 50 }), { code: "ERR_DEADLINE" });
    peer.child.kill("SIGCONT");
    assert.equal(await peer.far.add.call(1), 2);
  });
});

describe("a process that does not read", () => {
  let peer: Peer;
  before(async () => void (peer = await startPeer()));
  after(() => peer.end());

  it("TR-2: is refused more than the bound, holds up nobody, and gets all that was taken once it reads", async () => {
    const { far, child, system } = peer;
    child.kill("SIGSTOP");
    let taken = 0;
    assert.throws(() => {
      for (; taken < 100_000; taken++) far.tell.cast();
    }, { code: "ERR_MAILBOX_FULL", message: /8192 messages/ });
    const near = await system.spawn(echo, undefined);
    assert.equal(await near.add.call(1), 2);
    child.kill("SIGCONT");
    assert.equal(await told(far, taken), taken);
  });

  /** The count of casts received, asked once the link has room for the question, which comes behind them all. */
  async function told(far: Peer["far"], expected: number): Promise<number> {
    for (;;) {
      try {
        return await far.told.call(undefined, { timeoutMs: 20_000 });
      } catch (error) {
        if ((error as RuntimeError).code !== "ERR_MAILBOX_FULL") throw new Error(`of ${expected} sent`, { cause: error });
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
  }
});

describe("the end of a process", () => {
  let peer: Peer;
  beforeEach(async () => void (peer = await startPeer()));
  afterEach(() => peer.end());

  it("CALL-2: kill -9 rejects its calls within a second, long before any deadline", async () => {
    const { far, system, child, folder } = peer;
    const calls = [far.hold.call(), far.add.call(1)].map((call) => assert.rejects(call, { code: "ERR_DEAD", message: /its process has ended or was killed/ }));
    const notices: string[] = [];
    system.monitor(far, ({ reason }) => notices.push(reason));
    await far.note.call("alive");
    const killed = performance.now();
    child.kill("SIGKILL");
    await Promise.all(calls);
    assert.ok(performance.now() - killed < 1000, `took ${performance.now() - killed} ms`);
    assert.deepEqual(notices, ["node-dead"]);
    assert.deepEqual(readdirSync(folder.path), []);
  });

  it("SUP-6: an actor owns one over there: it works, and kill -9 of its process is its supervisor's failure, then its owner's", async () => {
    const { system, child, far } = peer;
    const supervisor = createSupervisor({ name: "s", intensity: { max: 2, withinMs: 60_000 } });
    const owner = defineActor({
      name: "owner",
      init: async (_: undefined, context: InitContext) => ({ own: await context.spawn(echo, undefined, { name: "own", node: "child", supervisor }) }),
      endpoints: { add: (state, n: number) => state.own.add.call(n) },
    });
    const failed = new Promise<UnhandledFailure>((resolve) => system.onFailure(resolve));
    const ref = await system.spawn(owner, undefined);
    assert.equal(await ref.add.call(1), 2);
    system.remote(echo, "child", "own").trip.cast();
    for (let life = 1; life === 1; ) life = await ref.add.call(2).then(() => 1 + supervisor.restarts, () => 1); // between two lives there is nobody
    assert.equal(supervisor.restarts, 1);
    assert.equal(await far.add.call(1), 2);
    const killed = performance.now();
    child.kill("SIGKILL");
    const { address, failure } = await failed;
    assert.ok(performance.now() - killed < 1000, `took ${performance.now() - killed} ms`);
    assert.equal(address, "parent/owner");
    assert.match(failure.message, /supervisor "s" gives up: child\/own failed once more after 2 restarts/);
    assert.equal(system.stats.pendingCalls, 0);
  });

  it("closing one end lets the other end by itself, with exit code 0", async () => {
    await peer.far.add.call(1);
    await peer.system.stop();
    assert.deepEqual(await peer.exited, [0, null]);
  });
});
