import { noise, run } from "../device.ts";
import { close, family, refuses } from "../harness.ts";

// planes, H, W, H', W'
const sizes = [[0, 3, 3, 2, 2], [1, 1, 1, 1, 1], [2, 3, 4, 5, 2], [1, 2, 2, 4, 4], [3, 5, 1, 3, 7], [2, 7, 3, 0, 4], [3, 14, 14, 37, 65], [2, 301, 187, 96, 99]];
for (const cubic of [0, 1]) {
  family(cubic ? "resize, bicubic" : "resize, bilinear", (planes, height, width, toHeight, toWidth) => ({
    inputs: { x: noise([planes, height, width], 1) }, outputs: { y: [planes, toHeight, toWidth] },
    kernels: { resize_forward: ["x y", cubic], resize_backward: ["dy dx", cubic] }, tolerance: 1e-5,
  }), sizes);
}

describe("resize", () => {
  const square = { shape: [2, 2], data: Float64Array.of(0, 1, 2, 3) };

  it("has the known first rows from 2 x 2 to 4 x 4", async () => { // torch interpolate, align_corners=False
    close((await run("resize_forward", [square, { out: [4, 4] }], [0]))[0].slice(0, 4), [0, 0.25, 0.75, 1], 1e-12);
    close((await run("resize_forward", [square, { out: [4, 4] }], [1]))[0].slice(0, 4), [-0.31640625, 0.015625, 0.5625, 0.89453125], 1e-12);
  });

  it("to the same size changes nothing", async () => {
    const x = noise([2, 5, 7], 3);
    for (const cubic of [0, 1]) close((await run("resize_forward", [x, { out: [2, 5, 7] }], [cubic]))[0], x.data, 0);
  });

  it("refuses pixels from nothing, and planes that differ", async () => {
    await refuses(run("resize_forward", [noise([0, 3], 1), { out: [2, 2] }], [0]), /resize_forward: y expected \(\.\.\., H', W'\) beside x f64 \(0, 3\) with H, W > 0, got f64 \(2, 2\)/);
    await refuses(run("resize_forward", [noise([2, 3, 3], 1), { out: [1, 2, 2] }], [0]), /beside x f64 \(2, 3, 3\)/);
  });
});
