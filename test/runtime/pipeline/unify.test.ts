import assert from "node:assert/strict";
import { Dimensions } from "../../../runtime/pipeline/graph/unify.ts";

describe("symbolic dimensions", () => {
  it("become one when two names meet, whichever was bound before (U-1)", () => {
    for (const [first, second] of [["A", "B"], ["B", "A"]]) {
      const d = new Dimensions();
      d.unify("A", 7, "x -> y");
      d.unify(first, second, "y -> z");
      assert.deepEqual([d.value("A"), d.value("B")], [7, 7]);
    }
    const later = new Dimensions();
    later.unify("A", "B", "x -> y");
    later.unify("B", "C", "y -> z");
    assert.equal(later.value("C"), undefined);
    later.unify("A", 5, "z -> w");
    assert.deepEqual(later.resolve(["C", "Z", 2]), [5, "Z", 2]);
    assert.deepEqual(later.known(), { A: 5, B: 5, C: 5 });
  });

  it("that cannot be equal say which connection decided each name (U-2)", () => {
    const d = new Dimensions();
    d.unify("A", 7, "x -> y");
    d.unify("B", 8, "u -> v");
    assert.deepEqual(d.unify("A", "B", "y -> v"), { left: 7, right: 8, because: ["A is 7 through x -> y", "B is 8 through u -> v"] });
    assert.deepEqual(d.unify(3, 4, "p -> q"), { left: 3, right: 4, because: [] });
    assert.equal(d.unify("A", 7, "y -> w"), undefined);
    assert.equal(d.value("B"), 8, "a conflict changes nothing");
  });

  it("fit or not without deciding anything", () => {
    const d = new Dimensions();
    d.unify("A", 7, "x -> y");
    assert.deepEqual([d.fits("A", 7), d.fits("A", 8), d.fits("B", 8)], [true, false, true]);
    assert.equal(d.value("B"), undefined);
  });

  it("take a size from a table under any of their names", () => {
    const d = new Dimensions();
    d.unify("T", "N", "x -> y");
    assert.deepEqual([d.lookup("N", { T: 32 }), d.lookup("T", { T: 32 }), d.lookup("Z", { T: 32 }), d.lookup(4, {})], [32, 32, undefined, 4]);
  });
});
