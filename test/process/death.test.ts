import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { beatMs } from "../../runtime/pipeline/run/pulse.ts";
import { childrenOf, commandLine, groupOf, leftovers, lives, losses, miniRecipe, octavo, root, type Running, start, temporaryFolder, until } from "./octavo.ts";

/** Must hold 3: whoever dies, the run ends at once, says why in one paragraph, and leaves nothing but its files. */
describe("a run whose processes are killed", function () {
  this.timeout(120_000);
  const folder = temporaryFolder();
  const temporary = temporaryFolder();
  after(() => (folder.remove(), temporary.remove()));

  interface Worker { stage: string; pid: number; components: string[] }
  /** A run in the middle of its steps, its first checkpoint written. */
  async function midway(lane = "shared-memory"): Promise<{ run: Running; workers: Worker[]; runFolder: string }> {
    const run = start(["train", miniRecipe, "--runs", folder.path, "--lane", lane, "--set", "train.steps=4000"], { env: { TMPDIR: temporary.path } });
    const begun = await run.event((event) => event.event === "start");
    await run.event((event) => event.event === "checkpoint");
    return { run, workers: begun.processes as Worker[], runFolder: begun.runFolder as string };
  }

  async function nothingLeft(workers: Worker[]): Promise<void> {
    await until("workers end", () => workers.every(({ pid }) => !lives(pid)), 10_000);
    assert.deepEqual(leftovers(temporary.path), []);
  }

  async function resumes(runFolder: string): Promise<void> {
    const steps = Math.max(...readdirSync(join(runFolder, "checkpoints")).filter((name) => /^step-\d+$/.test(name)).map((name) => Number(name.slice(5))));
    const ended = await octavo(["train", miniRecipe, "--runs", folder.path, "--in-process", "--resume", runFolder, "--set", `train.steps=${steps + 1}`]);
    assert.equal(ended.code, 0, ended.stderr);
    assert.deepEqual([...losses(ended).keys()], [steps]);
  }

  it("shows its workers in ps under their names, in the run's process group", async () => {
    const { run, workers } = await midway();
    try {
      assert.deepEqual(workers.map(({ pid }) => commandLine(pid)).map((line) => line.split(" ").slice(0, 3).join(" ")), workers.map(({ components, stage }) => `octavo worker ${components.includes(stage) ? stage : components[0]}`));
      for (const { pid } of workers) assert.equal(groupOf(pid), groupOf(run.child.pid!));
    } finally {
      run.child.kill("SIGKILL");
      await run.ended;
    }
    await nothingLeft(workers);
  });

  for (const [victim, lane] of [["pages", "zeromq"], ["image", "shared-memory"], ["text", "shared-memory"], ["fusion", "shared-memory"]] as const) {
    it(`ends within 10 s when worker ${victim} is killed (${lane})`, async () => {
      const { run, workers, runFolder } = await midway(lane);
      const worker = workers.find(({ stage }) => stage === victim)!;
      const killed = performance.now();
      process.kill(worker.pid, "SIGKILL");
      const ended = await run.ended;
      assert.ok(performance.now() - killed < 10_000, `took ${performance.now() - killed} ms`);
      assert.equal(ended.code, 1);
      const failure = ended.events.find((event) => event.event === "failure")!;
      const paragraph = failure.message as string;
      assert.match(paragraph, new RegExp(`at step \\d+: worker ${victim} \\(components .*${victim}.*; process ${worker.pid} on .*\\) was killed by SIGKILL`));
      assert.equal(paragraph.split("\n").length, 1, "one paragraph");
      assert.equal(failure.process, String(worker.pid));
      await nothingLeft(workers);
      await resumes(runFolder);
    });
  }

  it("names the stages, beside the components, where a worker holds several", async () => {
    const cut = ["--set", "stages={pages: [pages], image: [image, teacher], text: [text, position], fusion: [fusion], heads: [mlm, mim, wpa]}", "--set", "train.schedule=interleaved", "--set", "train.ranks=2"];
    const run = start(["train", miniRecipe, "--runs", folder.path, "--set", "train.steps=4000", ...cut], { env: { TMPDIR: temporary.path } });
    const workers = (await run.event((event) => event.event === "start")).processes as Worker[];
    await run.event((event) => event.event === "step");
    const worker = workers.find(({ stage }) => stage === "rank0")!;
    process.kill(worker.pid, "SIGKILL");
    const ended = await run.ended;
    assert.equal(ended.code, 1);
    const paragraph = ended.events.find((event) => event.event === "failure")!.message as string;
    assert.match(paragraph, new RegExp(`worker rank0 \\(stages image, fusion; components image, teacher, fusion; process ${worker.pid} on .*\\) was killed by SIGKILL.* The workers pages, rank1 only waited for it`));
    await nothingLeft(workers);
  });

  it("names the signal of a native crash", async () => {
    const { run, workers } = await midway();
    const worker = workers.find(({ stage }) => stage === "text")!;
    process.kill(worker.pid, "SIGSEGV");
    const ended = await run.ended;
    assert.equal(ended.code, 1);
    assert.match(ended.events.find((event) => event.event === "failure")!.message as string, /worker text .* was killed by SIGSEGV/);
    await nothingLeft(workers);
  });

  it("ends within seconds when a worker is frozen, and says that it lives but was stopped", async () => {
    const { run, workers } = await midway();
    const worker = workers.find(({ stage }) => stage === "text")!;
    const linked = performance.now(); // the watch over the ranks has begun: two beats later it knows where each of them was
    await run.event(({ event }) => event === "step" && performance.now() - linked > 2 * beatMs);
    process.kill(worker.pid, "SIGSTOP");
    const frozen = performance.now();
    const ended = await run.ended;
    assert.ok(performance.now() - frozen < 30_000, `took ${performance.now() - frozen} ms`);
    assert.equal(ended.code, 1);
    const failure = ended.events.find((event) => event.event === "failure")!;
    assert.match(failure.message as string, new RegExp(`^The run failed at step \\d+: worker text \\(components text; process ${worker.pid} on .*\\) stands still: its process lives, but was stopped \\(SIGSTOP or a debugger\\), and has not answered for \\d+ s, at [FBIW]\\d of text in step \\d+\\. The workers .* only waited for it\\.$`));
    await nothingLeft(workers);
  });

  it("leaves nothing when the launcher itself is killed, and the last checkpoint resumes", async () => {
    const { run, workers, runFolder } = await midway();
    run.child.kill("SIGKILL");
    await run.ended;
    await nothingLeft(workers);
    await resumes(runFolder);
  });

  for (const [when, extraMs] of [["as soon as its workers exist", 0], ["a moment later", 400], ["when they are about to link", 1000]] as const) {
    it(`leaves nothing when the launcher is killed before the run has begun: ${when}`, async () => {
      const run = start(["train", miniRecipe, "--runs", folder.path], { env: { TMPDIR: temporary.path } });
      let workers: number[] = [];
      await until("workers exist", () => (workers = childrenOf(run.child.pid!)).length >= 4, 20_000);
      const seen = performance.now();
      await until("the moment", () => performance.now() - seen >= extraMs, 5000);
      run.child.kill("SIGKILL");
      await run.ended;
      await until("workers end", () => workers.every((pid) => !lives(pid)), 10_000);
      assert.deepEqual(leftovers(temporary.path), []);
    });
  }

  it("ends at once when a worker is killed before the run has begun", async () => {
    const run = start(["train", miniRecipe, "--runs", folder.path], { env: { TMPDIR: temporary.path } });
    let workers: number[] = [];
    await until("workers exist", () => (workers = childrenOf(run.child.pid!)).length >= 4, 20_000);
    process.kill(workers[2], "SIGKILL");
    const ended = await run.ended;
    assert.equal(ended.code, 1);
    assert.match(ended.events.find((event) => event.event === "failure")!.message as string, new RegExp(`before the first step: worker \\w+ .*process ${workers[2]} .*SIGKILL`));
    assert.ok(workers.every((pid) => !lives(pid)));
    assert.deepEqual(leftovers(temporary.path), []);
  });

  it("ends when an agent is killed, with its workers and those of the other agent", async () => {
    const run = start(["train", miniRecipe, "--runs", folder.path, "--set", "train.steps=4000", "--on", join(root, "examples/cluster.yaml")], { env: { TMPDIR: temporary.path } });
    const workers = (await run.event((event) => event.event === "start")).processes as Worker[];
    await run.event((event) => event.event === "checkpoint");
    const agent = Number(readFileSync(`/proc/${workers[0].pid}/status`, "utf8").match(/^PPid:\s+(\d+)/m)![1]);
    assert.match(commandLine(agent), /octavo agent-\d/);
    const killed = performance.now();
    process.kill(agent, "SIGKILL");
    const ended = await run.ended;
    assert.ok(performance.now() - killed < 10_000, `took ${performance.now() - killed} ms`);
    assert.equal(ended.code, 1);
    assert.match(ended.events.find((event) => event.event === "failure")!.message as string, /agent|SIGKILL/);
    await nothingLeft(workers);
  });

  it("saves and stops on the first Ctrl-C", async () => {
    const { run, workers } = await midway();
    for (const pid of [run.child.pid!, ...workers.map(({ pid }) => pid)]) process.kill(pid, "SIGINT"); // a terminal sends it to the whole group
    const ended = await run.ended;
    assert.equal(ended.code, 0, ended.stderr);
    const steps = [...losses(ended).keys()];
    const last = ended.events.findLast((event) => event.event === "checkpoint")!;
    assert.equal(last.step, steps.at(-1)! + 1, "saved after the last step");
    assert.ok(existsSync(join(last.path as string, "manifest.json")));
    await nothingLeft(workers);
  });

  it("stops at once on the second", async () => {
    const { run, workers } = await midway();
    process.kill(workers.find(({ stage }) => stage === "text")!.pid, "SIGSTOP"); // so that the first cannot be obeyed
    const first = performance.now();
    run.child.kill("SIGTERM");
    await until("the second press is not the echo of the first", () => performance.now() - first > 200, 1000);
    run.child.kill("SIGINT");
    const asked = performance.now();
    await run.ended;
    assert.ok(performance.now() - asked < 3000, `took ${performance.now() - asked} ms`);
    await nothingLeft(workers);
  });
});
