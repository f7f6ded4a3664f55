/** `octavo ask` on a checkpoint of the tiny model, as a user calls it. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { type Ended, octavo, root, temporaryFolder } from "./octavo.ts";

describe("octavo ask", function () {
  this.timeout(180_000);
  const folder = temporaryFolder();
  after(() => folder.remove());
  let checkpoint: string;
  const asked = [join(root, "examples/data/pages/X00016469623.jpg"), "what is the total?", "--max-tokens", "16", "--threads", "1"];
  const ask = (...args: string[]): Promise<Ended> => octavo(["ask", checkpoint, ...asked, ...args]);
  const one = (ended: Ended, event: string): Record<string, unknown> => {
    assert.equal(ended.code, 0, ended.stderr + ended.stdout);
    return ended.events.find((each) => each.event === event)!;
  };
  before(async () => {
    const trained = await octavo(["train", join(root, "examples/demo/fine-tune.yaml"), "--in-process", "--threads", "2", "--runs", folder.path, "--set", "train.steps=4"]);
    checkpoint = one(trained, "end").checkpoint as string;
  });

  it("tells tokens with --stream as they are written, and the same answer without", async () => {
    const plain = await ask(), streamed = await ask("--stream");
    const { items, tokens, text } = one(streamed, "answer") as { items: { type?: string }[]; tokens: number; text: string };
    assert.deepEqual(one(plain, "answer").items, items);
    const told = streamed.events.filter(({ event }) => event === "token");
    assert.equal(told.length, tokens);
    assert.ok(streamed.events.indexOf(told[0]) < streamed.events.findIndex(({ event }) => event === "answer"));
    const people = spawnSync(process.execPath, [join(root, "dist/cluster/cli/main.js"), "ask", checkpoint, ...asked, "--stream"], { encoding: "utf8" });
    const words = (shown: string): string => shown.replace(/\s+/g, " ").trim();
    assert.equal(words(people.stdout), words(told.map((token) => token.text as string).join("")) || "(no answer)");
    if (items.every(({ type }) => type === undefined)) assert.equal(words(told.map((token) => token.text as string).join("")), words(text)); // types are told, and are no words of the answer
  });

  it("draws another answer with another seed, the same one with the same, and gives what other beams found", async () => {
    const sample = ["--mode", "sample", "--temperature", "2", "--top-k", "200", "--top-p", "0.99"];
    const [five, again, six, beams] = await Promise.all([ask(...sample, "--seed", "5"), ask(...sample, "--seed", "5"), ask(...sample, "--seed", "6"), ask("--mode", "beam", "--beams", "3", "--length-penalty", "0.5")]);
    assert.deepEqual(one(five, "answer").items, one(again, "answer").items);
    assert.notDeepEqual(one(five, "answer").items, one(six, "answer").items);
    assert.ok((one(beams, "answer").alternatives as unknown[]).length >= 1);
  });

  it("compares a closed list with --choices, the likeliest first", async () => {
    const { choices } = one(await ask("--choices", "9.00, 12.50,TOTAL"), "choices") as { choices: { answer: string; probability: number }[] };
    assert.deepEqual(choices.map(({ answer }) => answer).sort(), ["12.50", "9.00", "TOTAL"]);
    assert.ok(choices[0].probability >= choices[1].probability && choices[1].probability >= choices[2].probability);
  });

  it("refuses what its mode would not use before it reads a checkpoint", async () => {
    const wrong = await octavo(["ask", "nowhere", ...asked, "--top-p", "0.5"]);
    assert.equal(wrong.code, 2);
    assert.match(wrong.events[0].message as string, /topP: belongs to mode sample, got mode greedy\. Set mode to sample, or leave topP out/);
  });
});
