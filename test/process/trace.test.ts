import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { explainTrace, readTrace } from "../../runtime/index.ts";
import { losses, miniRecipe, octavo, temporaryFolder } from "./octavo.ts";

describe("octavo train --trace and octavo explain", function () {
  this.timeout(120_000);
  const folder = temporaryFolder();
  after(() => folder.remove());
  const traced = async (...args: string[]) => {
    const ended = await octavo(["train", miniRecipe, "--runs", folder.path, "--set", "train.steps=4", ...args]);
    assert.equal(ended.code, 0, ended.stderr);
    return ended;
  };

  it("shows what every rank of a pipeline did and waited for, beside the plan, and changes no bit", async () => {
    const ended = await traced("--trace", "2"), plain = await traced();
    assert.deepEqual(losses(ended), losses(plain));
    const event = ended.events.find(({ event }) => event === "trace")!, end = ended.events.at(-1)!;
    assert.deepEqual([event.path, event.from, event.to], [join(end.runFolder as string, "trace.json"), 2, 3]);
    const trace = readTrace(readFileSync(event.path as string, "utf8"), "trace.json");
    assert.deepEqual(trace.ranks.map(({ rank }) => rank), ["pages", "image", "text", "fusion"]);
    const fusion = trace.ranks[3].spans;
    for (const step of [2, 3]) {
      assert.deepEqual(fusion.filter((span) => span.step === step && span.kind === "compute").map(({ name }) => name).sort(), ["B0", "B1", "B2", "B3", "F0", "F1", "F2", "F3"]);
      assert.equal(fusion.filter((span) => span.step === step && span.kind === "optimizer").length, 1);
      assert.equal(trace.planned.filter((span) => span.step === step && span.rank === "fusion").length, 8);
    }
    assert.ok(fusion.some(({ kind, peer }) => kind === "wait-for-input" && peer === "text"));
    assert.ok(fusion.some(({ kind, peer }) => kind === "transfer" && peer === "image"));
    for (const { rank, spans } of trace.ranks) {
      const device = spans.filter(({ on }) => on === "device");
      device.forEach((span, i) => assert.ok(span.end >= span.begin && (i === 0 || span.begin >= device[i - 1].end), `${rank}: ${JSON.stringify([device[i - 1], span])}`));
    }
    // an activation is received after it was computed elsewhere: the clocks are one
    const computed = trace.ranks[1].spans.find(({ name, step }) => name === "F0" && step === 2)!, received = fusion.find(({ kind, name, step }) => kind === "transfer" && name === "activations 0 of image" && step === 2)!;
    assert.ok(received.begin >= computed.end, JSON.stringify([computed, received]));

    const explained = await octavo(["explain", end.runFolder as string]);
    assert.equal(explained.code, 0, explained.stderr);
    const found = explained.events.find(({ event }) => event === "explanation") as unknown as ReturnType<typeof explainTrace>;
    assert.deepEqual({ ...found, event: undefined }, { ...explainTrace(trace), event: undefined });
    for (const { rank, shares } of found.ranks) assert.ok(Math.abs(Object.values(shares).reduce((sum, share) => sum + share, 0) - 1) < 1e-9, rank);
    assert.ok(found.ranks[0].shares.compute! < found.ranks[3].shares.compute!, "fusion computes more than the loader");
    assert.ok(found.ranks[1].waitedFor.some(({ rank, what }) => rank === "fusion" && what === "compute"), "image waits while fusion computes");
  });

  it("shows the calls of a group, those of gradients and those within what computes", async () => {
    const ended = await traced("--trace", "1", "--set", "stages={pages: [pages], encoders: [image, teacher, text, position], rest: [fusion, mlm, mim, wpa]}",
      ...["image", "teacher", "text", "position"].flatMap((name) => ["--set", `components.${name}.layout={data: 2}`]), ...["fusion", "mlm", "mim", "wpa"].flatMap((name) => ["--set", `components.${name}.layout={tensor: 2}`]));
    const { ranks } = readTrace(readFileSync(ended.events.find(({ event }) => event === "trace")!.path as string, "utf8"), "trace.json");
    assert.deepEqual(ranks.map(({ rank }) => rank), ["pages", "encoders-d0", "encoders-d1", "rest-t0", "rest-t1"]);
    const calls = (rank: number) => ranks[rank].spans.filter(({ kind }) => kind === "collective"), computes = (rank: number) => ranks[rank].spans.filter(({ kind }) => kind === "compute");
    const within = (call: { begin: number; end: number }, rank: number): boolean => computes(rank).some(({ begin, end }) => begin <= call.begin && call.end <= end);
    assert.ok(calls(1).length > 0 && calls(1).every((call) => call.name === "data of encoders" && !within(call, 1)), JSON.stringify(calls(1)));
    assert.ok(calls(3).length > 0 && calls(3).every((call) => call.name === "tensor of rest" && within(call, 3)), JSON.stringify(calls(3).slice(0, 3)));
    assert.equal(calls(3).length, calls(4).length);
    const { ranks: explained } = explainTrace(readTrace(readFileSync(ended.events.find(({ event }) => event === "trace")!.path as string, "utf8"), "trace.json"));
    for (const { rank, shares } of explained.slice(1)) assert.ok(shares.collective! > 0 && Math.abs(Object.values(shares).reduce((sum, share) => sum + share, 0) - 1) < 1e-9, rank);
  });

  it("works in one process, and says what to do where nothing was traced", async () => {
    const ended = await traced("--in-process", "--trace", "1");
    const trace = readTrace(readFileSync(ended.events.find(({ event }) => event === "trace")!.path as string, "utf8"), "trace.json");
    assert.deepEqual(trace.ranks.map(({ rank, spans }) => [rank, spans.map(({ kind, step }) => `${kind} ${step}`)]), [["in-process", ["loader 3", "compute 3"]]]);
    const nothing = await octavo(["explain", folder.path]);
    assert.equal(nothing.code, 2);
    assert.match(nothing.stdout + nothing.stderr, /expected a trace, found nothing at .*trace\.json\. Trace some steps of a run: octavo train RECIPE --trace/);
  });
});
