import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { connectCoordinator } from "../../cluster/control/client.ts";
import { startCoordinator } from "../../cluster/control/coordinator.ts";
import type { WorkerExited } from "../../cluster/control/protocol.ts";
import { eachLine } from "../../cluster/launcher/process.ts";
import { processTitle, temporaryFolder, until, workerSpec } from "./worker-spec.ts";

const parents: ChildProcess[] = [];

/** Runs the fixture `parent.ts`; gives it with the process ids that it prints. */
async function startParent(...args: string[]): Promise<{ parent: ChildProcess; pids: number[] }> {
  const file = fileURLToPath(new URL("fixtures/parent.ts", import.meta.url));
  const parent = spawn(process.execPath, ["--import", "tsx", "--conditions=source", file, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  parents.push(parent);
  const line = new Promise<string>((resolve) => eachLine(parent.stdout!, resolve));
  const ended = once(parent, "exit").then(([code]) => Promise.reject(new Error(`the parent ended early with code ${code}`)));
  ended.catch(() => {}); // after the line its end is what the test wants
  return { parent, pids: JSON.parse(await Promise.race([line, ended])) as number[] };
}

const gone = (pids: number[]): boolean => pids.every((pid) => processTitle(pid) === undefined);

describe("no orphan is left", () => {
  afterEach(() => parents.splice(0).forEach((parent) => parent.kill("SIGKILL"))); // also when a test failed before its own kill

  it("when the launcher is killed with -9: its workers go", async () => {
    const folder = temporaryFolder();
    const specs = [workerSpec("image", folder), workerSpec("text", folder)];
    const { parent, pids } = await startParent("local", JSON.stringify(specs));
    await until(() => specs.every((spec) => readFileSync(spec.logFile, "utf8").includes("ready")));
    assert.deepEqual(pids.map(processTitle), ["octavo worker image", "octavo worker text"]);
    parent.kill("SIGKILL");
    await until(() => gone(pids));
  });

  it("when the launcher is killed with -9 before its workers are up: they end as soon as they look for their parent", async () => {
    const folder = temporaryFolder();
    const { parent, pids } = await startParent("local", JSON.stringify([workerSpec("image", folder)]));
    parent.kill("SIGKILL");
    await until(() => gone(pids));
  });

  it("when the launcher of a cluster is killed with -9: coordinator and agents go", async () => {
    const { parent, pids } = await startParent("cluster");
    assert.deepEqual(pids.map(processTitle).sort(), ["octavo agent-1", "octavo agent-2", "octavo coordinator"]);
    parent.kill("SIGKILL");
    await until(() => gone(pids));
  });

  it("when an agent is killed with -9: its workers go, and the coordinator says so", async () => {
    const folder = temporaryFolder();
    const coordinator = await startCoordinator({ token: "t" });
    const client = connectCoordinator(coordinator.address, "t");
    const { parent: agent } = await startParent("agent", coordinator.address, "t");
    const spec = workerSpec("image", folder);
    const { launchId, placements: [{ pid }] } = await client.launch([{ name: spec.name, title: spec.title, threads: 1, specJson: JSON.stringify(spec) }]);
    await until(() => readFileSync(join(folder, "logs", "image.log"), "utf8").includes("ready"));
    const exits: WorkerExited[] = [];
    const over = client.watch(launchId, (exit) => exits.push(exit));
    agent.kill("SIGKILL");
    await over;
    assert.match(exits[0].failureJson, /Agent a1 on .* was lost/);
    await until(() => gone([pid]));
    client.close();
    await coordinator.close();
  });
});
