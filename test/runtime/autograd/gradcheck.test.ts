import assert from "node:assert/strict";
import { defineOp, gradcheck } from "../../../runtime/autograd/index.ts";
import { mul, scale, sin } from "../../../runtime/ops/index.ts";
import type { Tensor } from "../../../runtime/tensor/index.ts";
import { noLeaks, randn, withScope } from "../numbers.ts";

describe("gradcheck", () => {
  noLeaks();

  it("accepts a right gradient", () => withScope(async (scope) => {
    const report = await gradcheck((x, y) => mul(sin(x), y), scope.enter(() => [randn([3, 2], { seed: 1 }), randn([2], { seed: 2 })]));
    assert.equal(report.elements, 8);
    assert.ok(report.maxError < 1e-8, report.toString());
  }));

  it("sees a gradient that is off by one part in a thousand, and shows where", () => withScope(async (scope) => {
    const nearlyTwice = defineOp({ name: "nearlyTwice", operands: ["x"], forward: (x: Tensor) => ({ output: scale(x, 2), saves: undefined }), gradients: { x: (dy) => scale(dy, 2.002) } });
    const report = await gradcheck(nearlyTwice, scope.enter(() => [randn([4], { seed: 3 })]));
    assert.ok(report.maxError > 1e-4, report.toString());
    assert.match(report.toString(), /worst error .* at input 0, element \d: central difference/);
  }));

  it("sees a gradient that does not arrive at all", () => withScope(async (scope) => {
    const lost = defineOp({ name: "lost", operands: ["x", "y"], forward: (x: Tensor, y: Tensor) => ({ output: mul(x, y), saves: y }), gradients: { x: (dy, y) => mul(dy, y) } });
    const report = await gradcheck(lost, scope.enter(() => [randn([4], { seed: 3 }), randn([4], { seed: 4 })]));
    assert.equal(report.worst.input, 1);
  }));
});
