// Promises NA-1 to NA-3 of runtime/native.ts, ST-1 to ST-4 of native-cuda/device/stream.h, HT-1 to HT-3 of handle_table.h and
// PL-1 to PL-3 of pool.h.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { addonPath } from "../../native-cuda/index.ts";
import { native } from "../../runtime/native.ts";
import { child } from "./child.ts";
import { f32, floats, launch, tensor } from "./device.ts";

describe("the cpu stream", () => {
  let before: ReturnType<ReturnType<typeof native>["memory"]>;
  beforeEach(async () => { await native().fence(); before = native().memory(); });
  afterEach(async () => {
    await native().fence();
    native().configure({ limitBytes: 0 });
    const { bytesInUse, tensors } = native().memory();
    assert.deepEqual({ bytesInUse, tensors }, { bytesInUse: before.bytesInUse, tensors: before.tensors }, "the test leaks");
  });

  it("NA-1: lets JavaScript run on while it computes", async () => {
    const n = 1024, [a, y] = [native().allocate(f32, [n, n]), native().allocate(f32, [n, n])];
    launch("fill", [a], [1]);
    for (let i = 0; i < 10; i++) launch("matmul", [a, a, y], [0, 0]);
    let done = false;
    const fence = native().fence().then(() => (done = true));
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(done, false, "21 GFLOP were done within one turn of the event loop");
    assert.ok(native().pending() > 0);
    await fence;
    assert.equal(native().pending(), 0);
    assert.equal((await floats(y))[n * n - 1], n);
    [a, y].forEach((handle) => native().free(handle));
  });

  it("is occupied for a time without using a core", async () => {
    await native().fence();
    native().stampsTake();
    const cpu = process.cpuUsage();
    native().stamp();
    native().occupy(60_000);
    native().stamp();
    await native().fence();
    const [begin, end] = native().stampsTake(), { user, system } = process.cpuUsage(cpu);
    assert.ok(end - begin >= 60_000 && end - begin < 600_000, `${end - begin} us`);
    assert.ok(user + system < 30_000, `${user + system} us of CPU time`);
  });

  it("PL-1: hands a freed block on at once, and earlier readers still see what was there", async () => {
    const first = tensor(1, 2, 3), seen = native().read(first);
    native().free(first);
    const { bytesReserved } = native().memory(), second = tensor(7, 8, 9);
    assert.equal(native().memory().bytesReserved, bytesReserved, "a new block although one was free");
    assert.deepEqual([...new Float32Array(await seen)], [1, 2, 3]);
    assert.deepEqual(await floats(second), [7, 8, 9]);
    native().free(second);
  });

  it("NA-1: takes a copy of uploaded data at the call", async () => {
    const data = Float32Array.of(1, 2), handle = native().allocate(f32, [2]);
    native().upload(handle, data);
    data.fill(9);
    assert.deepEqual(await floats(handle), [1, 2]);
    native().free(handle);
  });

  it("ST-1: accepts more commands than the ring holds, and loses none", async () => {
    const one = tensor(1), sum = tensor(0), accumulate = native().kernel("accumulate");
    for (let i = 0; i < 70000; i++) native().launch(accumulate, [one, sum], []);
    assert.deepEqual(await floats(sum), [70000]);
    [one, sum].forEach((handle) => native().free(handle));
  });

  it("HT-1, HT-2: recognises stale and invented handles for ever", () => {
    const handle = native().allocate(f32, [4]);
    assert.ok(handle > 0 && Number.isSafeInteger(handle));
    native().free(handle);
    const again = native().allocate(f32, [4]);
    assert.notEqual(again, handle);
    assert.throws(() => native().free(handle), { code: "ERR_HANDLE", message: /was freed/ });
    assert.throws(() => native().read(handle), { code: "ERR_HANDLE" });
    assert.throws(() => launch("accumulate", [again, handle]), { code: "ERR_HANDLE", message: /accumulate: operand 1/ });
    assert.throws(() => native().view(0, [1]), { code: "ERR_HANDLE", message: /never was a tensor/ });
    native().free(again);
  });

  it("HT-3: keeps storage until the last of its views is freed", async () => {
    const whole = tensor(1, 2, 3, 4), { bytesInUse } = native().memory();
    const view = native().view(whole, [2, 2]);
    assert.equal(native().memory().bytesInUse, bytesInUse);
    native().free(whole);
    assert.equal(native().memory().bytesInUse, bytesInUse);
    assert.deepEqual(await floats(view), [1, 2, 3, 4]);
    assert.throws(() => native().view(view, [3]), { code: "ERR_SHAPE", message: /4 elements.*has 3/ });
    native().free(view);
    assert.equal(native().memory().bytesInUse, bytesInUse - 16);
  });

  it("PL-2: accounts exactly, and for tensors without elements too", async () => {
    const { bytesInUse } = native().memory();
    const handles = [native().allocate(0, [3, 5]), native().allocate(7, [3]), native().allocate(f32, [0, 9]), native().allocate(f32, [])];
    assert.equal(native().memory().bytesInUse - bytesInUse, 3 * 5 * 8 + 3 + 0 + 4);
    assert.deepEqual(await floats(handles[2]), []);
    handles.forEach((handle) => native().free(handle));
  });

  it("PL-1: keeps the blocks last used, and hands large ones on for half their size", async () => {
    const mib = 2 ** 20, take = (mebibytes: number) => native().allocate(f32, [(mebibytes * mib) / 4]);
    const many = Array.from({ length: 300 }, () => take(1)); // more than the cache keeps, like the pieces of an eager step
    many.forEach((handle) => native().free(handle));
    native().free(take(64)); // the scratch of a replayed one
    const { bytesReserved } = native().memory();
    for (const mebibytes of [64, 40, 63]) {
      const again = take(mebibytes);
      assert.equal(native().memory().bytesReserved, bytesReserved, `a new block for ${mebibytes} MiB`);
      native().free(again);
    }
    const small = take(20); // less than half: not worth the large block
    assert.ok(native().memory().bytesReserved > bytesReserved);
    native().free(small);
    await native().fence();
  });

  it("PL-3, NA-2: refuses at the call what does not fit, after giving back what is cached", async () => {
    const mib = 2 ** 20;
    native().configure({ limitBytes: 1 });
    assert.throws(() => native().allocate(f32, [1]), { code: "ERR_MEMORY" }); // all that was cached has gone back now
    await native().fence();
    native().configure({ limitBytes: native().memory().bytesReserved + 10 * mib });
    const a = native().allocate(f32, [2 * mib]);
    assert.throws(() => native().allocate(f32, [mib]), { code: "ERR_MEMORY", message: /4194304 bytes: \d+ bytes in use.*limit \d+/ });
    native().free(a);
    const smaller = [native().allocate(f32, [mib]), native().allocate(f32, [mib])]; // only if the 8 MiB block went back
    smaller.forEach((handle) => native().free(handle));
    await native().fence();
  });

  it("NA-3, ST-2: a failed kernel makes the fault sticky until configure", async () => {
    const x = tensor(1, 2), y = tensor(5, 5), wrong = tensor(1, 2, 3);
    await native().fence();
    launch("scale", [x, wrong], [2]);
    launch("scale", [x, y], [2]);
    const outcome = await native().read(y).then(() => undefined, (error) => error);
    assert.equal(outcome?.code, "ERR_DEVICE");
    assert.equal(outcome.details.op, "scale");
    assert.ok(outcome.details.sequence > 0);
    assert.match(outcome.message, /scale failed on the cpu stream at command \d+: scale: y expected/);
    await assert.rejects(native().fence(), { code: "ERR_DEVICE" });
    native().configure({});
    assert.deepEqual(await floats(y), [5, 5], "a command after the fault ran");
    launch("scale", [x, y], [2]);
    assert.deepEqual(await floats(y), [2, 4]);
    [x, y, wrong].forEach((handle) => native().free(handle));
  });

  it("refuses to be configured while it works, and nonsense always", async () => {
    const a = native().allocate(f32, [512, 512]);
    launch("fill", [a], [1]);
    for (let i = 0; i < 20; i++) launch("matmul", [a, a, a], [0, 0]);
    assert.throws(() => native().configure({ threads: 1 }), { code: "ERR_NATIVE", message: /commands are pending/ });
    await native().fence();
    assert.throws(() => native().configure({ threads: 0 }), { code: "ERR_NATIVE", message: /threads is 1 to 1024/ });
    assert.throws(() => native().configure({ kernels: "quick" as "fast" }), { code: "ERR_NATIVE", message: /"fast" or "reference"/ });
    native().free(a);
  });

  it("names an unknown kernel and an upload of the wrong size", () => {
    assert.throws(() => native().kernel("no_such"), { code: "ERR_NATIVE", message: /no kernel named "no_such"/ });
    const handle = native().allocate(f32, [2]);
    assert.throws(() => native().upload(handle, new Float32Array(3)), { code: "ERR_SHAPE", message: /has 8 bytes, the data 12/ });
    native().free(handle);
  });

  it("ST-4: runs its thread five steps nicer than the event loop", async () => {
    await native().fence();
    const nice = (task: string) => Number(readFileSync(`/proc/self/task/${task}/stat`, "utf8").split(") ")[1].split(" ")[16]);
    const stream = readdirSync("/proc/self/task").find((task) => readFileSync(`/proc/self/task/${task}/comm`, "utf8").trim() === "octavo-stream");
    assert.ok(stream, "no thread is called octavo-stream");
    assert.equal(nice(stream), Math.min(19, nice(String(process.pid)) + 5));
  });

  it("belongs to one JavaScript thread", async () => {
    native();
    const source = `const { parentPort } = require("node:worker_threads");
      try { require(${JSON.stringify(addonPath().path)}); parentPort.postMessage("loaded"); } catch (error) { parentPort.postMessage(String(error)); }`;
    const worker = new Worker(source, { eval: true });
    const [answer] = await new Promise<unknown[]>((resolve, reject) => { worker.on("message", (...a) => resolve(a)); worker.on("error", reject); });
    await worker.terminate();
    assert.match(String(answer), /another JavaScript thread of this process owns the device/);
  });

  it("lets a process end while commands wait, and keeps it alive for a read", async () => {
    const leave = await child(`
      const a = device.allocate(1, [512, 512]);
      for (let i = 0; i < 5000; i++) device.launch(device.kernel("matmul"), [a, a, device.allocate(1, [512, 512])], [0, 0]);
      device.fence().then(() => console.log("computed all"));
      console.log("leaving with work:", device.pending() > 1000);
      process.exit(0);`).exited;
    assert.deepEqual(leave, { code: 0, signal: null, output: "leaving with work: true\n" });
    const stay = await child(`
      const a = device.allocate(1, [1]);
      device.upload(a, Float32Array.of(42));
      device.read(a).then((bytes) => console.log(new Float32Array(bytes)[0]));`).exited;
    assert.deepEqual(stay, { code: 0, signal: null, output: "42\n" });
  });
});
