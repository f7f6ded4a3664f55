import assert from "node:assert/strict";
import { RuntimeError, ShapeError } from "../../../runtime/errors.ts";
import { native } from "../../../runtime/native.ts";
import { configureIdleDevice, Scope, allocate, clone, fence, fromArray, full, memory, scoped, viewOf, zeros } from "../../../runtime/tensor/index.ts";
import { code, noLeaks } from "../numbers.ts";

describe("Tensor", () => {
  noLeaks();

  it("brings host data back unchanged in every dtype", async () => {
    const cases = [
      ["f64", new Float64Array([1.1, -2.2, 3])], ["f32", new Float32Array([1.5, -2.5, 3])], ["i32", new Int32Array([1, -2, 3])],
      ["i8", new Int8Array([1, -2, 3])], ["u8", new Uint8Array([1, 2, 255])], ["i64", new BigInt64Array([1n, -2n, 2n ** 60n])],
      ["bf16", new Uint16Array([1, 2, 3])], ["f16", new Uint16Array([1, 2, 3])], ["bool", new Uint8Array([1, 0, 1])],
    ] as const;
    for (const [dtype, data] of cases) {
      const tensor = fromArray(data, [3], dtype);
      assert.equal(tensor.dtype, dtype);
      assert.deepEqual(await tensor.read(), data, dtype);
      tensor.dispose();
    }
  });

  it("takes the dtype of a typed array and f32 for plain numbers", () => {
    const dtypes = [fromArray([1, 2], [2]), fromArray(new Float64Array(2), [2]), fromArray(new Int32Array(2), [2]), fromArray(new Uint8Array(2), [2])];
    assert.deepEqual(dtypes.map((tensor) => tensor.dtype), ["f32", "f64", "i32", "u8"]);
    dtypes.forEach((tensor) => tensor.dispose());
  });

  it("takes numbers for bf16, rounded to nearest even, and gives them back as numbers", async () => {
    const x = fromArray([1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, -2.5, NaN, 1e-45, 4e38], [7], "bf16");
    assert.deepEqual([...await x.read()], [0x3f80, 0x3f80, 0x3f82, 0xc020, 0x7fc0, 0, 0x7f80]);
    assert.deepEqual(await x.readNumbers(), Float32Array.of(1, 1, 1 + 2 ** -6, -2.5, NaN, 0, Infinity));
    const one = full([], 0.1, "bf16"), big = fromArray(BigInt64Array.of(3n), [1]), raw = fromArray(Uint16Array.of(1), [1], "f16");
    assert.equal(await one.item(), 0.10009765625); // 0x3dcd
    assert.deepEqual(await big.readNumbers(), Float64Array.of(3));
    await assert.rejects(raw.readNumbers(), code("ERR_DTYPE", /f16 is carried, not computed with/));
    assert.throws(() => raw.write([1]), code("ERR_DTYPE", /takes its raw bits/));
    for (const tensor of [x, one, big, raw]) tensor.dispose();
  });

  it("reads what the elements were when read was called", async () => {
    const x = full([4], 7);
    const before = x.read();
    x.write([1, 2, 3, 4]);
    assert.deepEqual(await before, new Float32Array([7, 7, 7, 7]));
    assert.deepEqual(await x.read(), new Float32Array([1, 2, 3, 4]));
    x.dispose();
  });

  it("gives the single number of a tensor of one element, and refuses others", async () => {
    const x = full([1, 1], 2.5), y = zeros([2]);
    assert.equal(await x.item(), 2.5);
    await assert.rejects(y.item(), (error) => error instanceof ShapeError && error.details.op === "item");
    x.dispose();
    y.dispose();
  });

  it("holds empty tensors", async () => {
    const x = zeros([0, 5]);
    assert.equal(x.size, 0);
    assert.deepEqual(await x.read(), new Float32Array(0));
    x.dispose();
  });

  it("refuses a wrong number of elements and names both", () => {
    assert.throws(() => fromArray([1, 2, 3], [2, 2]), /fromArray: data expected 4 elements for shape \(2, 2\), got \(3\)/);
    assert.throws(() => allocate([2, -1]), ShapeError);
    assert.throws(() => allocate([1, 1, 1, 1, 1, 1, 1]), ShapeError);
  });

  it("refuses the use of a freed tensor and names the user", async () => {
    const x = zeros([2]);
    x.dispose();
    x.dispose();
    assert.throws(() => clone(x), code("ERR_HANDLE", /clone: operand x, f32\(2\), was freed/));
    await assert.rejects(x.read(), code("ERR_HANDLE", /read/));
  });

  it("shares storage between a tensor and its views, and frees it with the last", async () => {
    const before = memory().bytesInUse;
    const x = fromArray([1, 2, 3, 4], [4]);
    const y = viewOf(x, [2, 2]);
    x.write([5, 6, 7, 8]);
    x.dispose();
    assert.deepEqual(await y.read(), new Float32Array([5, 6, 7, 8]));
    assert.ok(memory().bytesInUse > before);
    y.dispose();
    assert.equal(memory().bytesInUse, before);
  });
});

describe("Scope", () => {
  noLeaks();

  it("frees what was made in it", () => {
    const before = memory();
    const scope = new Scope("test");
    const x = scope.enter(() => (zeros([10]), zeros([20])));
    assert.equal(scope.tensors, 2);
    assert.equal(memory().tensors, before.tensors + 2);
    scope.close();
    assert.ok(x.disposed && scope.closed);
    assert.deepEqual([memory().tensors, memory().bytesInUse], [before.tensors, before.bytesInUse]);
  });

  it("lets one leave with keep, and refuses a tensor of another", async () => {
    const scope = new Scope("inner"), other = new Scope("other");
    const x = scope.enter(() => scope.keep(full([1], 3)));
    assert.throws(() => other.keep(x), code("ERR_HANDLE", /scope other: cannot keep .*its owner is the caller/));
    scope.close();
    assert.equal(await x.item(), 3);
    other.adopt(x);
    other.close();
    assert.ok(x.disposed);
  });

  it("is entered innermost first and left also when the work throws", () => {
    const outer = new Scope("outer"), inner = new Scope("inner");
    outer.enter(() => {
      assert.throws(() => inner.enter(() => { zeros([1]); throw new Error("broken"); }), /broken/);
      zeros([1]);
    });
    assert.deepEqual([outer.tensors, inner.tensors], [1, 1]);
    outer.close();
    inner.close();
  });

  it("refuses asynchronous work, since a scope cannot span an await", () => {
    const scope = new Scope("late");
    assert.throws(() => scope.enter(async () => 1), code("ERR_HANDLE", /cannot span an await/));
    scope.close();
  });

  it("refuses to be entered after it was closed", () => {
    const scope = new Scope("gone");
    scope.close();
    assert.throws(() => scope.enter(() => 1), (error) => error instanceof RuntimeError && error.code === "ERR_HANDLE");
  });

  it("forgets a tensor that was disposed by hand", () => {
    const scope = new Scope("hand");
    scope.enter(() => zeros([3])).dispose();
    assert.equal(scope.tensors, 0);
    scope.close();
  });

  it("hands the results of scoped work to the scope around", async () => {
    const before = memory().tensors;
    const kept = scoped("work", () => (zeros([5]), full([1], 4)));
    assert.equal(memory().tensors, before + 1);
    assert.equal(await kept.item(), 4);
    kept.dispose();
    const outer = new Scope("outer");
    outer.enter(() => scoped("work", () => [zeros([1]), zeros([2])]));
    assert.equal(outer.tensors, 2);
    outer.close();
    await fence();
  });
});

describe("the device's settings", () => {
  it("change at the first moment without queued work, however many wait for it and queue more", async () => {
    const { threads } = native().info();
    const change = async (): Promise<number> => {
      await configureIdleDevice({ threads });
      const scope = new Scope("work");
      scope.enter(() => { for (let i = 0; i < 200; i++) full([64, 1024], i); });
      scope.close();
      return native().pending();
    };
    const queued = await Promise.all([change(), change(), change()]);
    assert.ok(queued[0] > 0, "the first left work that the others had to wait for");
    await fence();
  });
});
