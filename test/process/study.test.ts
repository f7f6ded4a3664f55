import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Event, miniRecipe, octavo, start, temporaryFolder } from "./octavo.ts";

describe("a study", function () {
  this.timeout(240_000);
  const folder = temporaryFolder();
  after(() => folder.remove());
  const file = join(folder.path, "study.yaml");
  const studyFolder = join(folder.path, "runs");
  const args = ["ablate", file, "--folder", studyFolder, "--in-process"];
  const finished = (events: readonly Event[]): string[] => events.filter((event) => event.event === "run" && event.state === "finished").map(({ arm, seed }) => `${arm as string}/${seed as number}`);
  let early: string[] = [];

  before(() => writeFileSync(file, `name: small
parent: ${miniRecipe}
seeds: [1, 2]
metric: held-out.mlm
set: { train.steps: 3 }
arms:
  no-positions: { remove: [position] }
  concatenation: { replace: { fusion: { use: fusion/concatenation } } }
`));

  it("stopped in the middle keeps what is finished", async () => {
    const run = start(args);
    let count = 0;
    await run.event((event) => event.event === "run" && event.state === "finished" && ++count === 2);
    run.child.kill("SIGTERM");
    const ended = await run.ended;
    early = finished(ended.events);
    assert.ok(early.length >= 2 && early.length < 6, early.join());
  });

  it("started again runs only the rest, and reports mean, spread and difference to the parent with the config diff", async () => {
    const ended = await octavo(args);
    assert.equal(ended.code, 0, ended.stderr + ended.stdout.slice(-800));
    const now = finished(ended.events);
    assert.deepEqual([...early, ...now].sort(), ["concatenation/1", "concatenation/2", "no-positions/1", "no-positions/2", "parent/1", "parent/2"]);
    const report = JSON.parse(readFileSync(join(studyFolder, "report.json"), "utf8")) as { arms: { name: string; mean: number; spread: number; difference?: number; changes: unknown[] }[] };
    const markdown = readFileSync(join(studyFolder, "report.md"), "utf8");
    for (const name of ["parent", "no-positions", "concatenation"]) assert.match(markdown, new RegExp(`\\\\| ${name} +\\\\|`));
    assert.equal(report.arms.length, 3);
    const parent = report.arms.find(({ name }) => name === "parent")!;
    for (const arm of report.arms) {
      assert.ok(arm.mean > 0 && Number.isFinite(arm.spread), JSON.stringify(arm));
      if (arm !== parent) assert.ok(arm.changes.length > 0, `${arm.name} says what it changed`);
    }
    assert.notEqual(report.arms.find(({ name }) => name === "concatenation")!.mean, parent.mean);
  });

  it("gave every arm of a seed the same pages in the same order, and other seeds other ones", async () => {
    const order = (runFolder: string): string => readFileSync(join(runFolder, "events.jsonl"), "utf8").trim().split("\n")
      .map((line) => JSON.parse(line) as Event).filter((event) => event.event === "step").map((event) => (event.samples as string[]).join()).join(" ");
    const report = JSON.parse(readFileSync(join(studyFolder, "report.json"), "utf8")) as { arms: { values: { seed: number; runFolder: string }[] }[] };
    const orders = report.arms.map((arm) => arm.values.map(({ runFolder }) => order(runFolder)));
    for (const seeds of orders) assert.deepEqual(seeds, orders[0]);
    assert.notEqual(orders[0][0], orders[0][1]);
    assert.equal(orders[0][0].split(" ").length, 3);
  });
});
