import assert from "node:assert/strict";
import { type Operand, firstDifference, noise, run, single } from "../device.ts";
import { family, refuses } from "../harness.ts";

family("scale", (...shape) => ({ inputs: { x: noise(shape, 1) }, outputs: { y: shape }, kernels: { scale: ["x y", -0.3] } }), [[0], [1], [3], [17], [5, 60001]]);

describe("accumulate", () => {
  for (const n of [0, 1, 3, 17, 300005]) {
    it(`(${n}) adds x to y in place, in f32 and f64, on any number of threads`, async () => {
      const x = noise([n], 1), y = noise([n], 2);
      const [exact] = await run("accumulate", [x, { ...y, update: true }]);
      assert.equal(firstDifference(exact, x.data.map((v, i) => v + y.data[i])), -1);
      const [fast] = await run("accumulate", [single(x), { ...single(y), update: true }], [], { threads: 1 });
      const [p, q] = [single(x).data, single(y).data];
      assert.equal(firstDifference(fast, Float32Array.from(p, (v, i) => v + q[i])), -1);
      const [again] = await run("accumulate", [single(x), { ...single(y), update: true }], [], { threads: 4 });
      assert.equal(firstDifference(again, fast), -1);
    });
  }
});

describe("accumulate_many", () => {
  const sizes = [[3, 5], [0], [1], [65536], [131585], [2, 65537]];

  for (const [title, convert] of [["f32", single], ["f64", (o: Operand) => o]] as const) {
    it(`gives each pair the bits of accumulate, in ${title}, on any number of threads and in the reference`, async () => {
      const pairs = sizes.map((shape, i) => [convert(noise(shape, i)), { ...convert(noise(shape, 100 + i)), update: true }]);
      const alone: Awaited<ReturnType<typeof run>> = [];
      for (const pair of pairs) alone.push(...await run("accumulate", pair, [], { threads: 1 }));
      for (const settings of [{ threads: 1 }, { threads: 2 }, { threads: 3 }, { threads: 8 }, { kernels: "reference" }] as const) {
        const together = await run("accumulate_many", pairs.flat(), [], settings);
        assert.equal(together.length, sizes.length);
        together.forEach((sum, i) => assert.equal(firstDifference(sum, alone[i]), -1, `pair ${i}, ${JSON.stringify(settings)}`));
      }
    });
  }

  it("names the pair that does not fit", async () => {
    await refuses(run("accumulate_many", [noise([2], 1), { ...noise([2], 2), update: true }, noise([3], 3), { ...noise([4], 4), update: true }]), /accumulate_many: y2 expected f64 \(3\) as x2, got f64 \(4\)/);
  });
});
