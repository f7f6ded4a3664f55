import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, readlinkSync, readdirSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Manifest, RuntimeError, commitCheckpoint, findCheckpoint, listCheckpoints, manifestVersion, readManifest } from "../../../runtime/index.ts";
import { losses, miniRecipe, octavo, temporaryFolder } from "../../process/octavo.ts";

const manifest = (step: number): Manifest =>
  ({ version: manifestVersion, step, seed: 1, recipe: "recipe.yaml", ledger: { step, samplesSeen: step }, topology: { stages: {} }, tensors: [] });

describe("a checkpoint", () => {
  const folder = temporaryFolder();
  after(() => folder.remove());
  const root = join(folder.path, "checkpoints");
  const commit = (step: number, keep: number): string => {
    const partial = join(root, `step-${step}.partial`);
    mkdirSync(partial, { recursive: true });
    return commitCheckpoint(root, partial, manifest(step), keep);
  };

  it("is committed by its manifest, moves `latest`, and only then old ones go", () => {
    commit(2, 2), commit(4, 2), commit(10, 2);
    assert.deepEqual(listCheckpoints(root), ["step-4", "step-10"]);
    assert.equal(readlinkSync(join(root, "latest")), "step-10");
    assert.equal(findCheckpoint(folder.path), join(root, "step-10"));
    assert.equal(findCheckpoint(root), join(root, "step-10"));
    assert.equal(findCheckpoint(join(root, "step-4")), join(root, "step-4"));
  });

  it("may be saved again at the same step", () => {
    commit(10, 2);
    assert.equal(readManifest(join(root, "step-10")).step, 10);
  });

  it("without a manifest is none", () => {
    mkdirSync(join(root, "step-99"));
    assert.deepEqual(listCheckpoints(root), ["step-4", "step-10"]);
    rmSync(join(root, "step-99"), { recursive: true });
    assert.throws(() => findCheckpoint(join(folder.path, "nowhere")), (error) => error instanceof RuntimeError && error.code === "ERR_CHECKPOINT" && /no such folder/.test(error.message));
  });

  it("with a broken manifest is refused by name", () => {
    writeFileSync(join(root, "step-4", "manifest.json"), "{");
    assert.throws(() => readManifest(join(root, "step-4")), (error) => error instanceof RuntimeError && /manifest\.json: cannot be read/.test(error.message));
    writeFileSync(join(root, "step-4", "manifest.json"), JSON.stringify({ ...manifest(4), version: 99 }));
    assert.throws(() => readManifest(join(root, "step-4")), (error) => error instanceof RuntimeError && /version 1 expected, found 99/.test(error.message));
  });
});

describe("a disk that is full when a checkpoint is written", function () {
  this.timeout(120_000);
  const folder = temporaryFolder();
  const disk = join(folder.path, "disk");
  before(function () {
    mkdirSync(disk);
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], { stdio: "pipe" });
    } catch {
      console.log("      skipped: this user may not mount a small disk to fill");
      this.skip();
    }
  });
  after(() => {
    if (existsSync(disk) && statfsSync(disk).type === 0x01021994) execFileSync("umount", [disk]);
    folder.remove();
  });

  it("ends the run, says so, and leaves the checkpoint before whole", async () => {
    // One checkpoint of this recipe takes about 9 MB: the third does not fit beside the two that are kept.
    const ended = await octavo(["train", miniRecipe, "--runs", disk, "--in-process", "--set", "train.steps=12", "--set", "train.checkpoint={every: 2, keep: 5}"]);
    assert.equal(ended.code, 1, ended.stderr + ended.stdout.slice(-500));
    const failure = ended.events.find((event) => event.event === "failure")!;
    assert.match(failure.message as string, /cannot be written \(ENOSPC\)\. Free space/);
    const saved = ended.events.filter((event) => event.event === "checkpoint");
    assert.ok(saved.length >= 1 && saved.length < 6, `${saved.length} checkpoints fitted`);
    const last = saved.at(-1)!;
    const root = join(last.path as string, "..");
    assert.deepEqual(readdirSync(root).filter((name) => name.includes("partial")), [], "no half checkpoint is left");
    assert.equal(readManifest(last.path as string).step, last.step);
    const resumed = await octavo(["train", miniRecipe, "--runs", folder.path, "--in-process", "--set", `train.steps=${(last.step as number) + 1}`, "--resume", root]);
    assert.equal(resumed.code, 0, resumed.stderr);
    assert.equal(losses(resumed).size, 1);
    assert.ok(readFileSync(join(last.path as string, "manifest.json"), "utf8").length > 0);
  });
});
