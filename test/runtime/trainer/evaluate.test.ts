/** What an evaluation says beside losses: accuracies, their baseline, codes in use; and when a run evaluates by itself. */
import assert from "node:assert/strict";
import { correct } from "../../../plugins/objective/correct.ts";
import { evaluate, fromArray, heldOut, openTrained, Scope, train, type DataLoader, type HostBatch, type RunEvent } from "../../../runtime/index.ts";
import { MicrobatchPass } from "../../../runtime/pipeline/run/microbatch.ts";
import { temporaryFolder } from "../../process/octavo.ts";
import { miniRecipe, miniRuns, registry } from "./mini-run.ts";

describe("an evaluation", function () {
  this.timeout(120_000);
  const { run, remove } = miniRuns();
  after(remove);
  const receipts = "components.pages.options.held_out=../../examples/data/receipts/held-out-*.tar";
  it("counts a row as correct when its target is ranked first; parts of a batch add up", async () => {
    const scope = new Scope("correct");
    try {
      const share = (logits: number[], targets: number[]) =>
        scope.enter(() => correct(fromArray(logits, [targets.length, 3]), fromArray(Int32Array.from(targets), [targets.length]), 1 / 4)).item();
      assert.equal(await share([3, 1, 2, 0, 5, 1, 7, 8, 9, 1, 2, 0], [0, 1, 0, -100]), 0.5);
      assert.equal(await share([3, 1, 2], [0]) + await share([0, 5, 1, 7, 8, 9, 1, 2, 0], [1, 0, -100]), 0.5);
    } finally {
      scope.close();
    }
  });

  it("says beside a masked accuracy what the training pages' most frequent word would have reached", async () => {
    const { result } = await run("mini", "train.steps=1");
    const { losses } = await evaluate(result.checkpoint!, { registry, limit: 4 });
    const trained = await openTrained(result.checkpoint!, { registry });
    try {
      const loader = trained.model.loader as DataLoader, seed = trained.model.seed;
      const words = (batch: HostBatch) => batch.microbatches.flatMap(({ tensors }) => [...tensors.mlm_targets.data as Int32Array]);
      const seen = new Map<number, number>();
      for (let step = 0; step < 16; step++) for (const id of words(await loader.batch({ step, seed, batch: 8, microbatches: 1 }))) seen.set(id, (seen.get(id) ?? 0) + 1);
      const most = [...seen].reduce((best, one) => (one[1] > best[1] || (one[1] === best[1] && one[0] < best[0]) ? one : best))[0];
      const asked = (await loader.evaluationBatches({ seed, batch: 8, limit: 4 })).flatMap(words);
      assert.ok(asked.includes(most), "else this test shows nothing");
      assert.equal(losses["mlm.unigram"], asked.filter((id) => id === most).length / asked.length);
    } finally {
      await trained.close();
    }
    assert.ok(losses["mlm.accuracy"] >= 0 && losses["mlm.accuracy"] <= 1);
    assert.ok(!("wpa.unigram" in losses), "an objective without classes has no baseline");
  });

  it("says which share of the codes all held-out pages used, not a sum over batches", async () => {
    const { result } = await run("mini-vq-kd", "train.steps=1", receipts);
    const { losses, examples } = await evaluate(result.checkpoint!, { registry, limit: 12 });
    const trained = await openTrained(result.checkpoint!, { registry });
    const used = new Set<number>();
    try {
      const { graph, nodes, seed, loader } = trained.model;
      const batches = await loader!.evaluationBatches({ seed, batch: 8, limit: 12 });
      assert.ok(batches.length > 1, "one batch would show nothing");
      for (const { counts, microbatches: [data] } of batches) {
        const pass = new MicrobatchPass(graph, nodes, { training: false, step: 0, seed, counts, precision: "f32", sampleIds: data.sampleIds }, "test");
        pass.forward({}, data);
        for (const id of await pass.value("words", "codes").read()) used.add(Number(id));
        pass.close();
      }
    } finally {
      await trained.close();
    }
    assert.equal(examples, 12);
    assert.equal(losses["likeness.codes_used"], used.size / 64);
  });

  it("gives the mean over batches of an objective that compares the rows of a batch", async () => {
    const { result } = await run("mini-clip", "train.steps=0", receipts);
    const { losses } = await evaluate(result.checkpoint!, { registry, limit: 12 });
    assert.ok(losses["pairs.accuracy"] <= 1, `an accuracy of ${losses["pairs.accuracy"]}`);
    // Untrained, telling n pages apart by chance costs about ln n: 8 and 4 pages.
    assert.ok(Math.abs(losses.pairs - (8 * Math.log(8) + 4 * Math.log(4)) / 12) < 0.5, `${losses.pairs}`);
  });

  it("sums the objectives alone to held-out.loss: metrics are no losses", () => {
    assert.deepEqual(heldOut({ mlm: 2, "mlm.accuracy": 0.5, wpa: 1 }), { "held-out.loss": 3, "held-out.mlm": 2, "held-out.mlm.accuracy": 0.5, "held-out.wpa": 1 });
  });

  it("comes every so many steps and after the last where the recipe asks, and leaves the run as it was", async () => {
    const asked = await run("mini-mim", "train.steps=3", receipts, "evaluate={every: 2, limit: 2}"), plain = await run("mini-mim", "train.steps=3");
    assert.deepEqual(asked.result.losses, plain.result.losses);
    const evaluations = asked.events.filter((event) => event.event === "evaluation");
    assert.deepEqual(evaluations.map(({ step, examples }) => [step, examples]), [[2, 2], [3, 2]]);
    const direct = await evaluate(asked.result.checkpoint!, { registry, limit: 2, threads: 1 });
    assert.deepEqual(evaluations[1].scores, heldOut(direct.losses));
    assert.equal(asked.events.at(-1)!.event, "end");
    assert.ok(!plain.events.some(({ event }) => event === "evaluation"));
  });

  it("is given up where it is aborted, and a run that is stopped while it evaluates ends as stopped runs do", async () => {
    const { result } = await run("mini-mim", "train.steps=1", receipts), stop = new AbortController();
    stop.abort(new Error("enough"));
    await assert.rejects(evaluate(result.checkpoint!, { registry, limit: 2, signal: stop.signal }), /enough/);
    const events: RunEvent[] = [], stopped = new AbortController(), folder = temporaryFolder();
    try {
      await train(miniRecipe("mini-mim", "train.steps=4", receipts, "evaluate={every: 2, limit: 2}"), {
        runFolder: folder.path, registry, inProcess: true, threads: 1, signal: stopped.signal,
        onEvent: (event) => { events.push(event); if (event.event === "checkpoint") setImmediate(() => stopped.abort()); }, // after the second step, as its evaluation begins
      });
    } finally {
      folder.remove();
    }
    assert.deepEqual(events.filter(({ event }) => event === "evaluation" || event === "end").map((event) => [event.event, (event as { reason?: string }).reason]), [["end", "stopped"]]);
  });
});
