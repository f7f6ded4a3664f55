import assert from "node:assert/strict";
import { Compiled, Tape } from "../../../runtime/autograd/index.ts";
import { RuntimeError } from "../../../runtime/errors.ts";
import { native } from "../../../runtime/native.ts";
import * as ops from "../../../runtime/ops/index.ts";
import { Scope, type Tensor, configureDevice, fence, fromArray, memory, resetPeak, scoped, zeros } from "../../../runtime/tensor/index.ts";
import { noLeaks } from "../numbers.ts";

describe("memory of scopes", () => {
  noLeaks();

  it("S-4: counts a storage once, whatever views show it, until the last of them is gone", () => {
    const scope = new Scope("views");
    const x = scope.enter(() => zeros([10, 10])), flat = scope.enter(() => ops.reshape(x, [100]));
    assert.deepEqual(scope.memory(), { bytesInUse: 400, bytesPeak: 400, tensors: 2 });
    x.dispose();
    assert.deepEqual(scope.memory(), { bytesInUse: 400, bytesPeak: 400, tensors: 1 });
    flat.dispose();
    assert.deepEqual(scope.memory(), { bytesInUse: 0, bytesPeak: 400, tensors: 0 });
    scope.close();
  });

  it("follows tensors that are kept, adopted and handed out, and remembers its peak", () => {
    const [a, b] = [new Scope("a"), new Scope("b")];
    const x = a.enter(() => zeros([4], "f64"));
    a.enter(() => zeros([2], "bf16")).dispose();
    b.adopt(x);
    assert.deepEqual([a.memory().bytesInUse, a.memory().bytesPeak, b.memory().bytesInUse], [0, 36, 32]);
    const kept = b.keep(x);
    assert.equal(b.memory().bytesInUse, 0);
    const y = b.enter(() => scoped("inner", () => { zeros([64]); return zeros([8]); }));
    assert.deepEqual([b.memory().bytesInUse, y.scope], [32, b]);
    a.close();
    b.close();
    kept.dispose();
  });

  it("adds up to what the device has in use", async () => {
    await fence();
    const before = memory().bytesInUse, scope = new Scope("exact");
    scope.enter(() => ops.gelu(ops.linear(zeros([37, 11]), zeros([5, 11]), zeros([5]))));
    assert.equal(memory().bytesInUse - before, scope.memory().bytesInUse);
    scope.close();
  });

  it("the peak of the device can start again", async () => {
    const x = zeros([1000]), high = memory().bytesPeak;
    resetPeak();
    assert.equal(memory().bytesPeak, memory().bytesInUse);
    const y = zeros([500]), { bytesPeak, bytesInUse } = memory();
    assert.equal(bytesPeak, bytesInUse);
    y.dispose();
    assert.equal(memory().bytesPeak, bytesPeak);
    assert.ok(bytesPeak <= high + 4096);
    x.dispose();
    await fence();
  });
});

describe("memory that runs out", () => {
  noLeaks();
  const limitTo = async (bytes: number): Promise<void> => {
    await fence();
    configureDevice({ limitBytes: bytes });
  };
  afterEach(() => limitTo(0));

  it("names the op, what it asked for, what is in use, the limit, and the scopes that hold most", async () => {
    const small = new Scope("validation"), large = new Scope("microbatch 0 of step 3"), weight = zeros([1000, 100]);
    small.enter(() => zeros([1000]));
    const x = large.enter(() => zeros([3000, 100])), inUse = memory().bytesInUse;
    await limitTo(1); // gives back what is cached
    await limitTo(memory().bytesReserved + 1_000_000);
    assert.throws(() => large.enter(() => ops.linear(x, weight)), (error: unknown) => {
      assert.ok(error instanceof RuntimeError);
      assert.match(error.message, /^linear: no room for f32 \(3000, 1000\), 12 MB; [\d.]+ MB in use of limit [\d.]+ MB; largest scopes: microbatch 0 of step 3 1\.2 MB, no scope 400 kB, validation 4 kB\. Use smaller microbatches/);
      const { op, bytes, shape, dtype, bytesInUse, bytesLimit, scopes } = error.details as { scopes: { name: string; bytes: number }[] } & Record<string, unknown>;
      assert.deepEqual({ op, bytes, shape, dtype, bytesInUse }, { op: "linear", bytes: 12e6, shape: [3000, 1000], dtype: "f32", bytesInUse: inUse });
      assert.ok((bytesLimit as number) > 1e6 && scopes.length === 3);
      assert.deepEqual(scopes.find(({ name }) => name.startsWith("microbatch")), { name: "microbatch 0 of step 3", bytes: 1_200_000 });
      return error.code === "ERR_MEMORY" && (error.cause as RuntimeError).code === "ERR_MEMORY";
    });
    [small, large].forEach((scope) => scope.close());
    weight.dispose();
  });

  it("says when it was a gradient, and when it was no op", async () => {
    const scope = new Scope("gradients"), tape = new Tape();
    const [x, y, dy] = scope.enter(() => {
      const x = tape.watch(zeros([100, 1000]));
      const y = tape.record(() => ops.sum(x));
      return [x, y, fromArray([1], [1])] as const;
    });
    await limitTo(1); // gives back what is cached, refuses everything new
    const refusedTo = (op: string) => (error: unknown) => error instanceof RuntimeError && error.code === "ERR_MEMORY" && error.details.op === op;
    assert.throws(() => scope.enter(() => tape.backward([[y, dy]])), refusedTo("gradient of sum"));
    assert.throws(() => scope.enter(() => zeros([1_000_000])), refusedTo("allocate"));
    assert.ok(!x.disposed);
    scope.close();
  });

  it("in a replay names the recorded command that holds most, and what the whole asks for", async () => {
    const scope = new Scope("step"), weight = zeros([1000, 100]), work = new Compiled("work");
    const step = (x: Tensor): Tensor => scoped("inside", () => ops.sum(ops.gelu(ops.linear(x, weight)))); // (300, 1000) twice
    const run = (): Tensor => scope.enter(() => work.run({ x: zeros([300, 100]) }, ({ x }) => ({ y: step(x) })).y);
    for (let i = 0; i < 4; i++) run();
    assert.equal(work.statistics.replayed, 1);
    await limitTo(1);
    await limitTo(memory().bytesReserved + 1_000_000);
    assert.throws(run, (error: unknown) => {
      assert.ok(error instanceof RuntimeError);
      assert.match(error.message, /^replay: no room for the 2\.4 MB of tensors of a recorded step and its outputs of 4 bytes; most are alive at command 2 of 3, gelu_forward of f32 \(300, 1000\), f32 \(300, 1000\); .* in use of limit .*\. Use smaller microbatches/);
      const { op, command, commands, scratchBytes } = error.details;
      assert.deepEqual({ op, command, commands, scratchBytes }, { op: "gelu_forward", command: 1, commands: 3, scratchBytes: 2_400_000 });
      return error.code === "ERR_MEMORY";
    });
    work.clear();
    scope.close();
    weight.dispose();
  });
});

describe("views and copies", () => {
  noLeaks();
  const bytes = (): number => native().memory().bytesInUse;

  it("reshape, detach and zeroGradient show the storage of x and take none", async () => {
    const x = fromArray([1, 2, 3, 4, 5, 6], [2, 3]), before = bytes();
    const views = [ops.reshape(x, [3, -1]), ops.detach(x), ops.zeroGradient(x)];
    assert.equal(bytes(), before);
    x.write([6, 5, 4, 3, 2, 1]);
    for (const view of views) {
      assert.equal(view.root, x);
      assert.deepEqual([...await view.readNumbers()], [6, 5, 4, 3, 2, 1]);
      view.dispose();
    }
    x.dispose();
  });

  it("permute, slice, split, concat and pad copy: what they give does not change with x", async () => {
    const x = fromArray([1, 2, 3, 4], [2, 2]);
    const copies = [ops.permute(x, [0, 1]), ops.slice(x, 0, 0, 2), ops.split(x, 0, [2])[0], ops.concat([x], 0), ops.pad(x, 0, 0, 0)];
    x.write([0, 0, 0, 0]);
    for (const copy of copies) {
      assert.equal(copy.root, copy);
      assert.deepEqual([...await copy.readNumbers()], [1, 2, 3, 4]);
      copy.dispose();
    }
    x.dispose();
  });
});
