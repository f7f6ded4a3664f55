import assert from "node:assert/strict";
import { fill, fnv1a32, unit } from "./fill.ts";

// Literals: fnv1a32 of the published FNV-1a definition, u() of the fill rule written in fill.ts.
describe("the deterministic fill of the golden tests", () => {
  it("hashes names with FNV-1a", () => {
    assert.equal(fnv1a32("a"), 0xe40c292c);
    assert.equal(fnv1a32("cls_token"), 0x10388cb9);
  });

  it("gives the known first numbers", () => {
    assert.deepEqual([0, 1, 2, 3].map((k) => unit(0, k)),
      [-0.1459284946322441, 0.345361462328583, -0.723846604116261, -0.46814829716458917]);
    assert.deepEqual([...fill("cls_token", [3])], [0.9918111795559525, -0.11288286745548248, 0.251309372484684]);
  });
});
