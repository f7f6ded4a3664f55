import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { RuntimeError, openTensors, readManifest, writeRelease } from "../../../runtime/index.ts";
import { temporaryFolder } from "../../process/octavo.ts";
import { f32 } from "./memory-source.ts";

const writer = fileURLToPath(new URL("killed-writer.ts", import.meta.url));

/** Runs the writer; kills it where it stands still. Resolves with the signal or code it ended by. */
function run(kind: string, target: string, stopAt: string): Promise<number | NodeJS.Signals | null> {
  const child = spawn(process.execPath, ["--import", "tsx", "--conditions", "source", writer, kind, target, stopAt], { stdio: ["ignore", "pipe", "inherit"] });
  child.stdout.on("data", () => child.kill("SIGKILL"));
  return new Promise((resolve) => child.on("close", (code, signal) => resolve(signal ?? code)));
}

describe("a writer of weights", function () {
  this.timeout(120_000);
  const folder = temporaryFolder();
  after(() => folder.remove());

  for (const kind of ["release", "import"]) {
    it(`killed with -9 at any point leaves no half ${kind}, and the next one finishes and cleans up`, async () => {
      const target = join(folder.path, kind);
      for (const point of ["within 0", "within 4", "after 6"]) {
        assert.equal(await run(kind, target, point), "SIGKILL");
        assert.ok(!existsSync(target), `killed ${point}: nothing bears the name`);
      }
      assert.equal(await run(kind, target, "never"), 0);
      assert.deepEqual(readdirSync(folder.path).filter((name) => name.startsWith(`.${kind}`)), [], "what the killed ones left is gone");
      if (kind === "import") assert.equal(readManifest(target).tensors.length, 6);
      const source = openTensors(kind === "import" ? join(target, "model.safetensors") : target);
      assert.equal(source.names.length, 6);
      for (const name of source.names) assert.deepEqual(source.entry(name)!.shape, [3000]);
      source.close();
    });
  }

  it("asked to stop leaves nothing", async () => {
    const controller = new AbortController(), target = join(folder.path, "stopped");
    const tensors = new Map(["a", "b", "c"].map((name) => [name, { ...f32([2], [1, 2]), pieces: () => [new Uint8Array(8)] }]));
    const writing = writeRelease(target, { tensors, files: {}, signal: controller.signal, onTensor: (name) => name === "b" && controller.abort() });
    await assert.rejects(writing, (error) => error instanceof RuntimeError && error.code === "ERR_ABORTED");
    assert.deepEqual(readdirSync(folder.path).filter((name) => name.includes("stopped")), []);
  });

  it("whose source gives out leaves nothing, and says why", async () => {
    const tensors = new Map([["a", { ...f32([2], [1, 2]), pieces: () => [new Uint8Array(4)] }]]);
    await assert.rejects(writeRelease(join(folder.path, "short"), { tensors, files: {} }), (error) => error instanceof RuntimeError && /"a" gave 4 bytes instead of 8/.test(error.message));
    assert.deepEqual(readdirSync(folder.path).filter((name) => name.includes("short")), []);
  });
});
