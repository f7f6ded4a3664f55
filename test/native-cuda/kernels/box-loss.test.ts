import assert from "node:assert/strict";
import { noise, run } from "../device.ts";
import { close, family } from "../harness.ts";

/** Boxes in (centre x, centre y, width, height), some overlapping, some apart. */
const boxes = (count: number, seed: number) => {
  const random = noise([count, 4], seed);
  return { shape: random.shape, data: random.data.map((v, i) => (i % 4 < 2 ? 0.5 + 0.3 * v : 0.3 + 0.2 * v)) };
};

for (const name of ["box_l1", "box_giou"]) {
  family(name, (count) => ({
    inputs: { pred: boxes(count, 1), target: boxes(count, 2) },
    outputs: { loss: [1] },
    kernels: { [`${name}_forward`]: ["pred target loss", 0.37], [`${name}_backward`]: ["dloss pred target dpred", 0.37] } as const,
    gradientTolerance: 1e-6,
  }), [[0], [1], [3], [15], [501]]);
}

describe("box losses", () => {
  const fromCorners = (x0: number, y0: number, x1: number, y1: number) => [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0];
  const loss = async (kernel: string, pred: number[], target: number[]) => (await run(kernel, [{ shape: [1, 4], data: Float64Array.from(pred) }, { shape: [1, 4], data: Float64Array.from(target) }, { out: [1] }], [1]))[0][0];

  it("GIoU has the known values", async () => {
    const giou = async (a: number[], b: number[]) => 1 - await loss("box_giou_forward", a, b);
    const a = fromCorners(0, 0, 0.5, 0.5), b = fromCorners(0.25, 0.25, 0.75, 0.75);
    close([await giou(a, b)], [-0.0793650794], 1e-8); // IoU 1/7, enclosing 9/16, union 7/16: 1/7 - 2/9
    close([await giou(fromCorners(0, 0, 0.1, 0.1), fromCorners(0.9, 0.9, 1, 1))], [-0.98], 1e-12);
    assert.equal(await giou(a, a), 1);
    assert.equal(await giou(a, b), await giou(b, a));
  });

  it("INV-B2: GIoU lies above -1, is at most 1, and is symmetric", async () => {
    const [first, second] = [boxes(40, 5), boxes(40, 6)], row = (from: { data: ArrayLike<number> }, i: number) => Array.from(from.data).slice(4 * i, 4 * i + 4);
    for (let i = 0; i < 40; i++) {
      const [a, b] = [row(first, i), row(second, i)], [one, other] = [1 - await loss("box_giou_forward", a, b), 1 - await loss("box_giou_forward", b, a)];
      assert.ok(one > -1 && one <= 1 && Math.abs(one - other) < 1e-12, `${a} and ${b}: ${one}, ${other}`);
    }
  });

  it("a box without extent gives finite numbers and no slope in its sides", async () => {
    const point = [0.5, 0.5, 0, -0.1], target = fromCorners(0.4, 0.4, 0.8, 0.9);
    assert.ok(Number.isFinite(await loss("box_giou_forward", point, target)));
    const [slope] = await run("box_giou_backward", [{ shape: [1], data: Float64Array.of(1) }, { shape: [1, 4], data: Float64Array.from(point) }, { shape: [1, 4], data: Float64Array.from(target) }, { out: [1, 4] }], [1]);
    assert.deepEqual([slope[2], slope[3]], [0, 0]);
    assert.ok(slope.every(Number.isFinite), `${slope}`);
  });

  it("L1 sums the four differences", async () => close([await loss("box_l1_forward", [1, 2, 3, 4], [1.5, 2, 2, 4.25])], [1.75], 1e-15));
});
