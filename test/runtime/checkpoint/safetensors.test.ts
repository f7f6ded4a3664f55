import assert from "node:assert/strict";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openSafetensors, writeSafetensors } from "../../../runtime/index.ts";
import { temporaryFolder } from "../../process/octavo.ts";
import { refused } from "./memory-source.ts";

describe("safetensors", () => {
  const folder = temporaryFolder();
  after(() => folder.remove());
  const path = join(folder.path, "a.safetensors");
  const f32 = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer);

  beforeEach(() => writeSafetensors(path, new Map([
    ["b.weight", { dtype: "F32" as const, shape: [2, 2], data: f32(1, 2, 3, 4) }],
    ["a", { dtype: "F64" as const, shape: [1], data: new Uint8Array(Float64Array.of(-0).buffer) }],
  ]), { made: "here" }));

  it("gives back the very bytes, by name", () => {
    const file = openSafetensors(path);
    assert.deepEqual(file.names, ["b.weight", "a"]);
    assert.deepEqual(file.metadata, { made: "here" });
    assert.deepEqual(file.read("b.weight"), { dtype: "F32", shape: [2, 2], data: Buffer.from(f32(1, 2, 3, 4)) });
    assert.ok(Object.is(new Float64Array(file.read("a").data.slice().buffer)[0], -0));
    assert.throws(() => file.read("c"), refused(/holds no tensor "c"/));
    file.close();
  });

  it("is laid out as the format says: u64 length, JSON, data", () => {
    const bytes = readFileSync(path);
    const header = Number(bytes.readBigUInt64LE());
    assert.equal(header % 8, 0);
    const json = JSON.parse(bytes.subarray(8, 8 + header).toString()) as Record<string, unknown>;
    assert.deepEqual(json["b.weight"], { dtype: "F32", shape: [2, 2], data_offsets: [0, 16] });
    assert.equal(bytes.readFloatLE(8 + header + 8), 3);
  });

  it("refuses a truncated file, a lying header and something else altogether", () => {
    const bytes = readFileSync(path);
    truncateSync(path, bytes.length - 1);
    assert.throws(() => openSafetensors(path), refused(/its tensors end at byte \d+, the file has \d+/));
    truncateSync(path, 5);
    assert.throws(() => openSafetensors(path), refused(/5 bytes/));
    writeFileSync(path, Buffer.concat([Buffer.from([255, 255, 255, 255, 255, 0, 0, 0]), bytes]));
    assert.throws(() => openSafetensors(path), refused(/its header claims/));
    writeFileSync(path, Buffer.concat([Buffer.from([4, 0, 0, 0, 0, 0, 0, 0]), Buffer.from("nope")]));
    assert.throws(() => openSafetensors(path), refused(/not JSON/));
    const liar = JSON.stringify({ a: { dtype: "F32", shape: [1000], data_offsets: [0, 16] } });
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(liar.length));
    writeFileSync(path, Buffer.concat([length, Buffer.from(liar), Buffer.alloc(16)]));
    assert.throws(() => openSafetensors(path), refused(/claims bytes 0 to 16, its shape \(1000\) of F32 needs 4000/));
    assert.throws(() => openSafetensors(join(folder.path, "none")), refused(/ENOENT/));
  });
});
