import assert from "node:assert/strict";
import { native } from "../../../runtime/native.ts";
import { firstDifference, noise, run, runMixed, single, type Numbers } from "../device.ts";
import { refuses } from "../harness.ts";

describe("fill", () => {
  const kinds: [Numbers, number, number][] = [[new Float64Array(), 0.1, 0.1], [new Float32Array(), 0.1, Math.fround(0.1)], [new Int32Array(), -7, -7], [new Uint8Array(), 200, 200]];
  for (const [like, value, expected] of kinds) {
    for (const n of [0, 1, 3, 17, 300001]) {
      it(`puts ${value} into ${n} elements of a ${like.constructor.name}`, async () => {
        const [y] = await runMixed("fill", [{ out: [n], like }], [value], { threads: 2 });
        assert.equal(y.length, n);
        assert.equal(y.findIndex((v: number) => v !== expected), -1);
      });
    }
  }

  it("knows the dtypes without arrays: bf16, f16, i64, i8, bool", async () => {
    const device = native();
    const bytes = async (dtype: number, value: number): Promise<number[]> => {
      const handle = device.allocate(dtype, [2]);
      device.launch(device.kernel("fill"), [handle], [value]);
      const read = device.read(handle);
      device.free(handle);
      return [...new Uint8Array(await read)];
    };
    assert.deepEqual(await bytes(2, 1 + 2 ** -8), [0x80, 0x3f, 0x80, 0x3f]); // a tie between 1 and 1 + 2^-7 goes to the even 1
    assert.deepEqual(await bytes(2, 1 + 3 * 2 ** -8), [0x82, 0x3f, 0x82, 0x3f]); // and here up, to 1 + 2^-6
    assert.deepEqual(await bytes(3, -1.5), [0x00, 0xbe, 0x00, 0xbe]);
    assert.deepEqual(await bytes(4, -2), [0xfe, 255, 255, 255, 255, 255, 255, 255, 0xfe, 255, 255, 255, 255, 255, 255, 255]);
    assert.deepEqual(await bytes(6, -128), [0x80, 0x80]);
    assert.deepEqual(await bytes(8, 5), [1, 1]);
  });

  it("refuses a value its dtype cannot hold", () => refuses(runMixed("fill", [{ out: [2], like: new Uint8Array() }], [256]), /fill: value expected within 0..255 for y of u8, got 256/));
});

describe("copy", () => {
  for (const data of [noise([3001], 1).data, single(noise([300001], 2)).data, Int32Array.of(1, -2, 3), Uint8Array.of(), Uint8Array.of(9)]) {
    it(`copies ${data.length} elements of a ${data.constructor.name}`, async () => {
      const [y] = await runMixed("copy", [{ shape: [data.length], data }, { out: [data.length], like: data }]);
      assert.equal(firstDifference(y, data), -1);
    });
  }

  it("refuses another number of elements", () => refuses(run("copy", [noise([3], 1), { out: [4] }]), /copy: y expected 3 elements as x, got f64 \(4\)/));
});

describe("cast", () => {
  const cast = async (data: Numbers, like: Numbers, kernels: "fast" | "reference" = "fast") =>
    [...(await runMixed("cast", [{ shape: [data.length], data }, { out: [data.length], like }], [], { kernels }))[0]];

  for (const kernels of ["fast", "reference"] as const) {
    it(`goes toward zero into integers, clamps, and makes 0 of NaN (${kernels})`, async () => {
      const x = Float64Array.of(1.9, -1.9, 1e20, -1e20, NaN, 255.7, 2147483646.5);
      assert.deepEqual(await cast(x, new Int32Array(), kernels), [1, -1, 2147483647, -2147483648, 0, 255, 2147483646]);
      assert.deepEqual(await cast(x, new Uint8Array(), kernels), [1, 0, 255, 0, 0, 255, 255]);
      assert.deepEqual(await cast(Float32Array.of(1.9, -1.9, NaN), new Int32Array(), kernels), [1, -1, 0]);
      assert.deepEqual(await cast(Int32Array.of(-1, 7, 300), new Uint8Array(), kernels), [0, 7, 255]);
    });

    it(`rounds to the nearest f32 and widens exactly (${kernels})`, async () => {
      const x = noise([300001], 3).data;
      assert.deepEqual(await cast(x, new Float32Array(), kernels), [...Float32Array.from(x)]);
      assert.deepEqual(await cast(Float32Array.from(x), new Float64Array(), kernels), [...Float32Array.from(x)]);
      assert.deepEqual(await cast(Int32Array.of(16777217, -3), new Float32Array(), kernels), [16777216, -3]);
      assert.deepEqual(await cast(Uint8Array.of(0, 255), new Float64Array(), kernels), [0, 255]);
    });
  }

  it("keeps an empty tensor empty", async () => assert.deepEqual(await cast(new Float32Array(), new Int32Array()), []));
});
