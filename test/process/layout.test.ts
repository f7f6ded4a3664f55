import assert from "node:assert/strict";
import { join } from "node:path";
import { openCheckpoint } from "../../runtime/checkpoint/index.ts";
import { type Ended, losses, miniRecipe, octavo, root, start, temporaryFolder } from "./octavo.ts";

/**
 * A layout changes where the arithmetic happens, never what it gives: losses of every step and all that is left in the end, parameters and
 * what the optimizer remembers, are those of one process, bit for bit.
 */
describe("layouts of the mini recipe", function () {
  this.timeout(240_000);
  const folder = temporaryFolder();
  const set = (...overrides: string[]): string[] => overrides.flatMap((override) => ["--set", override]);
  const short = set("train.steps=3", "train.checkpoint={}");
  /** Everything but the loader in one process, so that two copies are three processes. */
  const together = set("stages={pages: [pages], model: [image, teacher, text, position, fusion, mlm, mim, wpa]}");

  interface Trained { losses: Map<number, number>; norms: unknown[]; left: Map<string, Buffer>; ended: Ended; runFolder: string }
  const run = async (...args: string[]): Promise<Trained> => trainedBy(await octavo(["train", miniRecipe, "--runs", folder.path, ...short, ...args]));
  function trainedBy(ended: Ended): Trained {
    assert.equal(ended.code, 0, ended.stderr);
    const path = ended.events.findLast(({ event }) => event === "checkpoint")!.path as string;
    return { ended, losses: losses(ended), norms: ended.events.filter(({ event }) => event === "step").map(({ norm }) => norm), left: leftIn(path), runFolder: ended.events.find(({ event }) => event === "start")!.runFolder as string };
  }
  /** Every tensor of a checkpoint, by role and name. */
  function leftIn(path: string): Map<string, Buffer> {
    const checkpoint = openCheckpoint(path), found = new Map<string, Buffer>();
    const put = (name: string, data: Float32Array | Float64Array): void => {
      assert.ok(!found.has(name), `${name} is written twice`);
      found.set(name, Buffer.from(data.buffer, data.byteOffset, data.byteLength));
    };
    for (const { name, role } of checkpoint.manifest.tensors) if (role === "parameter") put(name, checkpoint.parameter(name)!);
    for (const { name } of checkpoint.manifest.tensors.filter(({ role }) => role === "parameter")) for (const [slot, data] of Object.entries(checkpoint.optimizerState(name))) put(`${name}@${slot}`, data);
    checkpoint.close();
    return found;
  }
  const same = (got: Trained, expected: Trained, what: string): void => {
    assert.deepEqual(got.losses, expected.losses, what);
    assert.deepEqual(got.norms, expected.norms, what);
    assert.deepEqual([...got.left.keys()].sort(), [...expected.left.keys()].sort(), what);
    for (const [name, data] of expected.left) assert.ok(data.equals(got.left.get(name)!), `${what}: ${name}`);
  };
  const processes = ({ ended }: Trained): string[] => (ended.events.find(({ event }) => event === "start")!.processes as { stage: string }[]).map(({ stage }) => stage);

  let one: Trained;
  before(async () => {
    one = await run("--in-process", "--threads", "1");
    assert.equal(new Set(one.losses.values()).size, 3, "the losses of different steps differ");
    assert.ok([...one.left.keys()].some((name) => name.includes("@")), "the optimizer's state is compared too");
  });
  after(() => folder.remove());

  it("two data copies", async () => {
    const two = await run(...together, ...set("layout={data: 2}"));
    assert.deepEqual(processes(two), ["pages", "model-d0", "model-d1"]);
    same(two, one, "data 2");
  });
  it("four data copies, a microbatch each", async () => same(await run(...together, ...set("layout={data: 4}")), one, "data 4"));
  for (const zero of [1, 2, 3]) {
    it(`two data copies under zero ${zero}`, async () => same(await run(...together, ...set("layout={data: 2}", `train.zero=${zero}`)), one, `zero ${zero}`));
  }
  it("a layout of its own for every component: image twice, text once, fusion four times", async () => {
    const mixed = await run(...set("components.image.layout={data: 2}", "components.teacher.layout={data: 2}",
      ...["fusion", "position", "mlm", "mim", "wpa"].map((name) => `components.${name}.layout={data: 4}`)));
    assert.equal(processes(mixed).length, 1 + 2 + 1 + 4);
    same(mixed, one, "image 2, text 1, fusion 4");
  });
  for (const [name, overrides] of [
    ["four stages", []], ["four stages under zero 2", ["train.zero=2"]], ["zb-h1", ["train.schedule=zb-h1"]], ["interleaved on one process per copy, under zero 3", ["train.schedule=interleaved", "train.ranks=1", "train.zero=3"]],
  ] as const) {
    it(`two data copies of ${name}`, async () => same(await run(...set("layout={data: 2}", ...overrides)), one, name));
  }
  it("tensor groups, of one component or of all beside two data copies: to rounding, and a checkpoint of whole tensors", async () => {
    for (const overrides of [["components.text.layout={tensor: 2}"], ["layout={data: 2, tensor: 2}", "train.zero=1", "stages={pages: [pages], encoders: [image, teacher, text], head: [position, fusion, mlm, mim, wpa]}"]]) {
      const split = await run(...set(...overrides));
      for (const [step, loss] of one.losses) assert.ok(Math.abs(split.losses.get(step)! - loss) <= 1e-5 * Math.abs(loss), `${overrides[0]}, step ${step}: ${split.losses.get(step)} against ${loss}`);
      assert.deepEqual([...split.left].map(([name, data]) => [name, data.length]).sort(), [...one.left].map(([name, data]) => [name, data.length]).sort());
      split.norms.forEach((norm, step) => assert.ok(Math.abs((norm as number) - (one.norms[step] as number)) <= 1e-4 * (norm as number), `norm of step ${step}: ${String(norm)}`));
    }
  });

  it("the text encoder's tokens over two processes, alone and beside data copies of the rest: to rounding", async () => {
    const rest = ["image", "teacher", "fusion", "position", "mlm", "mim", "wpa"].map((name) => `components.${name}.layout={data: 2}`);
    for (const overrides of [[], rest]) {
      const split = await run(...set("components.text.layout={context: 2}", ...overrides));
      assert.ok(processes(split).includes("text-c1"), JSON.stringify(processes(split)));
      for (const [step, loss] of one.losses) assert.ok(Math.abs(split.losses.get(step)! - loss) <= 1e-5 * Math.abs(loss), `step ${step}: ${split.losses.get(step)} against ${loss}`);
      split.norms.forEach((norm, step) => assert.ok(Math.abs((norm as number) - (one.norms[step] as number)) <= 1e-5 * (norm as number), `norm of step ${step}: ${String(norm)}`));
      assert.notDeepEqual(split.norms, one.norms, "sums over tokens are made in two parts: were the bits equal, nothing would have been shared out");
      assert.deepEqual([...split.left].map(([name, data]) => [name, data.length]).sort(), [...one.left].map(([name, data]) => [name, data.length]).sort());
    }
  });

  it("copies of a loss that compares all pages of the batch are refused, by name, before anything starts", async () => {
    for (const [recipe, objective] of [["mini-vq-kd", "likeness"], ["mini-simcse", "alike"]]) {
      const ended = await octavo(["train", join(root, `test/recipes/${recipe}.yaml`), "--runs", folder.path, ...set("layout={data: 2}")]);
      assert.equal(ended.code, 2);
      assert.match(ended.stdout + ended.stderr, new RegExp(`layout\\.data: expected 1, since ${objective} \\(objective/[a-z-]+\\) compares pages with each other, found 2\\. One copy must see the whole batch`));
    }
  });

  it("stopped and resumed under another layout: two copies that share everything out, then one process, then two copies again", async () => {
    const first = start(["train", miniRecipe, "--runs", folder.path, ...set("train.steps=6", "train.checkpoint={}"), ...together, ...set("layout={data: 2}", "train.zero=2")]);
    await first.event(({ event, step }) => event === "step" && step === 0);
    first.child.kill("SIGTERM");
    const stopped = trainedBy(await first.ended);
    const six = await octavo(["train", miniRecipe, "--runs", folder.path, ...set("train.steps=6", "train.checkpoint={}"), "--in-process", "--threads", "1"]);
    const reference = trainedBy(six);
    const go = (from: Trained, ...args: string[]) => start(["train", miniRecipe, "--runs", folder.path, ...set("train.steps=6", "train.checkpoint={}"), "--resume", from.runFolder, ...args]);
    const inOne = go(stopped, "--in-process", "--threads", "2");
    const at = stopped.losses.size;
    assert.ok(at >= 1 && at < 5, `stopped after ${at} steps`);
    await inOne.event(({ event, step }) => event === "step" && step === at);
    inOne.child.kill("SIGTERM");
    const middle = trainedBy(await inOne.ended);
    assert.ok(middle.losses.size + at < 6, "stopped before the end");
    const last = trainedBy(await go(middle, ...together, ...set("layout={data: 2}", "train.zero=1")).ended);
    assert.deepEqual(new Map([...stopped.losses, ...middle.losses, ...last.losses]), reference.losses);
    for (const [name, data] of reference.left) assert.ok(data.equals(last.left.get(name)!), name);
  });

  it("three copies, no power of two: to rounding, and said", async () => {
    const six = set("train.microbatches=6", "train.batch=12");
    const alone = await run("--in-process", "--threads", "1", ...six), three = await run(...together, ...six, ...set("layout={data: 3}"));
    assert.match(three.ended.events.filter(({ event }) => event === "warning").map(({ message }) => message).join("\n"), /3 data copies of 6 microbatches add gradients in another order/);
    for (const [step, loss] of alone.losses) assert.ok(Math.abs(three.losses.get(step)! - loss) <= 1e-5 * Math.abs(loss), `step ${step}: ${three.losses.get(step)} against ${loss}`);
    assert.notDeepEqual(three.norms, alone.norms, "had they been equal, this test would compare nothing");
  });

  it("ends with one paragraph that names the copy that died", async () => {
    const running = start(["train", miniRecipe, "--runs", folder.path, ...set("train.steps=200"), ...together, ...set("layout={data: 2}")]);
    const begun = await running.event(({ event }) => event === "start");
    await running.event(({ event, step }) => event === "step" && step === 1);
    const { pid } = (begun.processes as { stage: string; pid: number }[]).find(({ stage }) => stage === "model-d1")!;
    process.kill(pid, "SIGKILL");
    const killed = performance.now(), ended = await running.ended;
    assert.equal(ended.code, 1, ended.stderr);
    const failure = ended.events.find(({ event }) => event === "failure")!;
    assert.match(failure.message as string, new RegExp(`worker model-d1 \\(components image, [^)]*; process ${pid} on [^)]*\\) was killed by SIGKILL.*The workers pages, model-d0 only waited for it`));
    assert.ok(performance.now() - killed < 10_000, "nobody hangs");
  });
});
