import assert from "node:assert/strict";
import { firstDifference, noise, run, single, type Operand } from "../device.ts";
import { close, family } from "../harness.ts";

const elementwise = (name: string, saved: "x" | "y", amplitude: number) => (...shape: number[]) => ({
  inputs: { x: noise(shape, 3, amplitude) },
  outputs: { y: shape },
  kernels: { [`${name}_forward`]: ["x y"], [`${name}_backward`]: [`dy ${saved} dx`] } as const,
});

const sizes = [[0], [1], [3], [17], [2, 3, 5], [5, 14013]];
for (const name of ["gelu", "quick_gelu", "silu", "relu", "sin", "cos"]) family(name, elementwise(name, "x", 6), sizes);
for (const name of ["tanh", "sigmoid", "exp"]) family(name, elementwise(name, "y", 6), sizes);
for (const [name, saved] of [["log", "x"], ["sqrt", "y"], ["abs", "x"]] as const) {
  family(name, (...shape) => {
    const subject = elementwise(name, saved, 1)(...shape);
    subject.inputs.x.data = subject.inputs.x.data.map((v) => v + 1.25); // from 0.25 on: away from the pole and the kink
    return subject;
  }, sizes);
}

describe("activations", () => {
  // x Phi(x), x s(1.702 x), x s(x) computed in f64 with erf and exp
  const points = [-3, -1, -0.5, 0.5, 1, 3];
  const known: Record<string, number[]> = {
    gelu: [-0.00404969409, -0.15865525393, -0.15426876937, 0.34573123064, 0.84134474607, 2.99595030591],
    quick_gelu: [-0.01807130971, -0.15420423407, -0.14961156339, 0.35038843661, 0.84579576593, 2.98192869029],
    silu: [-0.14227761953, -0.26894142137, -0.18877033440, 0.31122966560, 0.73105857863, 2.85772238047],
  };
  for (const [name, expected] of Object.entries(known)) {
    it(`${name} has the known values at -3, -1, -0.5, 0.5, 1 and 3`, async () => {
      const [exact] = await run(`${name}_forward`, [{ shape: [6], data: Float64Array.from(points) }, { out: [6] }]);
      close(exact, expected, 1e-11);
      const [fast] = await run(`${name}_forward`, [{ shape: [6], data: Float32Array.from(points) }, { out: [6] }]);
      fast.forEach((value, i) => close([value], [expected[i]], 5e-7)); // each relative to itself: the tail too
    });
  }

  it("keep their relative accuracy far into the tail", async () => {
    const x = { shape: [100], data: Float32Array.from({ length: 100 }, (_, i) => -i / 10) };
    for (const name of ["gelu", "quick_gelu", "silu", "sigmoid"]) {
      const [exact] = await run(`${name}_forward`, [{ shape: [100], data: Float64Array.from(x.data) }, { out: [100] }]);
      const [fast] = await run(`${name}_forward`, [x, { out: [100] }]);
      fast.forEach((value, i) => close([value], [exact[i]], 1.5e-6));
    }
  });

  it("give a number the same bits wherever it stands in a tensor", async () => {
    const data = single(noise([4099], 7, 12)).data, at = (from: number) => ({ shape: [4099 - from], data: data.slice(from) });
    for (const name of ["gelu", "quick_gelu", "silu", "tanh", "sigmoid", "exp"]) {
      const [whole] = await run(`${name}_forward`, [at(0), { out: [4099] }]);
      for (const from of [1, 7, 4090, 4098]) {
        const [rest] = await run(`${name}_forward`, [at(from), { out: [4099 - from] }]);
        assert.equal(firstDifference(rest, whole.slice(from)), -1, `${name} from ${from}`);
      }
    }
  });

  it("stand infinities, huge numbers and NaN", async () => {
    const x: Operand = { shape: [6], data: Float32Array.of(-1e30, -200, 200, 1e30, Infinity, NaN) };
    const values = async (name: string) => [...(await run(`${name}_forward`, [x, { out: [6] }]))[0]];
    const same = async (name: string, expected: number[]) => assert.deepEqual((await values(name)).map((v) => v + 0), expected, name); // -0 + 0 = 0
    for (const name of ["gelu", "silu"]) await same(name, [0, 0, 200, Math.fround(1e30), Infinity, NaN]);
    await same("sigmoid", [0, 0, 1, 1, 1, NaN]);
    await same("exp", [0, 0, Infinity, Infinity, Infinity, NaN]);
    await same("abs", [Math.fround(1e30), 200, 200, Math.fround(1e30), Infinity, NaN]);
    await same("sqrt", [NaN, NaN, Math.fround(Math.sqrt(200)), Math.fround(1e15), Infinity, NaN]);
    await same("log", [NaN, NaN, Math.fround(Math.log(200)), Math.fround(Math.log(Math.fround(1e30))), Infinity, NaN]);
    await same("tanh", [-1, -1, 1, 1, 1, NaN]);
  });
});
