import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { main } from "../../cluster/cli/run.ts";
import { createOutput } from "../../cluster/cli/output.ts";
import { runProgress } from "../../cluster/cli/progress.ts";
import { stopOnSignals } from "../../cluster/cli/stop.ts";
import { loadClusterFile } from "../../cluster/launcher/cluster-file.ts";
import { RuntimeError, simulatedClock } from "../../runtime/index.ts";
import { temporaryFolder } from "./worker-spec.ts";

async function octavo(...args: string[]): Promise<{ code: number; out: string; err: string; events: Record<string, unknown>[] }> {
  let [out, err] = ["", ""];
  const code = await main(args, { out: (text) => (out += text), err: (text) => (err += text) });
  const events = args.includes("--json") ? out.trimEnd().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>) : [];
  return { code, out, err, events };
}

describe("octavo", () => {
  const folder = temporaryFolder();
  const file = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };

  it("answers a misspelt command or option with the nearest one and exit code 2", async () => {
    assert.deepEqual(await octavo("trian", "x.yaml"), { code: 2, out: "", events: [], err: "error: unknown command 'trian' (Did you mean train?) See octavo --help.\n" });
    const option = await octavo("train", "x.yaml", "--in-proces");
    assert.deepEqual([option.code, option.err], [2, "error: unknown option '--in-proces' (Did you mean --in-process?) See octavo --help.\n"]);
  });

  it("names a missing argument, a wrong number and a wrong choice", async () => {
    for (const [args, message] of [
      [["train"], /missing required argument 'recipe'/], [["train", "x.yaml", "--threads", "two"], /Expected a whole number of at least 1/],
      [["train", "x.yaml", "--lane", "udp"], /Allowed choices are shared-memory, ucx, zeromq/], [[], /A command is needed: check, model, plan, train/],
    ] as const) {
      const { code, err } = await octavo(...args);
      assert.equal(code, 2);
      assert.match(err, message);
      assert.equal(err.trimEnd().split("\n").length, 1, "one message");
    }
  });

  it("with --json ends on an end event and keeps everything on stdout, whether it failed or not", async () => {
    const failed = await octavo("check", join(folder, "absent.yaml"), "--json");
    assert.equal(failed.code, 2);
    assert.equal(failed.err, "");
    assert.deepEqual(failed.events.map((event) => event.event), ["failure", "end"]);
    assert.deepEqual(failed.events[1], { event: "end", ok: false, exitCode: 2 });
    assert.equal((failed.events[0].failure as { code: string }).code, "ERR_RECIPE");
    const found = await octavo("doctor", "--json");
    assert.equal(found.code, 0, found.out);
    assert.deepEqual(found.events.at(-1), { event: "end", ok: true, exitCode: 0 });
  });

  it("doctor names cores, instruction sets, oneDNN, CUDA and zeromq", async () => {
    const { events } = await octavo("doctor", "--json");
    const names = events.map((event) => event.name);
    for (const name of ["node", "cores", "instruction sets", "oneDNN", "CUDA", "zeromq", "octavo"]) assert.ok(names.includes(name), `${name} is missing among ${names.join(", ")}`);
    assert.equal(events.find((event) => event.name === "node")?.found, process.versions.node);
  });

  it("plugins lists every built-in with kind, version and ports", async () => {
    const { code, events } = await octavo("plugins", "--json");
    assert.equal(code, 0);
    const fourier = events.find((event) => event.id === "position/fourier") as { version: string; ports: { in: Record<string, { dims: unknown[] }> } };
    assert.match(fourier.version, /^\d+\.\d+\.\d+$/);
    assert.deepEqual(fourier.ports.in.text_boxes.dims, ["B", "T", 4]);
    assert.match((await octavo("plugins")).out, /^fusion\n  fusion\/multiway /m);
  });

  it("model says what a preset or a recipe costs, and needs exactly one of them", async () => {
    const { code, events } = await octavo("model", "--preset", "paper-A", "--json");
    assert.equal(code, 0);
    const { trainable, ranks } = events[0] as unknown as { trainable: number; ranks: { parameterBytes: number; gradientBytes: number; optimizerBytes: number; totalBytes: { f32: number } }[] };
    assert.equal(trainable, 15_967_647_461);
    assert.equal(ranks[0].gradientBytes, 4 * trainable);
    assert.equal(ranks[0].optimizerBytes, 8 * trainable);
    assert.match((await octavo("model", "--preset", "tiny")).out, /^total +2,569,541 +2,569,477 +\d+ MFLOP +[\d.]+ GFLOP$/m);
    const recipe = await octavo("model", "examples/demo/fine-tune.yaml", "--json");
    const described = recipe.events[0] as unknown as { components: { name: string; trainable: number; forwardFlops?: number }[]; ranks: { name: string; pagesInFlight: number }[]; uncounted: string[] };
    assert.equal(described.components.find(({ name }) => name === "decoder")!.trainable, 828_416);
    assert.deepEqual(described.uncounted, []);
    assert.deepEqual(described.ranks.map(({ name, pagesInFlight }) => [name, pagesInFlight]), [["image", 4], ["text", 4], ["fusion", 2]]);
    for (const args of [[], ["examples/tiny.yaml", "--preset", "tiny"]]) {
      const wrong = await octavo("model", ...args);
      assert.equal(wrong.code, 2);
      assert.match(wrong.err, /expected a recipe or a preset, got (neither|both)\. Name a recipe file, or --preset tiny\|small\|base\|paper-A\|paper-B/);
    }
  });

  it("plan shows a recipe under a schedule that cannot run yet, draws it, and refuses too little memory", async () => {
    const svg = join(folder, "plan.svg");
    const { code, out, err } = await octavo("plan", "examples/tiny.yaml", "--schedule", "zb-h1", "--microbatches", "8", "--svg", svg);
    assert.equal(code, 0, err);
    assert.match(out, /^tiny: schedule zb-h1, 8 microbatches, 4 ranks\n/);
    assert.ok(out.endsWith(`drawn: ${svg}\n`));
    assert.match(readFileSync(svg, "utf8"), /^<svg [^]*weight gradient[^]*<\/svg>\n$/);
    const { events } = await octavo("plan", "examples/tiny.yaml", "--json");
    const [plan] = events as { event: string; schedule: string; ranks: { name: string; total: number }[] }[];
    assert.deepEqual([plan.event, plan.schedule, plan.ranks.map(({ name }) => name)], ["plan", "1f1b", ["pages", "image", "text", "fusion"]]);
    const need = Math.max(...plan.ranks.map(({ total }) => total));
    assert.equal((await octavo("plan", "examples/tiny.yaml", "--memory", String(need))).code, 0);
    const little = await octavo("plan", "examples/tiny.yaml", "--memory", String(need - 1));
    assert.equal(little.code, 2);
    assert.match(little.err, /^error: plan: rank fusion needs 66\.8 MiB .* The smallest change that fits: train\.microbatches: 8 /);
    for (const [args, said] of [[["--memory", "much"], /Expected bytes, like 1000000, 512M or 80G/], [["--schedule", "zb-h2"], /Did you mean "zb-h1"\?/], [["--schedule", "none.csv"], /expected a readable schedule, found nothing at .*none\.csv/]] as const) {
      const wrong = await octavo("plan", "examples/tiny.yaml", ...args);
      assert.equal(wrong.code, 2);
      assert.match(wrong.err, said);
    }
  });

  it("check shows a recipe, and all its mistakes at once", async () => {
    const good = await octavo("check", "examples/tiny.yaml", "--set", "train.steps=7", "--json");
    assert.equal(good.code, 0, good.out);
    assert.equal((good.events[0].train as { steps: number }).steps, 7);
    const bad = await octavo("check", "examples/tiny.yaml", "--set", "train.stpes=7", "--set", "components.fusion.use=fusion/multiwey");
    assert.equal(bad.code, 2);
    assert.match(bad.err, /Did you mean "steps"\?/);
  });

  it("train refuses --in-process together with --on, and a wrong cluster file, before it makes a run folder", async () => {
    const cluster = file("cluster.yaml", "launcher: local\nagents: 2\n");
    const both = await octavo("train", "examples/tiny.yaml", "--in-process", "--on", cluster, "--runs", join(folder, "runs"));
    assert.deepEqual([both.code, both.err], [2, "error: --in-process and --on exclude each other: one process needs no cluster.\n"]);
    assert.throws(() => loadClusterFile(file("wrong.yaml", "launcher: local\nagent: 2\n")), { code: "ERR_INPUT", message: /wrong\.yaml:2:8: agent: unknown key\. Did you mean "agents"\?/ });
    assert.throws(() => loadClusterFile(file("many.yaml", "launcher: local\nagents: none\n")), { code: "ERR_INPUT", message: /many\.yaml:2:9: agents: .*expected number/ });
  });
});

describe("what a command says", () => {
  const streams = () => {
    const said = { out: "", err: "" };
    return { said, streams: { out: (text: string) => (said.out += text), err: (text: string) => (said.err += text) } };
  };

  it("gives exit code 1 to a failure of a run that had begun, 2 to wrong input before it", () => {
    const wrongData = new RuntimeError("ERR_DATA", "shard 3 is cut short");
    assert.equal(createOutput(false, streams().streams).fail(wrongData), 2);
    const output = createOutput(false, streams().streams);
    output.event({ event: "start" });
    assert.equal(output.fail(wrongData), 1);
  });

  it("shows the causes of an error, and the stack only of an unexpected one", () => {
    const { said, streams: to } = streams();
    createOutput(false, to).fail(new RuntimeError("ERR_RUN", "The run failed.", {}, { cause: new Error("disk full") }));
    assert.equal(said.err, "error: The run failed.\n  because disk full\n");
    createOutput(false, to).fail(new TypeError("x is undefined"));
    assert.match(said.err, /TypeError: x is undefined\n\s+at .*mistake in Octavo/s);
  });

  it("does not repeat the end event of a run, nor its failure", () => {
    const { said, streams: to } = streams();
    const output = createOutput(true, to);
    output.event({ event: "end" });
    output.end(0);
    assert.equal(said.out, '{"event":"end"}\n');
    const failing = createOutput(true, to);
    failing.event({ event: "failure" });
    failing.fail(new Error("again"));
    failing.end(1);
    assert.equal(said.out.split("\n").filter((line) => line.includes("failure")).length, 1);
    assert.match(said.out, /\{"event":"end","ok":false,"exitCode":1\}\n$/);
  });

  it("shows at most one step line a second to people, every step to programs", () => {
    const clock = simulatedClock();
    const [people, programs] = [streams(), streams()];
    const watchers = [runProgress(createOutput(false, people.streams), { clock }), runProgress(createOutput(true, programs.streams), { clock })];
    for (const watch of watchers) watch({ event: "start", run: "tiny", runFolder: "runs/x", seed: 1, precision: "f32", steps: 10, parameters: 5, processes: [] });
    for (let step = 0; step < 10; step++) {
      for (const watch of watchers) watch({ event: "step", step, loss: 2.345678901234567, losses: {}, lr: 0, norm: 0, pagesPerSecond: 1, etaSeconds: 0, samples: [] });
      clock.advance(400);
    }
    assert.deepEqual(people.said.out.match(/step \d+\/10/g), ["step 1/10", "step 4/10", "step 7/10", "step 10/10"]);
    assert.equal(programs.said.out.match(/"event":"step"/g)?.length, 10);
    assert.match(programs.said.out, /"loss":2\.345678901234567,/);
  });

  it("takes the first signal as a wish to stop, and a doubled one as the same press", () => {
    const clock = simulatedClock();
    const said: string[] = [];
    const stop = stopOnSignals((message) => said.push(message), { clock });
    try {
      process.emit("SIGTERM");
      assert.equal(stop.signal.aborted, true);
      clock.advance(50);
      process.emit("SIGTERM"); // npx passes on what the terminal had sent already
      assert.equal(said.length, 1);
      assert.match(said[0], /^SIGTERM: stopping after the current step/);
    } finally {
      stop.dispose();
    }
    assert.equal(process.listeners("SIGTERM").length, 0);
  });
});
