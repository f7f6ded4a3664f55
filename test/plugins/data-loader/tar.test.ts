import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import tar from "tar-stream";
import { findShards, readShard, sampleName } from "../../../plugins/data-loader/tar.ts";
import { packTar } from "./bad-shards.ts";

describe("webdataset shards", () => {
  let folder: string;
  const shard = (name: string, bytes: Uint8Array) => { writeFileSync(join(folder, name), bytes); return join(folder, name); };
  before(() => { folder = mkdtempSync(join(tmpdir(), "octavo-tar-")); });
  after(() => rmSync(folder, { recursive: true }));

  it("name a sample by the path up to the first dot of the base name (T-1)", () => {
    // Rules of webdataset's group_by_keys.
    assert.deepEqual(sampleName("a/b/0001.page.JSON"), { key: "a/b/0001", suffix: "page.json" });
    assert.deepEqual(sampleName("v1.0/0001.txt"), { key: "v1.0/0001", suffix: "txt" });
    assert.deepEqual(sampleName("d/.x.txt"), { key: "d/", suffix: "x.txt" });
    for (const path of ["README", ".x.txt", "__meta__", "__x__/0001.txt", "a/__b__/1.txt"]) assert.equal(sampleName(path), undefined, path);
  });

  it("group consecutive members and nothing else (T-2)", async () => {
    const path = shard("order.tar", await packTar([["a.txt", "1"], ["b.txt", "2"], ["b.json", "{}"], ["a.json", "3"], ["NOTES", "x"]]));
    const { samples, faults } = await readShard(path);
    assert.deepEqual(samples.map(({ key, members }) => [key, [...members.keys()]]), [["a", ["txt"]], ["b", ["txt", "json"]], ["a", ["json"]]]);
    assert.deepEqual(faults, []);
  });

  it("keep the first of two members with one name, and say so (T-4)", async () => {
    const { samples, faults } = await readShard(shard("twice.tar", await packTar([["a.txt", "1"], ["a.txt", "2"]])));
    assert.equal(Buffer.from(samples[0].members.get("txt")!).toString(), "1");
    assert.deepEqual(faults.map(({ member }) => member), ["a.txt"]);
  });

  it("read gzip", async () => {
    const { samples } = await readShard(shard("zipped.tar.gz", gzipSync(await packTar([["a.txt", "1"]]))));
    assert.deepEqual(samples.map(({ key }) => key), ["a"]);
  });

  it("give what was whole and one fault, wherever the file is cut (T-3)", async () => {
    const whole = await packTar([["a.txt", "x".repeat(700)], ["a.json", "{}"], ["b.txt", "y".repeat(700)], ["b.json", "{}"]]);
    // Each member is a header block and its data in blocks of 512: a.txt 0-1536, a.json -2560, b.txt -4096, b.json -5120, two zero blocks.
    const between = [1536, 2560, 4096, 5120, 5632];  // the treacherous ones: nothing is broken there
    for (const cut of [...between, ...Array.from({ length: Math.floor(whole.length / 37) }, (_, i) => 1 + 37 * i)]) {
      const { samples, faults } = await readShard(shard("cut.tar", whole.subarray(0, cut)));
      assert.equal(faults.length, 1, `cut at ${cut}: ${JSON.stringify(faults)}`);
      const members = samples.flatMap(({ key, members }) => [...members.keys()].map((name) => `${key}.${name}`));
      const expected = [["a.txt", 1536], ["a.json", 2560], ["b.txt", 4096], ["b.json", 5120]].filter(([, end]) => cut >= (end as number)).map(([name]) => name);
      // A member is whole once its data is there, up to 511 bytes of padding before the end of its last block.
      assert.deepEqual(members.slice(0, expected.length), expected, `cut at ${cut}`);
      assert.ok(members.length <= expected.length + 1, `cut at ${cut}: ${members}`);
      for (const { members } of samples) for (const [name, bytes] of members) assert.equal(bytes.length, name === "txt" ? 700 : 2);
    }
  });

  it("call garbage garbage", async () => {
    const { samples, faults } = await readShard(shard("garbage.tar", Buffer.alloc(4096, 7)));
    assert.deepEqual([samples.length, faults.length], [0, 1]);
    assert.match(faults[0].problem, /header/);
    assert.deepEqual((await readShard(shard("empty.tar", Buffer.alloc(0)))).faults, [{ file: join(folder, "empty.tar"), problem: "an empty file" }]);
  });

  it("refuse a header that asks for more than a page can be", async () => {
    const pack = tar.pack();
    const header = await new Promise<Buffer>((resolve) => { pack.once("data", (bytes) => resolve(bytes as Buffer)); pack.entry({ name: "a.jpg", size: 2 ** 35 }); });
    pack.on("error", () => {});
    pack.destroy();
    const { faults } = await readShard(shard("huge.tar", header));
    assert.match(faults[0].problem, /member of 34359738368 bytes/);
  });

  it("are ERR_DATA when they are not there", async () => {
    await assert.rejects(readShard(join(folder, "nowhere.tar")), { code: "ERR_DATA", message: /nowhere\.tar: cannot be read \(ENOENT\)/ });
  });

  it("are found by pattern, in order", () => {
    for (const name of ["train-001.tar", "train-000.tar", "train-010.tar", "held-out-000.tar"]) shard(name, Buffer.alloc(0));
    const names = (pattern: string) => findShards([join(folder, pattern)]).map((path) => path.slice(folder.length + 1));
    assert.deepEqual(names("train-*.tar"), ["train-000.tar", "train-001.tar", "train-010.tar"]);
    assert.deepEqual(names("train-0?0.tar"), ["train-000.tar", "train-010.tar"]);
    assert.deepEqual(names("x{08..10}.tar"), ["x08.tar", "x09.tar", "x10.tar"]);
    assert.deepEqual(names("{a,b}-{0..1}.tar"), ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]);
    assert.throws(() => names("test-*.tar"), { code: "ERR_DATA", message: /no file matches; the folder holds .*train-000\.tar/ });
  });
});
