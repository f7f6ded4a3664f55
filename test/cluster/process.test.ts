import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { losses, lives, miniRecipe, octavo, start, temporaryFolder, until, type Event } from "../process/octavo.ts";

/** The built command under a coordinator and two agents, and a whole study, each as a user runs it. */
describe("a run under agents", function () {
  this.timeout(180_000);
  const folder = temporaryFolder();
  after(() => folder.remove());
  const clusterFile = join(folder.path, "cluster.yaml");
  before(() => writeFileSync(clusterFile, "launcher: local\nagents: 2\n"));
  const train = (steps: number, ...more: string[]): string[] => ["train", miniRecipe, "--runs", folder.path, "--set", `train.steps=${steps}`, ...more];
  interface Worker { stage: string; pid: number; host: string }

  it("spreads the stages over the agents and gives the losses of one process, bit for bit", async () => {
    const clustered = await octavo(train(2, "--on", clusterFile));
    assert.equal(clustered.code, 0, clustered.stderr + clustered.stdout);
    const { processes } = clustered.events.find((event) => event.event === "start") as unknown as { processes: Worker[] };
    assert.deepEqual(processes.map(({ host }) => host).sort(), ["agent-1", "agent-1", "agent-2", "agent-2"]);
    const alone = await octavo(train(2, "--in-process"));
    assert.equal(losses(clustered).size, 2);
    assert.deepEqual(losses(clustered), losses(alone));
  });

  it("ends within 10 s when an agent is killed, names it, and leaves no process", async () => {
    const run = start(train(4000, "--on", clusterFile));
    const { processes } = (await run.event((event) => event.event === "start")) as unknown as { processes: Worker[] };
    await run.event((event) => event.event === "step");
    const parentOf = (pid: number): number => Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]);
    const victim = processes.find(({ host }) => host === "agent-2")!;
    const agents = [...new Set(processes.map(({ pid }) => parentOf(pid)))];
    const killed = performance.now();
    process.kill(parentOf(victim.pid), "SIGKILL");
    const ended = await run.ended;
    assert.ok(performance.now() - killed < 10_000, `took ${performance.now() - killed} ms`);
    assert.equal(ended.code, 1);
    assert.match(ended.events.find((event) => event.event === "failure")!.message as string, /[Aa]gent agent-2 .*was lost: its connection ended/);
    await until("all processes end", () => [...agents, ...processes.map(({ pid }) => pid)].every((pid) => !lives(pid)), 10_000);
  });
});

describe("a study", function () {
  this.timeout(180_000);
  const folder = temporaryFolder();
  after(() => folder.remove());

  it("stopped by a signal continues where it was, and ends with a table that names what each arm changes", async () => {
    const study = join(folder.path, "study.yaml");
    writeFileSync(study, [
      "name: parts", `parent: ${miniRecipe}`, "seeds: [1]", "set: { train.steps: 3 }", "metric: held-out.loss", "arms:",
      "  no-fourier: { remove: [position] }", "  concatenation: { replace: { fusion: { use: fusion/concatenation } } }", "",
    ].join("\n"));
    const ablate = ["ablate", study, "--folder", join(folder.path, "out"), "--in-process"];
    const first = start(ablate);
    await first.event((event) => event.event === "run" && event.arm === "no-fourier" && event.state === "started");
    first.child.kill("SIGTERM");
    const stopped = await first.ended;
    assert.equal(stopped.code, 0, stopped.stderr + stopped.stdout);
    const finished = (events: readonly Event[]): string[] => events.filter((event) => event.event === "run" && event.state === "finished").map((event) => event.arm as string);
    const before = finished(stopped.events);
    assert.equal(before[0], "parent");

    const second = await octavo(ablate);
    assert.equal(second.code, 0, second.stderr + second.stdout);
    assert.deepEqual([...before, ...finished(second.events)], ["parent", "no-fourier", "concatenation"], "every run once");
    const { report } = second.events.find((event) => event.event === "report") as unknown as { report: { arms: { name: string; mean: number; changes: { path: string }[] }[] } };
    const [parent, ...arms] = report.arms;
    for (const arm of arms) assert.notEqual(arm.mean, parent.mean, `${arm.name} changes nothing in the result`);
    assert.ok(arms[0].changes.some(({ path }) => path === "components.position.use"));
    assert.ok(arms[1].changes.some(({ path }) => path === "components.fusion.use"));
    assert.match(readFileSync(join(folder.path, "out", "report.md"), "utf8"), /\| concatenation .*components\.fusion\.use: fusion\/multiway -> fusion\/concatenation/);
  });
});
