import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { localLauncher } from "../../cluster/launcher/local.ts";
import { startChild, type ChildExit } from "../../cluster/launcher/process.ts";
import { processTitle, temporaryFolder, trivialWorker, until, workerSpec } from "./worker-spec.ts";

describe("local launcher", () => {
  const folder = temporaryFolder();
  const launcher = localLauncher({ worker: trivialWorker });
  afterEach(() => launcher.close());
  const spawn = async (name: string) => (await launcher.spawn([workerSpec(name, folder)]))[0];
  const log = (name: string): string => readFileSync(join(folder, "logs", `${name}.log`), "utf8");

  it("starts workers that show their title, in our process group, with sleeping threads (CP-1)", async () => {
    const worker = await spawn("image");
    await until(() => log("image").includes("passive"));
    assert.equal(processTitle(worker.pid)?.split(" ").slice(0, 3).join(" "), "octavo worker image"); // the trivial worker sets no title itself
    assert.equal(log("image"), `worker image of ${process.pid} with 1 threads, passive\n`);
    const groupOf = (pid: number): string => readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ")[2];
    assert.equal(groupOf(worker.pid), groupOf(process.pid));
  });

  it("reports the signal of a killed worker (CP-3)", async () => {
    const worker = await spawn("image");
    process.kill(worker.pid, "SIGKILL");
    const exit = await worker.exited;
    assert.deepEqual([exit.code, exit.signal], [null, "SIGKILL"]);
  });

  it("reports the signal of a native crash (CP-3)", async () => {
    const exit = await (await spawn("aborts")).exited;
    assert.deepEqual([exit.code, exit.signal], [null, "SIGABRT"]);
  });

  it("keeps stderr in the log and hands a worker's own error over as data (CP-2)", async () => {
    const exit = (await (await spawn("fails")).exited) as ChildExit;
    assert.deepEqual([exit.code, exit.signal, exit.stderrTail], [1, null, "about to fail\n"]);
    assert.deepEqual([exit.failure?.code, exit.failure?.message, exit.failure?.details], ["ERR_DATA", "shard 3 is cut short", { shard: 3 }]);
    assert.match(log("fails"), /about to fail/);
  });

  it("kills the living on close and waits for their end", async () => {
    const workers = await launcher.spawn([workerSpec("image", folder), workerSpec("text", folder)]);
    await launcher.close();
    assert.deepEqual(workers.map((worker) => processTitle(worker.pid)), [undefined, undefined]);
  });

  it("refuses a program that does not exist with ERR_CLUSTER", async () => {
    const absent = startChild({ title: "octavo worker x", entry: { command: "/nonexistent/node", args: [] } });
    await assert.rejects(absent, { code: "ERR_CLUSTER", message: /octavo worker x: could not be started .*ENOENT/ });
  });
});
