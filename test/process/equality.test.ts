import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { native } from "../../runtime/native.ts";
import { openCheckpoint } from "../../runtime/checkpoint/index.ts";
import { type Ended, losses, lives, miniRecipe, octavo, root, start, temporaryFolder } from "./octavo.ts";

/** Must hold 1 and 2 of the design: a layout changes where the arithmetic happens, never what it gives. */
describe("the same losses, bit for bit", function () {
  this.timeout(240_000);
  const folder = temporaryFolder();
  const run = async (...args: string[]) => {
    const ended = await octavo(["train", miniRecipe, "--runs", folder.path, ...args]);
    assert.equal(ended.code, 0, ended.stderr);
    return ended;
  };
  let reference: Map<number, number>;
  before(async () => {
    reference = losses(await run("--in-process", "--threads", "1"));
    assert.equal(reference.size, 6);
    assert.ok([...reference.values()].every(Number.isFinite));
    assert.equal(new Set(reference.values()).size, 6, "the losses of different steps differ");
  });
  after(() => folder.remove());

  for (const threads of ["2", "4"]) {
    it(`in one process with ${threads} threads`, async () => {
      assert.deepEqual(losses(await run("--in-process", "--threads", threads)), reference);
    });
  }
  for (const lane of ["zeromq", "shared-memory", "ucx"]) {
    it(`as four processes over ${lane}`, async function () {
      if (lane === "ucx" && !native().ucxInfo().usable) this.skip();
      const ended = await run("--lane", lane);
      assert.deepEqual(losses(ended), reference);
      const links = ended.events.find((event) => event.event === "links")!.links as { lane: string }[];
      assert.equal(links.length, 5);
      assert.ok(links.every((link) => link.lane === lane), JSON.stringify(links));
    });
  }
  it("differs a little where a port is compressed, says so, and not in one process", async () => {
    const compress = ["--set", "components.text.compress=[states]"];
    const ended = await run("--lane", "shared-memory", ...compress), found = losses(ended);
    assert.notDeepEqual(found, reference);
    for (const [step, loss] of reference) assert.ok(Math.abs(found.get(step)! - loss) < 0.02 * Math.abs(loss), `step ${step}: ${found.get(step)} against ${loss}`);
    const warnings = ended.events.filter((event) => event.event === "warning").map((event) => String(event.message));
    assert.ok(warnings.some((message) => message.includes("text.states travels as bf16 from text to fusion, and so does its gradient back (compress)")), warnings.join("; "));
    assert.deepEqual(losses(await run("--in-process", ...compress)), reference);
  });
  it("with checksums on every tensor", async () => {
    const ended = await octavo(["train", miniRecipe, "--runs", folder.path, "--lane", "shared-memory"], { env: { OCTAVO_LANE_CHECKSUM: "1" } });
    assert.deepEqual(losses(ended), reference, ended.stderr);
  });
  it("as four processes under fill-drain, two threads each", async () => {
    assert.deepEqual(losses(await run("--set", "train.schedule=fill-drain", "--threads", "2")), reference);
  });
  it("with blocks that run again on the way back, in one process and in four", async () => {
    const again = (...args: string[]) => run("--set", "train.recompute=block", ...args);
    assert.deepEqual(losses(await again("--in-process", "--threads", "1")), reference);
    assert.deepEqual(losses(await again("--lane", "shared-memory")), reference);
  });
  it("in bf16, in one process with 1 and 4 threads, and as four processes over either lane", async () => {
    const narrow = (...args: string[]) => run("--set", "train.precision=bf16", "--set", "train.steps=3", ...args);
    const alone = await narrow("--in-process", "--threads", "1");
    assert.equal(losses(alone).size, 3);
    for (const args of [["--in-process", "--threads", "4"], ["--lane", "zeromq"], ["--lane", "shared-memory"]]) {
      const ended = await narrow(...args);
      assert.deepEqual(losses(ended), losses(alone), args.join(" "));
      assert.equal(ended.events.find((event) => event.event === "start")!.precision, "bf16");
    }
    assert.notEqual(losses(alone).get(0), reference.get(0), "bf16 computed something of its own");
  });
  it("as workers of two agents under a coordinator", async () => {
    const ended = await run("--on", join(root, "examples/cluster.yaml"));
    assert.deepEqual(losses(ended), reference);
    const processes = ended.events.find((event) => event.event === "start")!.processes as { host: string; pid: number }[];
    assert.deepEqual([...new Set(processes.map(({ host }) => host))].sort(), ["agent-1", "agent-2"]);
    for (const { pid } of processes) assert.ok(!lives(pid), `worker ${pid} is gone`);
  });
  it("with a codebook that moves after every step, and drop path, in one process and in two", async () => {
    for (const name of ["mini-vq-kd", "mini-mim"]) {
      const recipe = join(root, `test/recipes/${name}.yaml`);
      const train = async (...args: string[]) => {
        const ended = await octavo(["train", recipe, "--runs", folder.path, ...args]);
        assert.equal(ended.code, 0, ended.stderr);
        return losses(ended);
      };
      const one = await train("--in-process", "--threads", "1");
      assert.equal(new Set(one.values()).size, 4, "the losses of different steps differ");
      assert.deepEqual(await train("--lane", "shared-memory"), one, name);
    }
  });
  describe("of a model in four stages beside its loader, and the same weights, under", () => {
    const stages = "stages={pages: [pages], image: [image, teacher], text: [text, position], fusion: [fusion], heads: [mlm, mim, wpa]}";
    const cut = (...args: string[]) => run("--set", stages, "--set", "train.steps=3", ...args);
    let alone: Ended;
    before(async () => { alone = await cut("--in-process", "--threads", "1"); });

    async function same(ended: Ended, ranks: string[][]): Promise<void> {
      assert.deepEqual(losses(ended), losses(alone));
      assert.equal(weights(ended).size > 50, true);
      assert.deepEqual(weights(ended), weights(alone));
      const processes = ended.events.find((event) => event.event === "start")!.processes as { stages: string[] }[];
      assert.deepEqual(processes.map((one) => one.stages), [["pages"], ...ranks]);
    }
    const each = [["image"], ["text"], ["fusion"], ["heads"]];

    for (const schedule of ["fill-drain", "1f1b", "zb-h1"]) {
      it(schedule, async () => same(await cut("--set", `train.schedule=${schedule}`), each));
    }
    it("interleaved on two ranks, over either lane", async () => {
      for (const lane of ["shared-memory", "zeromq"]) {
        const ended = await cut("--set", "train.schedule=interleaved", "--set", "train.ranks=2", "--lane", lane);
        await same(ended, [["image", "fusion"], ["text", "heads"]]);
      }
    });
    it("fill-drain on one rank, which hands everything over to itself", async () => {
      await same(await cut("--set", "train.schedule=fill-drain", "--set", "train.ranks=1"), [["image", "text", "fusion", "heads"]]);
    });
    it("a CSV of ranks, in an order of its own, some backwards in halves", async () => {
      const file = join(folder.path, "ranks.csv");
      writeFileSync(file, [
        "0F0,1F0,0F1,1F1,0F2,1F2,0F3,1F3,1I0,0B0,1I1,1W0,0I1,1B2,0B2,1W1,1B3,0I3,0W3,0W1",
        "2F0,2F1,3F0,3F1,3B1,3I0,2B0,2F2,2F3,3F2,3W0,2I1,3F3,3B3,3B2,2B2,2W1,2B3",
      ].join("\n"));
      await same(await cut("--set", `train.schedule=${file}`), [["image", "text"], ["fusion", "heads"]]);
    });
    it("a CSV by stage, backwards out of order", async () => {
      const file = join(folder.path, "stages.csv"), forwards = "F0,F1,F2,F3", back = "I3,B1,W3,B0,B2,STEP";
      writeFileSync(file, ["schedule,by-hand,4", ...["image", "text", "fusion", "heads"].map((stage) => `${stage},${forwards},${back}`)].join("\n"));
      await same(await cut("--set", `train.schedule=${file}`), each);
    });
    it("no schedule that cannot finish: it is refused before anything runs, with the entry", async () => {
      const file = join(folder.path, "stuck.csv");
      writeFileSync(file, ["schedule,stuck,4", "image,F0,B0,F1,F2,F3,B1,B2,B3", ...["text", "fusion", "heads"].map((stage) => `${stage},F0,F1,F2,F3,B0,B1,B2,B3`)].join("\n"));
      const ended = await octavo(["train", miniRecipe, "--runs", folder.path, "--set", stages, "--set", `train.schedule=${file}`]);
      assert.equal(ended.code, 2, ended.stdout);
      assert.match(ended.stderr + ended.stdout, /schedule stuck: expected every rank to finish, found a deadlock .*image waits at entry 2 \(0B0\) for 2B0 of fusion/s);
      assert.ok(!ended.events.some((event) => event.event === "start"));
    });
  });

  it("differs for another seed", async () => {
    const other = losses(await run("--in-process", "--seed", "4", "--set", "train.steps=6"));
    assert.notEqual(other.get(0), reference.get(0));
  });

  it("stopped by SIGTERM and resumed, in another layout, equals never stopped", async () => {
    const first = start(["train", miniRecipe, "--runs", folder.path, "--lane", "shared-memory"]);
    const begun = await first.event((event) => event.event === "start");
    await first.event((event) => event.event === "step" && event.step === 1);
    first.child.kill("SIGTERM");
    const stopped = await first.ended;
    assert.equal(stopped.code, 0, stopped.stderr);
    const end = stopped.events.at(-1)!;
    assert.equal(end.event, "end");
    const before = losses(stopped);
    assert.ok(before.size >= 2 && before.size < 6, `stopped after ${before.size} steps`);
    const resumed = losses(await run("--in-process", "--threads", "2", "--resume", begun.runFolder as string));
    assert.deepEqual(new Map([...before, ...resumed]), reference);
    assert.deepEqual([...resumed.keys()], Array.from({ length: 6 - before.size }, (_, i) => before.size + i));
    assert.notEqual(resumed.size, 0);
  });
});

/** Everything in the last checkpoint of a run: parameters and what the optimizer remembers, by name. */
function weights(ended: Ended): Map<string, unknown> {
  const reader = openCheckpoint(ended.events.findLast((event) => event.event === "checkpoint")!.path as string);
  try {
    return new Map(reader.manifest.tensors.filter(({ role }) => role === "parameter").map(({ name }) => [name, { value: reader.parameter(name), state: reader.optimizerState(name) }])
      .sort(([a], [b]) => ((a as string) < (b as string) ? -1 : 1)) as [string, unknown][]);
  } finally {
    reader.close();
  }
}
