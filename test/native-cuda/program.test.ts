// Promises PR-1 to PR-6 of native-cuda/device/program.h and NA-5 of runtime/native.ts.
import assert from "node:assert/strict";
import { native } from "../../runtime/native.ts";
import { child } from "./child.ts";
import { f32, floats, launch, tensor } from "./device.ts";

const empty = (length: number) => native().allocate(f32, [length]);
const free = (...handles: number[]) => handles.forEach((handle) => native().free(handle));

/** y = factor * (x + weight), through one tensor that is freed inside. */
function scaledSum(x: number, weight: number, factor: number): number {
  const sum = empty(3), y = empty(3);
  launch("add", [x, weight, sum]);
  launch("scale", [sum, y], [factor]);
  free(sum);
  return y;
}

function recorded(x: number, weight: number, factor = 2): { program: number; y: number } {
  native().recordBegin([x]);
  const y = scaledSum(x, weight, factor);
  return { program: native().recordEnd([y]), y };
}

describe("a program of the cpu stream", () => {
  let before: ReturnType<ReturnType<typeof native>["memory"]>;
  beforeEach(async () => { await native().fence(); before = native().memory(); });
  afterEach(async () => {
    await native().fence();
    const { bytesInUse, tensors } = native().memory();
    assert.deepEqual({ bytesInUse, tensors }, { bytesInUse: before.bytesInUse, tensors: before.tensors }, "the test leaks");
  });

  it("PR-1, NA-5: is recorded from commands that run as always, and gives their bits for other inputs", async () => {
    const x = tensor(1, 2, 3), weight = tensor(10, 20, 30), other = tensor(0.5, 0.25, 0.125);
    const { program, y } = recorded(x, weight);
    assert.deepEqual(await floats(y), [22, 44, 66]);
    const [replayed] = native().replay(program, [other]);
    assert.deepEqual(await floats(replayed), [21, 40.5, 60.25]);
    native().programDrop(program);
    free(x, weight, other, y, replayed);
  });

  it("PR-2: describes storages by kind, and the commands with their operands and scalars", () => {
    const x = tensor(1, 2, 3), weight = tensor(10, 20, 30);
    const { program, y } = recorded(x, weight);
    const { storages, commands, ...counts } = native().programDescribe(program);
    assert.deepEqual(storages.map(({ kind, first, last }) => [kind, first, last]), [["input", 0, 0], ["outside", 0, 0], ["internal", 0, 1], ["output", 1, 1]]);
    assert.deepEqual(commands, [
      { op: "add", operands: [{ storage: 0, form: "f32 (3)" }, { storage: 1, form: "f32 (3)" }, { storage: 2, form: "f32 (3)" }], scalars: [], constantBytes: 0 },
      { op: "scale", operands: [{ storage: 2, form: "f32 (3)" }, { storage: 3, form: "f32 (3)" }], scalars: [2], constantBytes: 0 },
    ]);
    assert.deepEqual(counts, { inputs: 1, outputs: 1, scratchBytes: 64 });
    native().programDrop(program);
    free(x, weight, y);
  });

  it("PR-2: puts tensors of disjoint lifetimes in one place, and never two that live together", async () => {
    const length = 1000, x = empty(length);
    launch("fill", [x], [1]);
    native().recordBegin([x]);
    let at = x;
    for (let i = 0; i < 20; i++) {
      const next = empty(length);
      launch("add", [at, x, next]);
      if (at !== x) free(at);
      at = next;
    }
    const program = native().recordEnd([at]), { storages, scratchBytes } = native().programDescribe(program);
    const internal = storages.filter(({ kind }) => kind === "internal");
    assert.equal(internal.length, 19);
    assert.ok(scratchBytes <= 2 * 4032, `${scratchBytes} bytes for two tensors of 4000`);
    for (const a of internal) for (const b of internal) {
      if (a === b || a.last < b.first || b.last < a.first) continue;
      assert.ok(a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset, "two living tensors overlap");
    }
    const [replayed] = native().replay(program, [x]);
    assert.equal((await floats(replayed))[999], 21);
    native().programDrop(program);
    free(x, at, replayed);
  });

  it("PR-2: changes outside tensors and inputs in place, and repeats what was uploaded inside", async () => {
    const state = tensor(0), cache = tensor(100);
    native().recordBegin([cache]);
    const constant = tensor(5);
    launch("accumulate", [constant, state]);
    launch("accumulate", [state, cache]);
    free(constant);
    const program = native().recordEnd([]), other = tensor(1000);
    for (let i = 0; i < 3; i++) native().replay(program, [other]);
    assert.deepEqual(await floats(state), [20]);
    assert.deepEqual([await floats(cache), await floats(other)], [[105], [1000 + 10 + 15 + 20]]);
    native().programDrop(program);
    free(state, cache, other);
  });

  it("PR-3: holds no memory between replays, and 100 of them leave none behind", async () => {
    const x = tensor(1, 2, 3), weight = tensor(10, 20, 30);
    const { program, y } = recorded(x, weight);
    const { bytesInUse, bytesReserved, tensors } = native().memory();
    for (let i = 0; i < 100; i++) free(...native().replay(program, [x]));
    await native().fence();
    const after = native().memory();
    assert.deepEqual({ bytesInUse: after.bytesInUse, tensors: after.tensors }, { bytesInUse, tensors });
    assert.ok(after.bytesReserved <= bytesReserved + 1024, `${after.bytesReserved - bytesReserved} bytes reserved by 100 replays`);
    native().programDrop(program);
    free(x, weight, y);
  });

  it("PR-3: two outputs may be views of one tensor", async () => {
    const x = tensor(1, 2, 3, 4);
    native().recordBegin([x]);
    const y = empty(4), square = native().view(y, [2, 2]);
    launch("scale", [x, y], [3]);
    const program = native().recordEnd([y, square]);
    const [first, second] = native().replay(program, [x]);
    launch("fill", [first], [7]);
    assert.deepEqual(await floats(second), [7, 7, 7, 7]);
    native().programDrop(program);
    free(x, y, square, first, second);
  });

  it("PR-4: ends with a tensor from outside that it uses, and replays that wait still run", async () => {
    const x = tensor(1, 2, 3), weight = tensor(10, 20, 30);
    const { program, y } = recorded(x, weight);
    const [replayed] = native().replay(program, [x]);
    free(weight);
    assert.equal(native().programExists(program), false);
    assert.throws(() => native().replay(program, [x]), { code: "ERR_COMPILE", message: /outside.*freed/ });
    assert.deepEqual(await floats(replayed), [22, 44, 66]);
    free(x, y, replayed);
  });

  it("PR-4: can be dropped while replays wait", async () => {
    const n = 512, x = empty(n * n), a = native().view(x, [n, n]);
    launch("fill", [x], [1]);
    native().recordBegin([a]);
    const y = native().allocate(f32, [n, n]);
    for (let i = 0; i < 5; i++) launch("matmul", [a, a, y], [0, 0]);
    const program = native().recordEnd([y]);
    const outputs = [1, 2, 3].map(() => native().replay(program, [a])[0]);
    native().programDrop(program);
    assert.ok(native().pending() > 0, "nothing waited");
    assert.equal((await floats(outputs[2]))[7], n);
    free(x, a, y, ...outputs);
  });

  it("PR-5: names the kernel that failed inside", async () => {
    const table = tensor(1, 2), ids = native().allocate(5, [1]), wrong = native().allocate(5, [1]);
    native().upload(ids, Int32Array.of(1));
    native().upload(wrong, Int32Array.of(9));
    const rows = native().view(table, [2, 1]);
    native().recordBegin([ids]);
    const y = native().allocate(f32, [1, 1]);
    launch("gather_rows_forward", [rows, ids, y]);
    const program = native().recordEnd([y]);
    assert.deepEqual(await floats(y), [2]);
    const [replayed] = native().replay(program, [wrong]);
    await assert.rejects(native().read(replayed), (error: Error & { code: string; details: { op: string } }) =>
      error.code === "ERR_DEVICE" && error.details.op === "gather_rows_forward" && /got 9/.test(error.message));
    await native().fence().catch(() => undefined);
    native().configure({});
    native().programDrop(program);
    free(table, ids, wrong, rows, y, replayed);
  });

  it("PR-5: is one command, and a process may end in the middle of it", async function () {
    this.timeout(20_000);
    const { line, exited } = child(`
      const n = 1024, x = device.allocate(1, [n, n]);
      device.launch(device.kernel("fill"), [x], [1]);
      device.recordBegin([x]);
      const y = device.allocate(1, [n, n]), begun = performance.now();
      for (let i = 0; i < 40; i++) device.launch(device.kernel("matmul"), [x, x, y], [0, 0]);
      const program = device.recordEnd([y]);
      await device.fence();
      const milliseconds = performance.now() - begun;
      device.replay(program, [x]);
      console.log(milliseconds, device.pending());
      process.exit(7);`);
    const [milliseconds, pending] = (await line()).split(" ").map(Number), begun = performance.now();
    const { code } = await exited;
    assert.deepEqual({ code, pending }, { code: 7, pending: 1 });
    assert.ok(performance.now() - begun < milliseconds / 2, `it took ${performance.now() - begun} ms to end, all the kernels take ${milliseconds}`);
  });

  it("says what differs between two recordings", () => {
    const x = tensor(1, 2, 3), weight = tensor(10, 20, 30), other = tensor(1, 1, 1);
    const first = recorded(x, weight, 2);
    const variants = [recorded(x, weight, 2), recorded(x, weight, 2.5), recorded(x, other, 2)];
    const [same, scalar, outside] = variants.map(({ program }) => native().programDifference(first.program, program));
    assert.equal(same, "");
    assert.match(scalar, /command 2, scale: scalar 0 was 2, the second time 2\.5/);
    assert.match(outside, /command 1, add: operand 1, f32 \(3\), is another tensor from outside/);
    for (const { program, y } of [first, ...variants]) native().programDrop(program), free(y);
    free(x, weight, other);
  });

  it("refuses what it cannot repeat, naming it", async () => {
    const x = tensor(1, 2, 3), weight = tensor(10, 20, 30);
    native().recordBegin([x]);
    for (const work of [() => native().read(x), () => native().fence(), () => native().recordBegin([]), () => native().configure({})]) {
      assert.throws(work, { code: "ERR_COMPILE", message: /while a step is recorded/ });
    }
    const alive = scaledSum(x, weight, 2);
    assert.throws(() => native().recordEnd([]), { code: "ERR_COMPILE", message: /f32 \(3\), made inside and first used by scale, lives on/ });
    native().recordBegin([x]);
    assert.throws(() => native().recordEnd([x]), { code: "ERR_COMPILE", message: /output 0, f32 \(3\), is an input/ });
    assert.throws(() => native().recordBegin([x, x]), { code: "ERR_COMPILE", message: /input 1.*shares its storage/ });
    native().recordBegin([]);
    launch("scale", [weight, x], [1]);
    free(weight);
    assert.throws(() => native().recordEnd([]), { code: "ERR_COMPILE", message: /scale used a tensor from outside.*freed inside/ });
    assert.throws(() => native().recordEnd([]), { code: "ERR_COMPILE", message: /no recording is open/ });
    free(x, alive);
  });

  it("PR-6: takes elements of the host for an input, as they are when it is called", async () => {
    const x = tensor(1, 2, 3), weight = tensor(10, 20, 30), third = empty(3);
    native().recordBegin([x, weight, third]);
    const sum = empty(3), y = empty(3);
    launch("add", [x, weight, sum]);
    launch("add", [sum, third, y]);
    free(sum);
    const program = native().recordEnd([y]), data = Float32Array.of(9, 1, 2, 3, 9).subarray(1, 4), other = tensor(100, 200, 300);
    const [replayed] = native().replay(program, [data, other, new DataView(Float32Array.of(0.5, 0.25, 0.125).buffer)]);
    data.fill(0);
    assert.deepEqual(await floats(replayed), [101.5, 202.25, 303.125]);
    assert.throws(() => native().replay(program, [data.subarray(1), other, third]), { code: "ERR_COMPILE", message: /input 0 expected f32 \(3\), got 8 bytes/ });
    native().programDrop(program);
    free(x, weight, third, other, y, replayed);
  });

  it("refuses inputs that do not fit", () => {
    const x = tensor(1, 2, 3), weight = tensor(10, 20, 30), short = tensor(1, 2);
    const { program, y } = recorded(x, weight);
    assert.throws(() => native().replay(program, [short]), { code: "ERR_COMPILE", message: /input 0 expected f32 \(3\), got f32 \(2\)/ });
    assert.throws(() => native().replay(program, []), { code: "ERR_COMPILE", message: /1 inputs, got 0/ });
    assert.throws(() => native().replay(999999, [x]), { code: "ERR_COMPILE", message: /program 999999 is gone/ });
    native().programDrop(program);
    free(x, weight, short, y);
  });
});
