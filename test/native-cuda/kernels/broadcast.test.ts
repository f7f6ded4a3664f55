import assert from "node:assert/strict";
import { noise, run } from "../device.ts";
import { family, refuses } from "../harness.ts";

// shapes of a, b and of what they broadcast to
const pairs: [number[], number[], number[]][] = [
  [[0], [0], [0]], [[1], [1], [1]], [[17], [17], [17]], [[3, 5], [5], [3, 5]], [[3, 1], [1, 5], [3, 5]], [[2, 3, 1], [3, 4], [2, 3, 4]],
  [[], [2, 3], [2, 3]], [[2, 1, 3, 1, 2, 1], [1, 2, 1, 3, 1, 2], [2, 2, 3, 3, 2, 2]], [[0, 3], [1, 3], [0, 3]], [[4, 1], [4, 140001], [4, 140001]],
  [[3000, 97], [97], [3000, 97]], [[3, 900, 64], [3, 1, 64], [3, 900, 64]], [[300000], [1], [300000]],
];

for (const name of ["add", "sub", "mul", "div"]) {
  family(name, (which) => {
    const [a, b, y] = pairs[which], away = noise(b, 2, 0.5);
    away.data = away.data.map((v) => v + 1.5); // a divisor between 1 and 2
    return { inputs: { a: noise(a, 1, 2), b: away }, outputs: { y }, kernels: { [name]: ["a b y"] }, wide: "b" };
  }, pairs.map((_, i) => [i]));
}

const sums: [number[], number[]][] = [
  [[0], [0]], [[0, 3], [3]], [[3, 0], [3, 1]], [[17], []], [[17], [1]], [[3, 5], [3, 5]], [[3, 5], [5]], [[3, 5], [3, 1]], [[2, 3, 4], [3, 1]],
  [[2, 3, 4, 5], [1, 3, 1, 5]], [[2, 3, 2, 3, 2], [2, 1, 2, 1, 2]], [[9000, 33], [33]], [[3, 5000, 32], [3, 1, 32]], [[300001], [1]], [[17, 20000], [17, 1]],
];

family("sum_to", (which) => {
  const [x, y] = sums[which];
  return { inputs: { x: noise(x, 1) }, outputs: { y }, kernels: { sum_to: ["x y"] }, wide: "y" };
}, sums.map((_, i) => [i]));

describe("broadcasting", () => {
  it("repeats (2, 1) beside (3) as numpy does", async () => {
    const a = { shape: [2, 1], data: Float32Array.of(10, 20) }, b = { shape: [3], data: Float32Array.of(1, 2, 4) };
    const [sub] = await run("sub", [a, b, { out: [2, 3] }]), [div] = await run("div", [a, b, { out: [2, 3] }]);
    assert.deepEqual([...sub], [9, 8, 6, 19, 18, 16]);
    assert.deepEqual([...div], [10, 5, 2.5, 20, 10, 5]);
  });

  it("sum_to adds what a repeat spread", async () => {
    const x = { shape: [2, 2, 2], data: Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8) };
    const to = async (shape: number[]) => [...(await run("sum_to", [x, { out: shape }]))[0]];
    assert.deepEqual(await to([2]), [16, 20]);
    assert.deepEqual(await to([2, 1]), [14, 22]);
    assert.deepEqual(await to([2, 1, 2]), [4, 6, 12, 14]);
  });

  it("refuses shapes that do not broadcast, with all of them", async () => {
    await refuses(run("add", [noise([2, 3], 1), noise([2], 1), { out: [2, 3] }]), /add: y expected the broadcast shape of a f64 \(2, 3\) and b f64 \(2\), got f64 \(2, 3\)/);
    await refuses(run("sum_to", [noise([2, 3], 1), { out: [2] }]), /sum_to: y expected a shape that broadcasts to x f64 \(2, 3\), got f64 \(2\)/);
  });
});
