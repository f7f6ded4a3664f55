import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { losses, octavo, root, temporaryFolder } from "./process/octavo.ts";

/** The whole road in seconds: train as four processes, checkpoint, resume, score, ask. What a user types, on real pages. */
describe("the story", function () {
  this.timeout(300_000);
  const folder = temporaryFolder();
  after(() => folder.remove());
  const fineTune = join(root, "examples/demo/fine-tune.yaml");
  const small = ["--set", "components.pages.options.max_text=64", "--set", "components.pages.options.shards=../data/receipts/train-000.tar",
    "--set", "train.batch=8", "--set", "train.microbatches=2", "--set", "evaluate.limit=6"];
  const page = join(root, "examples/data/pages/X00016469623.jpg");
  let first: { runFolder: string; checkpoint: string };

  it("trains a recipe and keeps everything in a folder of the run's own", async () => {
    const ended = await octavo(["train", fineTune, ...small, "--runs", folder.path, "--set", "train.steps=12", "--set", "train.checkpoint.every=6"]);
    assert.equal(ended.code, 0, ended.stderr);
    const seen = losses(ended);
    assert.equal(seen.size, 12);
    assert.ok(seen.get(11)! < seen.get(0)!, `loss ${seen.get(0)} -> ${seen.get(11)}`);
    const end = ended.events.at(-1)! as unknown as typeof first & { event: string };
    assert.equal(end.event, "end");
    first = end;
    assert.deepEqual(readdirSync(join(first.runFolder, "logs")).sort(), ["fusion.log", "image.log", "pages.log", "text.log"]);
    assert.deepEqual(readdirSync(join(first.runFolder, "checkpoints")).sort(), ["latest", "step-12", "step-6"]);
    assert.ok(existsSync(join(first.runFolder, "recipe.yaml")));
    const events = readFileSync(join(first.runFolder, "events.jsonl"), "utf8").trim().split("\n").map((line) => JSON.parse(line) as { event: string });
    assert.equal(events.filter(({ event }) => event === "step").length, 12);
  });

  it("goes on from the checkpoint in a second folder", async () => {
    const ended = await octavo(["train", fineTune, ...small, "--runs", folder.path, "--set", "train.steps=14", "--resume", first.runFolder]);
    assert.equal(ended.code, 0, ended.stderr);
    assert.deepEqual([...losses(ended).keys()], [12, 13]);
    assert.equal(readdirSync(folder.path).filter((name) => name.startsWith("fine-tune-")).length, 2);
  });

  it("scores it on pages it never saw", async () => {
    const ended = await octavo(["evaluate", first.checkpoint, "--limit", "6"]);
    assert.equal(ended.code, 0, ended.stderr);
    const evaluation = ended.events.find((event) => event.event === "evaluation") as unknown as { scores: Record<string, number>; losses: Record<string, number>; examples: number };
    assert.equal(evaluation.examples, 6);
    assert.ok(evaluation.losses.answer > 0 && Number.isFinite(evaluation.losses.answer));
    for (const [name, score] of Object.entries(evaluation.scores)) assert.ok(score >= 0, `${name} ${score}`);
  });

  it("answers a prompt about a page, and draws the answer's boxes", async () => {
    const out = join(folder.path, "answer.png");
    const ended = await octavo(["ask", first.runFolder, page, "what is the total?", "--out", out]);
    assert.equal(ended.code, 0, ended.stderr);
    const answer = ended.events.find((event) => event.event === "answer") as unknown as { text: string; boxes: number[][]; tokens: number };
    assert.ok(answer.tokens > 0);
    for (const box of answer.boxes) assert.ok(box.length === 4 && box.every((v) => v >= 0 && v <= 1024), JSON.stringify(box));
    assert.deepEqual([...readFileSync(out).subarray(0, 8)], [137, 80, 78, 71, 13, 10, 26, 10], "a PNG");
  });

  it("answers a prompt about a PDF with a text layer", async () => {
    const pdf = readdirSync(join(root, "examples/data/pages")).find((name) => name.endsWith(".pdf"))!;
    const ended = await octavo(["ask", first.checkpoint, join(root, "examples/data/pages", pdf), "what is the date?"]);
    assert.equal(ended.code, 0, ended.stderr);
    assert.ok(ended.events.some((event) => event.event === "answer"));
  });
});
