import assert from "node:assert/strict";
import { hasArea, splitWords, toFrame, toUnit, union } from "../../../plugins/data-loader/frame.ts";

describe("the page frame", () => {
  // By hand: x * 1024 / W, y * 1024 / H, swapped corners put in order, then clamped to [0, 1024].
  const cases = [
    { name: "pixels of a table image", corners: [36.7376, 302.9775, 117.2456, 340.5539], size: [694, 659], box: [54.206488, 470.787496, 172.99639, 529.176318], clamped: false },
    { name: "a receipt region", corners: [72, 25, 326, 64], size: [463, 605], box: [159.239741, 42.31405, 721.00216, 108.323967], clamped: false },
    { name: "a box outside the page", corners: [-5, 10, 1300, 90], size: [1000, 100], box: [0, 102.4, 1024, 921.6], clamped: true },
    { name: "swapped corners", corners: [90, 80, 10, 20], size: [100, 100], box: [102.4, 204.8, 921.6, 819.2], clamped: false },
    { name: "a box beyond the page on every side", corners: [200, 300, 400, 500], size: [100, 100], box: [1024, 1024, 1024, 1024], clamped: true },
  ];
  for (const { name, corners, size, box, clamped } of cases) {
    it(`maps ${name}`, () => {
      const framed = toFrame(corners, size[0], size[1]);
      framed.box.forEach((value, i) => assert.ok(Math.abs(value - box[i]) < 1e-5, `${framed.box} is not ${box}`));
      assert.equal(framed.clamped, clamped);
    });
  }

  it("gives the model corners in [0, 1]", () => {
    assert.deepEqual(toUnit([0, 256, 512, 1024]), [0, 0.25, 0.5, 1]);
  });

  it("finds the smallest box around several, and none around none", () => {
    assert.deepEqual(union([[10, 20, 30, 40], [5, 25, 20, 60]]), [5, 20, 30, 60]);
    assert.equal(union([]), undefined);
  });

  it("tells a line from a box with area", () => {
    assert.equal(hasArea([1, 1, 1, 5]), false);
    assert.equal(hasArea([1, 1, 2, 5]), true);
  });
});

describe("splitting a line into words", () => {
  it("shares the width among all characters, spaces included", () => {
    // 10 characters on a width of 100: "TAX" is [0, 3), "RM 9" starts at 5.
    assert.deepEqual(splitWords("TAX  RM  9", [0, 4, 100, 8]), [
      { text: "TAX", box: [0, 4, 30, 8] }, { text: "RM", box: [50, 4, 70, 8] }, { text: "9", box: [90, 4, 100, 8] },
    ]);
  });

  it("counts UTF-16 code units and keeps surrogate pairs together", () => {
    assert.deepEqual(splitWords("\u{1f600} a", [0, 0, 4, 1]), [{ text: "\u{1f600}", box: [0, 0, 2, 1] }, { text: "a", box: [3, 0, 4, 1] }]);
  });

  it("finds no word in spaces", () => {
    assert.deepEqual(splitWords("   ", [0, 0, 1, 1]), []);
  });
});
