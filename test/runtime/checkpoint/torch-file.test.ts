import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { RuntimeError, openTensors, openTorchFile, readNumbers, readStored, type StoredDType } from "../../../runtime/index.ts";
import { unpickle } from "../../../runtime/checkpoint/pickle.ts";
import { temporaryFolder } from "../../process/octavo.ts";
import { refused } from "./memory-source.ts";

/** Made by fixtures/make.py with torch itself. */
const fixture = (name: string): string => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));
const torchNames: Record<string, StoredDType> = {
  "torch.float32": "F32", "torch.float64": "F64", "torch.float16": "F16", "torch.bfloat16": "BF16", "torch.int64": "I64", "torch.int32": "I32", "torch.int8": "I8", "torch.uint8": "U8", "torch.bool": "BOOL",
};

describe("a torch file", () => {
  const folder = temporaryFolder();
  after(() => folder.remove());
  /** A fixture with some of its bytes replaced by as many others. */
  const altered = (name: string, from: string, to: string): string => {
    const bytes = readFileSync(fixture(name)), at = bytes.indexOf(from, 0, "latin1");
    assert.ok(at >= 0 && from.length === to.length, `${from} is in ${name}`);
    bytes.write(to, at, "latin1");
    writeFileSync(join(folder.path, "altered.pth"), bytes);
    return join(folder.path, "altered.pth");
  };

  const expected = JSON.parse(readFileSync(fixture("kinds.json"), "utf8")) as Record<string, { dtype: string; shape: number[]; values: number[] }>;
  for (const file of ["kinds.pth", "protocol4.pth"]) {
    it(`gives what torch wrote: every dtype, views, a scalar, an empty tensor (${file})`, () => {
      const source = openTorchFile(fixture(file));
      assert.deepEqual([...source.names].sort(), Object.keys(expected).sort());
      for (const [name, { dtype, shape, values }] of Object.entries(expected)) {
        assert.deepEqual(source.entry(name), { dtype: torchNames[dtype], shape }, name);
        assert.deepEqual(Array.from(readNumbers(source, name)), values, name);
      }
      source.close();
    });
  }

  for (const other of ["deflated.pth", "zip64.pth"]) {
    it(`is read under \`model\`, with parameters and versions; ${other} is no different`, () => {
      const [stored, repacked] = [openTensors(fixture("beit.pth")), openTensors(fixture(other))];
      assert.equal(stored.names.length, 25);
      assert.deepEqual(repacked.names, stored.names);
      for (const name of stored.names) assert.deepEqual(readStored(repacked, name), readStored(stored, name), name);
      assert.deepEqual(stored.entry("norm.bias"), { dtype: "F32", shape: [4] }, "a parameter is its tensor");
      stored.close(), repacked.close();
    });
  }

  it("reads ranges of one tensor and counts their bytes alone", () => {
    const source = openTensors(fixture("beit.pth"));
    const whole = readStored(source, "blocks.0.attn.qkv.weight").data, before = source.bytesRead;
    assert.deepEqual(source.bytes("blocks.0.attn.qkv.weight", 16, 8), Buffer.from(whole.subarray(16, 24)));
    assert.equal(source.bytesRead - before, 8);
    assert.throws(() => source.bytes("blocks.0.attn.qkv.weight", 190, 8), refused(/has 192 bytes, 190 to 198/));
    source.close();
  });

  it("runs no code: a pickle that calls os.system is refused by that name", () => {
    const trace = join(process.cwd(), "evil-pickle-ran");
    assert.throws(() => openTensors(fixture("evil.pth")), refused(/it names posix\.system, and only tensors.*Nothing in it was executed/));
    assert.ok(!existsSync(trace), "the command of the pickle did not run");
  });

  it("refuses anything but tensors, by name", () => {
    assert.throws(() => openTensors(fixture("namespace.pth")), refused(/it names argparse\.Namespace/));
    assert.throws(() => openTensors(fixture("text.pth")), refused(/under "note" it holds "hello" instead of a tensor/));
    assert.throws(() => openTensors(fixture("legacy.pth")), refused(/no zip file, and torch before 1\.6.*weights_only=True/));
    for (const module of ["builtins\neval\n", "os\nsystem\n", "torch\nload\n", "subprocess\nPopen\n", "__main__\nX\n"]) {
      assert.throws(() => unpickle(Buffer.from(`\x80\x02c${module}.`, "latin1"), "x"), refused(new RegExp(`it names ${module.trim().replace("\n", "\\.")}`)));
    }
  });

  it("refuses opcodes that build objects or reach outside, and pickles that end within a value", () => {
    for (const [opcode, bytes] of [["INST", "i"], ["OBJ", "o"], ["NEWOBJ", "\x81"], ["EXT1", "\x82"], ["PERSID", "P"], ["STRING", "S"]]) {
      assert.throws(() => unpickle(Buffer.from(`\x80\x02${bytes}os\nsystem\n.`, "latin1"), "x"), refused(/the opcode 0x[0-9a-f]+ at byte 2/), opcode);
    }
    for (const [bytes, what] of [
      ["\x80\x02X\xff\xff\xff\x7f", /it ends within a value/], ["\x80\x02", /it ends within a value/], ["\x80\x02cos", /it ends within a value/], ["\x80\x02.", /takes a value that is not there/],
      ["\x80\x02h\x05.", /recalls a value/], ["\x80\x02K\x01K\x02R.", /calls what is no function/], ["\x80\x02K\x01Q.", /refers to something outside/], ["\x80\x02K\x01}b.", /sets the state of an object/],
      ["\x80\x05.", /protocol 5/], ["\x80\x02ctorch\nFloatStorage\n)R.", /it calls torch\.FloatStorage/], ["\x80\x02t.", /closes a list/],
    ] as const) assert.throws(() => unpickle(Buffer.from(bytes, "latin1"), "x"), refused(what), JSON.stringify(bytes));
  });

  it("refuses sizes that lie: storages, views, members and a file cut short", () => {
    const bytes = readFileSync(fixture("beit.pth"));
    // BININT1 4 elements -> 200 elements of the first storage: K\x04 after the device name "cpu"
    assert.throws(() => openTensors(altered("beit.pth", "cpuq\x09K\x04", "cpuq\x09K\xc8")), refused(/claims a storage of 800 bytes, the file has 16/));
    // the shape (1, 1, 4) of the first tensor -> (1, 1, 9)
    assert.throws(() => openTensors(altered("beit.pth", "K\x01K\x01K\x04\x87", "K\x01K\x01K\x09\x87")), refused(/leaves its storage of 4 elements/));
    for (const length of [bytes.length - 1, bytes.length - 30, 100, 3, 0]) {
      writeFileSync(join(folder.path, "cut.pth"), bytes.subarray(0, length));
      assert.throws(() => openTensors(join(folder.path, "cut.pth")), refused(/not a readable/), `cut to ${length} bytes`);
    }
    const directory = Buffer.from(bytes);
    const entry = directory.indexOf("PK\x01\x02", 0, "latin1");
    directory.writeUInt32LE(0x7fffffff, entry + 20);
    writeFileSync(join(folder.path, "liar.pth"), directory);
    assert.throws(() => openTensors(join(folder.path, "liar.pth")), refused(/claims 2147483647 bytes/));
  });

  it("says something clear, and never anything else, about a file with any one byte changed", () => {
    const bytes = readFileSync(fixture("kinds.pth"));
    for (let at = 0; at < bytes.length; at += 7) {
      const damaged = Buffer.from(bytes);
      damaged[at] ^= 0x55;
      writeFileSync(join(folder.path, "damaged.pth"), damaged);
      try {
        const source = openTensors(join(folder.path, "damaged.pth"));
        for (const name of source.names) readNumbers(source, name);
        source.close();
      } catch (error) {
        assert.ok(error instanceof RuntimeError && error.code === "ERR_CHECKPOINT", `byte ${at}: ${(error as Error).stack}`);
      }
    }
  });
});
