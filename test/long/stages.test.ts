/** All stages at the tiny preset, as `octavo train examples/stages/all.yaml` runs them, and what they must reach on pages held out. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { formatSummary, type SequenceSummary } from "../../cluster/index.ts";
import { hardware, machine } from "../bench/report.ts";
import { root, temporaryFolder } from "../process/octavo.ts";

/** `OCTAVO_WRITE_RESULTS=1 npm run test:long` keeps the table under test/bench/results. */
const keep = process.env.OCTAVO_WRITE_RESULTS === "1";
const command = "octavo train examples/stages/all.yaml";

describe("the stages S1 to S7 at the tiny preset", () => {
  const folder = temporaryFolder();
  after(() => folder.remove());
  let seconds: number, summary: SequenceSummary, firstEvents: { losses: Record<string, number> }[];
  const scores = (stage: string) => summary.stages.find((one) => one.stage === stage)!.scores;

  before(async () => {
    const begun = performance.now();
    const child = spawn(process.execPath, [join(root, "dist/cluster/cli/main.js"), "train", join(root, "examples/stages/all.yaml"), "--runs", folder.path], { stdio: ["ignore", "inherit", "inherit"] });
    assert.equal(await new Promise((resolve) => child.on("close", resolve)), 0);
    seconds = (performance.now() - begun) / 1000;
    const [run] = readdirSync(folder.path);
    summary = JSON.parse(readFileSync(join(folder.path, run, "report.json"), "utf8")) as SequenceSummary;
    firstEvents = readFileSync(join(folder.path, run, "s1/events.jsonl"), "utf8").trim().split("\n").map((line) => JSON.parse(line) as { event: string; losses: Record<string, number> }).filter(({ event }) => event === "step");
    if (keep) writeResult();
  });

  it("run in fifteen minutes", () => assert.ok(seconds < 15 * 60, `${seconds.toFixed(0)} s`));

  it("S1: the loss falls below 60 % of its start in 300 steps, half of the codes are in use on pages held out", () => {
    assert.ok(firstEvents.length <= 300);
    const [first, last] = [firstEvents[0], firstEvents.at(-1)!].map(({ losses }) => losses.likeness);
    assert.ok(last < 0.6 * first, `${first} -> ${last}`);
    assert.ok(scores("s1")["held-out.likeness.codes_used"] >= 0.5, JSON.stringify(scores("s1")));
  });

  // "Well above": half as much again as always naming the most frequent class.
  for (const [stage, objective] of [["s2", "mim"], ["s4", "mntp"], ["s6", "mlm"], ["s6", "mim"]]) {
    it(`${stage}: ${objective} is right on pages held out half as often again as its unigram baseline`, () => {
      const { [`held-out.${objective}.accuracy`]: accuracy, [`held-out.${objective}.unigram`]: unigram } = scores(stage);
      assert.ok(accuracy >= 1.5 * unigram, `${accuracy} beside ${unigram}`);
    });
  }

  it("S7: answer tokens come out right more often than the most frequent one would", () => {
    const { "held-out.answer.accuracy": accuracy, "held-out.answer.unigram": unigram } = scores("s7");
    assert.ok(accuracy >= 1.5 * unigram, `${accuracy} beside ${unigram}`);
  });

  function writeResult(): void {
    const file = join(root, `test/bench/results/stages_${hardware()}_${new Date().toISOString().slice(0, 7)}.md`);
    writeFileSync(file, [
      "# The stages S1 to S7 at the tiny preset", "",
      ...Object.entries(machine()).map(([name, value]) => `- ${name}: ${value}`),
      `- command: \`${command}\`, by \`OCTAVO_WRITE_RESULTS=1 npm run test:long -- test/long/stages.test.ts\``, `- ${seconds.toFixed(0)} s in all, seed 1`, "",
      "Accuracies are of pages held out; beside them what always naming the most frequent class of the training pages reaches. Losses are of training.", "",
      formatSummary(summary), "",
    ].join("\n"));
    console.log(`      ${file}`);
  }
});
