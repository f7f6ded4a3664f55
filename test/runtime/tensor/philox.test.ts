import assert from "node:assert/strict";
import { Philox, fnv1a32 } from "../../../runtime/tensor/index.ts";
import { normalCdf, normalQuantile, philoxBlock } from "../../../runtime/tensor/philox.ts";

describe("Philox4x32-10", () => {
  it("gives the published known answers for all-zero and all-one inputs", () => {
    const out = new Uint32Array(4);
    const hex = () => [...out].map((word) => word.toString(16).padStart(8, "0")).join(" ");
    philoxBlock([0, 0], 0, 0, 0, 0, out); // Random123 kat_vectors
    assert.equal(hex(), "6627e8d5 e169c58d bc57ac4c 9b00dbd8");
    const ones = 0xffffffff;
    philoxBlock([ones, ones], ones, ones, ones, ones, out);
    assert.equal(hex(), "408f276d 41c83b0e a20bc7c6 6d5451fd");
    // Random123 kat_vectors, the digits of pi
    philoxBlock([0xa4093822, 0x299f31d0], 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, out);
    assert.equal(hex(), "d16cfe09 94fdcceb 5001e420 24126ea1");
  });

  it("reads blocks in order for a seed and a stream", () => {
    const random = new Philox(42, 1);
    assert.deepEqual([random.u32(), random.u32(), random.u32(), random.u32()], [43202409, 542238995, 996716600, 3056353436]);
  });

  it("draws Poisson numbers by products", () => {
    const random = new Philox(42, 2);
    assert.deepEqual(Array.from({ length: 12 }, () => random.poisson(3)), [4, 6, 1, 1, 2, 3, 4, 3, 2, 3, 2, 2]);
  });

  it("takes 64-bit seeds as numbers or as bigints", () => {
    assert.equal(new Philox(2 ** 40 + 5, 9).u32(), new Philox(2n ** 40n + 5n, 9n).u32());
    assert.notEqual(new Philox(2 ** 40 + 5, 9).u32(), new Philox(5, 9).u32());
  });

  it("keeps randint inside both ends and reaches them", () => {
    const random = new Philox(3, 3);
    const seen = new Set(Array.from({ length: 400 }, () => random.randint(-2, 2)));
    assert.deepEqual([...seen].sort((a, b) => a - b), [-2, -1, 0, 1, 2]);
  });

  it("samples without replacement and shuffles to a permutation", () => {
    const items = Array.from({ length: 20 }, (_, i) => i);
    const sample = new Philox(1, 1).sample(items, 7);
    assert.equal(new Set(sample).size, 7);
    const shuffled = new Philox(1, 1).shuffle(items);
    assert.deepEqual([...shuffled].sort((a, b) => a - b), items);
    assert.notDeepEqual(shuffled, items);
    assert.deepEqual(items, Array.from({ length: 20 }, (_, i) => i), "the input is left alone");
  });

  it("draws normals with mean 0 and variance 1", () => {
    const random = new Philox(5, 5);
    const values = Array.from({ length: 20000 }, () => random.normal());
    const mean = values.reduce((a, b) => a + b) / values.length;
    const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length;
    assert.ok(Math.abs(mean) < 0.03, `mean ${mean}`); // three standard errors are 0.021
    assert.ok(Math.abs(variance - 1) < 0.05, `variance ${variance}`);
  });
});

describe("the normal distribution", () => {
  it("has the tabulated quantiles", () => {
    // Wichura 1988, the paper's check values for PPND16
    assert.ok(Math.abs(normalQuantile(0.25) + 0.6744897501960817) < 1e-15);
    assert.ok(Math.abs(normalQuantile(0.001) + 3.090232306167814) < 1e-14);
    assert.ok(Math.abs(normalQuantile(1e-20) + 9.262340089798408) < 1e-13);
  });

  it("has a distribution function that undoes them", () => {
    for (const p of [0.001, 0.1587, 0.3, 0.5, 0.9, 0.9999]) assert.ok(Math.abs(normalCdf(normalQuantile(p)) - p) < 1e-14, `p ${p}`);
  });
});

describe("fnv1a32", () => {
  it("gives the published hashes", () => {
    assert.equal(fnv1a32("a"), 0xe40c292c);
    assert.equal(fnv1a32("cls_token"), 0x10388cb9);
  });
});
