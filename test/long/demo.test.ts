import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { root, temporaryFolder } from "../process/octavo.ts";

/** Must hold 6: what the demo prints is true, and the model it trains beats the untrained one on pages neither has seen. */
describe("the demo", () => {
  it("trains, scores better than untrained on held-out pages, answers, draws, in under six minutes", async () => {
    const folder = temporaryFolder();
    try {
      const child = spawn(process.execPath, [join(root, "examples/demo/main.mjs")], { cwd: folder.path, stdio: ["ignore", "pipe", "inherit"] });
      let printed = "";
      child.stdout.setEncoding("utf8").on("data", (text: string) => (printed += text, process.stdout.write(text)));
      const code = await new Promise((resolve) => child.on("close", resolve));
      assert.equal(code, 0);
      const path = /summary +(\S+)/.exec(printed)![1];
      const summary = JSON.parse(readFileSync(join(folder.path, path), "utf8")) as {
        seconds: number; files: { picture: string }; preTraining: { first: Record<string, number>; last: Record<string, number> };
        heldOut: { questions: number; losses: Record<"untrained" | "trained", { answer: number }>; scores: Record<"untrained" | "trained", { anls: number; token_f1: number; box_iou: number }> };
      };
      assert.ok(summary.seconds < 360, `${summary.seconds} s`);
      assert.ok(existsSync(summary.files.picture));
      assert.ok(summary.preTraining.last.mlm < summary.preTraining.first.mlm);
      const { losses, scores, questions } = summary.heldOut;
      assert.ok(questions >= 100);
      assert.ok(losses.trained.answer < 0.7 * losses.untrained.answer, JSON.stringify(losses));
      for (const name of ["anls", "token_f1", "box_iou"] as const) assert.ok(scores.trained[name] > scores.untrained[name], `${name}: ${JSON.stringify(scores)}`);
    } finally {
      folder.remove();
    }
  });
});
