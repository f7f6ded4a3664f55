import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./process/octavo.ts";

describe("the leak hook", function () {
  this.timeout(60_000);

  it("fails the test that leaks a tensor, and only that one", () => {
    const folder = mkdtempSync(join(root, "build", "leak-"));
    try {
      writeFileSync(join(folder, "leaky.test.ts"), `
        import { zeros } from ${JSON.stringify(join(root, "runtime/tensor/index.ts"))};
        describe("leaky", () => {
          it("frees", () => zeros([2]).dispose());
          it("leaks", () => void zeros([2]));
        });
        describe("after it", () => { it("frees again", () => zeros([2]).dispose()); });
      `);
      const { stdout, status } = spawnSync(process.execPath, [join(root, "scripts/test.mjs"), join(folder, "leaky.test.ts")], { cwd: root, encoding: "utf8" });
      assert.notEqual(status, 0);
      assert.match(stdout, /"leaky leaks" leaked 1 tensors/);
      assert.doesNotMatch(stdout, /"leaky frees" leaked|"after it frees again" leaked/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
