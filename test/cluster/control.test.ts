import assert from "node:assert/strict";
import { simulatedClock } from "../../runtime/index.ts";
import { startAgent, type Agent } from "../../cluster/agent/agent.ts";
import { connectCoordinator, type CoordinatorClient } from "../../cluster/control/client.ts";
import { startCoordinator, type Coordinator, type CoordinatorOptions } from "../../cluster/control/coordinator.ts";
import { place } from "../../cluster/control/placement.ts";
import type { Worker, WorkerExited } from "../../cluster/control/protocol.ts";
import { processTitle, temporaryFolder, trivialWorker, until, workerSpec } from "./worker-spec.ts";

describe("placement", () => {
  it("spreads equal workers over equal agents in turn", () => {
    const idle = { workers: 0, threads: 0, cores: 2 };
    assert.deepEqual(place([1, 1, 1, 1].map((threads) => ({ threads })), [idle, idle]), [0, 1, 0, 1]);
  });

  it("counts threads per core, not workers", () => {
    assert.deepEqual(place([4, 1, 1, 1].map((threads) => ({ threads })), [{ workers: 0, threads: 0, cores: 4 }, { workers: 0, threads: 0, cores: 4 }]), [0, 1, 1, 1]);
    assert.deepEqual(place([{ threads: 1 }], [{ workers: 1, threads: 2, cores: 2 }, { workers: 1, threads: 2, cores: 8 }]), [1]);
  });
});

describe("coordinator and agents", () => {
  const folder = temporaryFolder();
  const token = "secret-of-this-run";
  let coordinator: Coordinator;
  let client: CoordinatorClient;
  let agents: Agent[] = [];

  const start = async (names: string[], options: Partial<CoordinatorOptions> = {}): Promise<void> => {
    coordinator = await startCoordinator({ token, ...options });
    client = connectCoordinator(coordinator.address, token);
    for (const name of names) agents.push(await startAgent({ coordinator: coordinator.address, token, name, worker: trivialWorker }));
    await until(() => coordinator.agents().length === names.length);
  };
  afterEach(async () => {
    client.close();
    await Promise.all(agents.map((agent) => agent.close()));
    await coordinator.close();
    agents = [];
  });

  const worker = (name: string): Worker => {
    const spec = workerSpec(name, folder);
    return { name, title: spec.title, threads: 1, specJson: JSON.stringify(spec) };
  };
  const watchAll = (launchId: string): { exits: Map<string, WorkerExited>; over: Promise<void> } => {
    const exits = new Map<string, WorkerExited>();
    return { exits, over: client.watch(launchId, (exit) => {
      assert.ok(!exits.has(exit.workerId), `exit of ${exit.workerId} was told twice`);
      exits.set(exit.workerId, exit);
    }) };
  };

  it("spreads workers over the agents and tells how each ended, once (CO-1, AG-2)", async () => {
    await start(["a1", "a2"]);
    const { launchId, placements } = await client.launch(["image", "ends", "fails", "text"].map(worker));
    assert.deepEqual(placements.map((one) => one.agent), ["a1", "a2", "a1", "a2"]);
    const { exits, over } = watchAll(launchId);
    process.kill(placements[0].pid, "SIGKILL"); // from outside: nobody of ours knows
    assert.equal(await client.stop(placements[3].workerId, "SIGTERM"), true);
    await over;
    const [image, ends, fails, text] = placements.map((one) => exits.get(one.workerId)!);
    assert.deepEqual([image.code, image.signal], [undefined, "SIGKILL"]);
    assert.deepEqual([ends.code, ends.signal], [0, undefined]);
    assert.deepEqual([fails.code, fails.stderrTail, JSON.parse(fails.failureJson).code], [1, "about to fail\n", "ERR_DATA"]);
    assert.deepEqual([text.code, text.signal], [undefined, "SIGTERM"]);
    assert.deepEqual((await client.listAgents()).map((agent) => agent.workers), [0, 0]);
  });

  it("reads the end of a living worker's log", async () => {
    await start(["a1"]);
    const { placements: [{ workerId }] } = await client.launch([worker("logged")]);
    const read = async (): Promise<string> => Buffer.from(await client.readLog(workerId, 8)).toString();
    await until(async () => (await read()) === "passive\n");
  });

  it("kills an agent's workers when the agent loses its coordinator (AG-1)", async () => {
    await start(["a1"]);
    const { placements: [{ pid }] } = await client.launch([worker("image")]);
    assert.match(processTitle(pid) ?? "", /image/);
    await coordinator.close();
    await agents[0].closed;
    assert.equal(processTitle(pid), undefined);
  });

  it("reports the workers of a lost agent as lost with it (CO-2)", async () => {
    await start(["a1", "a2"]);
    const { launchId, placements } = await client.launch([worker("image"), worker("text")]);
    const { exits } = watchAll(launchId);
    await agents[0].close();
    await until(() => exits.size === 1);
    const exit = exits.get(placements[0].workerId)!;
    assert.deepEqual([exit.code, exit.signal], [undefined, undefined]);
    assert.match(JSON.parse(exit.failureJson).message, /^Agent a1 on .* was lost: its connection ended/);
    assert.deepEqual(coordinator.agents().map((agent) => agent.name), ["a2"]);
  });

  it("counts an agent as lost when it is silent for longer than allowed (CO-2)", async () => {
    const clock = simulatedClock();
    await start(["a1"], { clock, lostAfterMs: 5000, heartbeatMs: 3_600_000 });
    const { launchId, placements } = await client.launch([worker("image")]);
    const { exits, over } = watchAll(launchId);
    clock.advance(5001);
    await over;
    assert.match(JSON.parse(exits.get(placements[0].workerId)!.failureJson).message, /sent nothing for 5000 ms/);
    await agents[0].closed;
    assert.equal(processTitle(placements[0].pid), undefined);
  });

  it("starts all workers or none (CO-3)", async () => {
    await start(["a1"]);
    const broken = { ...worker("image"), specJson: "{" };
    await assert.rejects(client.launch([worker("text"), broken]), /JSON/);
    await until(async () => (await client.listAgents())[0].workers === 0);
  });

  it("refuses callers without the token, and says so (CO-4)", async () => {
    await start(["a1"]);
    const stranger = connectCoordinator(coordinator.address, "guess");
    await assert.rejects(stranger.launch([worker("image")]), { code: "ERR_CLUSTER", message: /no valid token/ });
    await assert.rejects(startAgent({ coordinator: coordinator.address, token: "guess", name: "a9" }), { code: "ERR_CLUSTER", message: /no valid token/ });
    stranger.close();
    assert.deepEqual((await client.listAgents()).map((agent) => [agent.name, agent.workers]), [["a1", 0]]);
  });

  it("refuses a second agent of the same name, and a launch without agents", async () => {
    await start([]);
    await assert.rejects(client.launch([worker("image")]), { code: "ERR_CLUSTER", message: /No agent is connected/ });
    agents.push(await startAgent({ coordinator: coordinator.address, token, name: "a1" }));
    await assert.rejects(startAgent({ coordinator: coordinator.address, token, name: "a1" }), { code: "ERR_CLUSTER", message: /named a1 is registered/ });
  });

  it("says that a port is in use", async () => {
    await start([]);
    const port = Number(coordinator.address.split(":")[1]);
    await assert.rejects(startCoordinator({ token, port }), { code: "ERR_CLUSTER", message: `Port ${port} on 127.0.0.1 is in use by another process. Choose another port, or 0 to let the system choose.` });
  });
});
