/**
 * A root hook: a tensor that a test makes and does not free fails that test. Tensors made in `before` hooks belong to the suite.
 */
import assert from "node:assert/strict";
import { addonIsLoaded, native } from "../runtime/native.ts";

let before: number | undefined;

export const mochaHooks = {
  beforeEach(): void {
    before = addonIsLoaded() ? native().memory().tensors : 0;
  },
  afterEach(this: Mocha.Context): void {
    const test = this.currentTest;
    if (!addonIsLoaded() || test?.state !== "passed") return;
    const after = native().memory().tensors;
    assert.ok(after <= before!, `"${test.fullTitle()}" leaked ${after - before!} tensors`);
  },
};

