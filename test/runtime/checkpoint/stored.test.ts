import assert from "node:assert/strict";
import { closeSync, ftruncateSync, openSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { fromFloat32, openSafetensors, openTensors, readNumbers, toFloat32, writeSafetensors, type StoredDType, type StoredTensor } from "../../../runtime/index.ts";
import { temporaryFolder } from "../../process/octavo.ts";
import { refused } from "./memory-source.ts";

const f32 = (...values: number[]): StoredTensor => ({ dtype: "F32", shape: [values.length], data: new Uint8Array(Float32Array.from(values).buffer) });
/** A safetensors file with any header at all, and so many bytes of data. */
function withHeader(path: string, header: string, dataBytes: number): void {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(Buffer.byteLength(header)));
  writeFileSync(path, Buffer.concat([length, Buffer.from(header), Buffer.alloc(dataBytes)]));
}

describe("numbers in files", () => {
  it("become f32 from every dtype", () => {
    const value = (dtype: StoredDType, data: ArrayBufferView) => Array.from(toFloat32({ dtype, shape: [2], data: new Uint8Array(data.buffer) }));
    assert.deepEqual(value("F64", Float64Array.of(0.5, -3)), [0.5, -3]);
    assert.deepEqual(value("I64", BigInt64Array.of(-7n, 1n << 40n)), [-7, 2 ** 40]);
    assert.deepEqual(value("I32", Int32Array.of(-7, 9)), [-7, 9]);
    assert.deepEqual(value("I8", Int8Array.of(-7, 9)), [-7, 9]);
    assert.deepEqual(value("U8", Uint8Array.of(200, 9)), [200, 9]);
    assert.deepEqual(value("BOOL", Uint8Array.of(1, 0)), [1, 0]);
    // 0x3c00 = 1, 0xc000 = -2, 0x0001 = 2^-24, 0x03ff = 1023 * 2^-24, 0x7bff = 65504, 0x7c00 = infinity (IEEE 754-2008, table 3.5)
    const half = toFloat32({ dtype: "F16", shape: [6], data: new Uint8Array(Uint16Array.of(0x3c00, 0xc000, 0x0001, 0x03ff, 0x7bff, 0x7c00).buffer) });
    assert.deepEqual(Array.from(half), [1, -2, 2 ** -24, 1023 * 2 ** -24, 65504, Infinity]);
    assert.deepEqual(value("BF16", Uint16Array.of(0x3f80, 0xc040)), [1, -3]);
  });

  it("f16 and bf16 give back their own bits, all 65536 of them", () => {
    const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
    for (const dtype of ["F16", "BF16"] as const) {
      const wide = toFloat32({ dtype, shape: [65536], data: new Uint8Array(bits.buffer) });
      const back = new Uint16Array(fromFloat32(wide, dtype).buffer);
      for (let i = 0; i < 65536; i++) if (!Number.isNaN(wide[i])) assert.equal(back[i], bits[i], `${dtype} ${i.toString(16)}`);
      else assert.ok(Number.isNaN(toFloat32({ dtype, shape: [1], data: new Uint8Array(back.slice(i, i + 1).buffer) })[0]), `${dtype} NaN ${i.toString(16)} stays NaN`);
    }
  });

  it("are rounded to nearest, ties to even", () => {
    const rounded = (dtype: StoredDType, ...values: number[]) => Array.from(toFloat32({ dtype, shape: [values.length], data: fromFloat32(Float32Array.from(values), dtype) }));
    // halves keep 10 bits after the point, bfloat16 7: 1 + 2^-11 and 1 + 2^-8 are ties
    assert.deepEqual(rounded("F16", 1 + 2 ** -11, 1 + 3 * 2 ** -11, 1 + 2 ** -11 + 2 ** -20, 65519, 65520, 2 ** -25, 2 ** -25 * 1.5, -1e-30), [1, 1 + 2 ** -9, 1 + 2 ** -10, 65504, Infinity, 0, 2 ** -24, -0]);
    assert.deepEqual(rounded("BF16", 1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -20), [1, 1 + 2 ** -6, 1 + 2 ** -7]);
  });
});

describe("a safetensors header", () => {
  const folder = temporaryFolder();
  after(() => folder.remove());
  const path = join(folder.path, "x.safetensors");
  const entry = (from: number, to: number, o: { dtype?: string; shape?: unknown } = {}) => JSON.stringify({ dtype: o.dtype ?? "F32", shape: o.shape ?? [(to - from) / 4], data_offsets: [from, to] });

  it("that lies is refused before a byte of data is used", () => {
    for (const [header, bytes, what] of [
      [`{"a":${entry(0, 8)},"a":${entry(8, 16)}}`, 16, /names "a" twice/],
      [`{"a":${entry(0, 8)},"\\u0061":${entry(8, 16)}}`, 16, /names "a" twice/],
      [`{"a":${entry(0, 8)},"b":${entry(4, 12)}}`, 12, /"b" claims bytes 4 to 12/], // overlap
      [`{"a":${entry(0, 8)},"b":${entry(12, 20)}}`, 20, /"b" claims bytes 12 to 20/], // a hole
      [`{"a":${entry(0, 8)}}`, 4, /end at byte \d+, the file has/], // past the end
      [`{"a":${entry(0, 8)}}`, 12, /end at byte \d+, the file has/], // bytes of nobody
      [`{"a":${entry(0, 8, { dtype: "F16" })}}`, 8, /"a" claims bytes 0 to 8, its shape \(2\) of F16 needs 4/],
      [`{"a":${entry(0, 8, { dtype: "F7" })}}`, 8, /lacks a known dtype/],
      [`{"a":${entry(0, 8, { dtype: "toString" })}}`, 8, /lacks a known dtype/],
      [`{"a":${entry(0, 8, { shape: [-2, -1] })}}`, 8, /lacks a known dtype, shape/],
      [`{"a":${entry(0, 8, { shape: [1.5] })}}`, 8, /lacks a known dtype, shape/],
      [`{"a":${entry(0, 8, { shape: "2" })}}`, 8, /lacks a known dtype, shape/],
      [`{"a":3}`, 0, /lacks a known dtype/], [`[1]`, 0, /not a map/], [`{"a"`, 0, /not JSON/],
    ] as const) {
      withHeader(path, header, bytes);
      assert.throws(() => openSafetensors(path), refused(what), header);
    }
  });

  it("may hold tensors without elements, scalars, and any order of names", () => {
    withHeader(path, `{"b":${entry(4, 8)},"none":${entry(4, 4, { shape: [0, 3] })},"a":${entry(0, 4, { shape: [] })}}`, 8);
    const file = openSafetensors(path);
    assert.deepEqual(["a", "none", "b"].map((name) => file.entry(name)!.shape), [[], [0, 3], [1]]);
    assert.equal(file.read("none").data.length, 0);
    file.close();
  });
});

describe("weights in many files", () => {
  const folder = temporaryFolder();
  after(() => folder.remove());
  const index = (map: Record<string, unknown>): string => {
    const path = join(folder.path, "model.safetensors.index.json");
    writeFileSync(path, JSON.stringify({ weight_map: map }));
    return path;
  };
  before(() => {
    writeSafetensors(join(folder.path, "model-1.safetensors"), new Map([["a", f32(1, 2)], ["b", f32(3)]]));
    writeSafetensors(join(folder.path, "model-2.safetensors"), new Map([["c", f32(4)]]));
  });

  it("are one source; a file is opened when a tensor of it is asked for", () => {
    index({ a: "model-1.safetensors", b: "model-1.safetensors", c: "model-2.safetensors" });
    const source = openTensors(folder.path);
    assert.deepEqual([source.format, source.names, source.bytesRead], ["sharded safetensors", ["a", "b", "c"], 0]);
    assert.deepEqual(Array.from(readNumbers(source, "c")), [4]);
    assert.deepEqual(source.entry("a"), { dtype: "F32", shape: [2], begin: 0, end: 8 });
    assert.equal(source.entry("d"), undefined);
    source.close();
  });

  it("are refused when the map names a file elsewhere, a file that is not there, or a tensor that its file lacks", () => {
    assert.throws(() => openTensors(index({ a: "../model-1.safetensors" })), refused(/"a" is said to be in "\.\.\/model-1\.safetensors", which is no file of this folder/));
    assert.throws(() => openTensors(index({ a: 7 })), refused(/no file of this folder/));
    assert.throws(() => openTensors(index({ a: "model-9.safetensors" })).entry("a"), refused(/model-9\.safetensors: cannot be opened \(ENOENT\)/));
    assert.throws(() => openTensors(index({ c: "model-1.safetensors" })).entry("c"), refused(/"c" is said to be in model-1\.safetensors, which does not hold it/));
    writeFileSync(join(folder.path, "model.safetensors.index.json"), "{}");
    assert.throws(() => openTensors(folder.path), refused(/it has no weight_map/));
    assert.throws(() => openTensors(join(folder.path, "nowhere")), refused(/no such file or folder/));
  });
});

describe("a tensor larger than the pieces it is read in", () => {
  const folder = temporaryFolder();
  after(() => folder.remove());

  it("comes out whole and in order", () => {
    const path = join(folder.path, "large.safetensors"), values = Float32Array.from({ length: 5_000_001 }, (_, i) => i); // 20 MB, pieces have 8 MiB
    writeSafetensors(path, new Map([["before", f32(7)], ["values", { dtype: "F32", shape: [values.length], data: new Uint8Array(values.buffer) }]]));
    const source = openTensors(path), read = readNumbers(source, "values");
    assert.equal(read.length, values.length);
    assert.equal(read.findIndex((value, i) => value !== i), -1);
    source.close();
  });
});

describe("a file far larger than what is wanted of it", () => {
  const folder = temporaryFolder();
  after(() => folder.remove());

  it("is opened and read without touching the rest: 12 GB of file, bytes read and memory counted", () => {
    const path = join(folder.path, "big.safetensors");
    const header: Record<string, unknown> = {};
    const wanted = Float32Array.from({ length: 4096 }, (_, i) => i), row = 3_000_000_000; // 1.5e9 bf16 numbers per hole
    let at = 0;
    for (let i = 0; i < 4; i++) {
      header[`hole.${i}`] = { dtype: "BF16", shape: [row / 2], data_offsets: [at, at + row] };
      header[`wanted.${i}`] = { dtype: "F32", shape: [wanted.length], data_offsets: [at + row, at + row + wanted.byteLength] };
      at += row + wanted.byteLength;
    }
    const text = Buffer.from(JSON.stringify(header)), start = 8 + text.length, length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(text.length));
    const file = openSync(path, "w");
    writeSync(file, Buffer.concat([length, text]));
    ftruncateSync(file, start + at); // holes: no block of the disk is taken
    for (let i = 0; i < 4; i++) writeSync(file, new Uint8Array(wanted.buffer), 0, wanted.byteLength, start + (i + 1) * row + i * wanted.byteLength);
    closeSync(file);

    const before = process.memoryUsage.rss();
    const source = openTensors(path);
    for (let i = 0; i < 4; i++) assert.deepEqual(readNumbers(source, `wanted.${i}`), wanted);
    const grown = process.memoryUsage.rss() - before;
    assert.equal(source.bytesRead, start + 4 * wanted.byteLength);
    assert.ok(grown < 64 * 1024 * 1024, `resident memory grew by ${(grown / 1e6).toFixed(0)} MB`);
    source.close();
  });
});
