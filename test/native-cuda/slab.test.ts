// Promises SL-1 to SL-5 of native-cuda/comm/slab.h, and the process side of the addon.
import assert from "node:assert/strict";
import { native } from "../../runtime/native.ts";
import { child } from "./child.ts";

const f32 = 1;

describe("shared memory slabs", () => {
  it("carry tensors to another process and back", async () => {
    const slab = native().slabCreate(4096), x = native().allocate(f32, [3]);
    assert.equal(slab.pid, process.pid);
    native().upload(x, Float32Array.of(1, 2, 3));
    native().slabWrite(x, slab.slab, 64);
    [[64, 5], [3968, 6]].forEach(([offset, generation]) => native().slabStamp(slab.slab, offset, generation));
    await native().fence();
    const peer = child(`
      const [pid, fd, bytes, inode] = process.argv.slice(1).map(Number);
      const slab = device.slabOpen(pid, fd, bytes, inode), y = device.allocate(1, [3]);
      device.launch(device.kernel("scale"), [device.slabTensor(slab, 64, 1, [3], 5, true).handle, y], [10]);
      device.slabWrite(y, slab, 3968);
      await device.fence();
      console.log("written");`, [slab.pid, slab.fd, slab.bytes, slab.inode].map(String));
    assert.deepEqual(await peer.exited, { code: 0, signal: null, output: "written\n" });
    const { handle: y } = native().slabTensor(slab.slab, 3968, f32, [3], 6, true);
    assert.deepEqual([...new Float32Array(await native().read(y))], [10, 20, 30]);
    native().slabClose(slab.slab);
    [x, y].forEach((handle) => native().free(handle));
  });

  it("SL-3: finish queued copies before they are unmapped", async () => {
    const { slab } = native().slabCreate(2 ** 20), x = native().allocate(f32, [4]), y = native().allocate(f32, [4]);
    native().upload(x, Float32Array.of(1, 2, 3, 4));
    native().slabStamp(slab, 64, 1);
    const { handle } = native().slabTensor(slab, 64, f32, [4], 1, false);
    native().slabWrite(x, slab, 64);
    native().launch(native().kernel("scale"), [handle, y], [1]);
    native().free(handle);
    native().slabClose(slab);
    assert.deepEqual([...new Float32Array(await native().read(y))], [1, 2, 3, 4]);
    assert.throws(() => native().slabWrite(x, slab, 0), { code: "ERR_LANE", message: /is not open here/ });
    [x, y].forEach((handle) => native().free(handle));
  });

  it("SL-3: a tensor that lives in one outlasts its closing, and `freed` comes in stream order", async () => {
    const { slab } = native().slabCreate(4096), x = native().allocate(f32, [2]);
    native().slabStamp(slab, 64, 7);
    const { handle, freed } = native().slabTensor(slab, 64, f32, [2], 7, false);
    const view = native().view(handle, [2, 1]);
    native().upload(handle, Float32Array.of(3, 4));
    native().slabClose(slab);
    let isFree = false;
    void freed.then(() => void (isFree = true));
    native().free(handle);
    await native().fence();
    assert.equal(isFree, false, "a view shows it still");
    const rows = native().read(view);
    native().free(view);
    assert.deepEqual([...new Float32Array(await rows)], [3, 4]);
    await freed;
    native().free(x);
  });

  it("SL-5: a slice of another generation, or outside, holds no tensor", () => {
    const { slab } = native().slabCreate(256);
    native().slabStamp(slab, 64, 1);
    assert.throws(() => native().slabTensor(slab, 64, f32, [1], 2, false), { code: "ERR_LANE", message: /is of generation 1, expected 2/ });
    assert.throws(() => native().slabTensor(slab, 64, f32, [49], 1, false), { code: "ERR_LANE", message: /has 256 bytes, asked for 196/ });
    assert.throws(() => native().slabTensor(slab, 0, f32, [1], 1, false), { code: "ERR_LANE" });
    native().slabClose(slab);
  });

  it("refuse what lies outside them, and peers that are gone or wrong", () => {
    const slab = native().slabCreate(100), x = native().allocate(f32, [20]);
    assert.throws(() => native().slabWrite(x, slab.slab, 24), { code: "ERR_LANE", message: /has 100 bytes, asked for 80 at offset 24/ });
    assert.throws(() => native().slabWrite(x, slab.slab, 2 ** 52), { code: "ERR_LANE" });
    assert.throws(() => native().slabOpen(slab.pid, slab.fd, 200, slab.inode), { code: "ERR_LANE", message: /has 100 bytes .* expected 200/ });
    assert.throws(() => native().slabOpen(slab.pid, slab.fd, 100, slab.inode + 1), { code: "ERR_LANE", message: /The descriptor was reused/ }, "SL-4");
    assert.throws(() => native().slabOpen(slab.pid, 9999, 100, slab.inode), { code: "ERR_LANE", message: /No such file/ });
    native().slabClose(slab.slab);
    assert.throws(() => native().slabOpen(slab.pid, slab.fd, 100, slab.inode), { code: "ERR_LANE" });
    assert.throws(() => native().slabClose(slab.slab), { code: "ERR_LANE" });
    native().free(x);
  });
});

describe("dieWithParent", () => {
  it("ends a process when its parent is killed, without a chance to say good-bye", async () => {
    // The grandchild holds our pipe: it closes when both are gone. It would live for ever by itself.
    const parent = child(`
      const { spawn } = await import("node:child_process");
      const code = \`const { native } = await import(\${JSON.stringify(process.argv[1])}); native().dieWithParent(\${process.pid}); console.log("grandchild ready"); setInterval(() => {}, 1000);\`;
      spawn(process.execPath, ["--import", "tsx", "--input-type=module", "--eval", code], { stdio: ["ignore", "inherit", "inherit"] });`,
      [new URL("../../runtime/native.ts", import.meta.url).href]);
    assert.equal(await parent.line(), "grandchild ready");
    parent.process.kill("SIGKILL");
    assert.deepEqual(await parent.exited, { code: null, signal: "SIGKILL", output: "grandchild ready\n" });
  });

  it("ends a process at once whose parent is another than it was told", async () => {
    const { code, signal, output } = await child(`console.log("alive"); device.dieWithParent(1 + process.ppid); console.log("survived");`).exited;
    assert.deepEqual({ code, signal }, { code: null, signal: "SIGKILL" });
    assert.doesNotMatch(output, /survived/);
  });
});

describe("info", () => {
  it("tells cores, instruction sets, the gemm in use with what was tried, and CUDA with a reason", () => {
    const info = native().info();
    assert.ok(info.cores >= 1 && info.threads >= 1);
    assert.match(info.gemm.library, /^(oneDNN|portable)$/);
    assert.ok(info.gemm.tried.some((line) => /: in use$/.test(line)) === (info.gemm.library === "oneDNN"), info.gemm.tried.join("; "));
    assert.notEqual(info.cuda.note, "");
    assert.equal(typeof info.openmp, "boolean");
  });
});
