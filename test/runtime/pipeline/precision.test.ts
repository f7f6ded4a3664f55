import assert from "node:assert/strict";
import { choosePrecision } from "../../../runtime/pipeline/recipe/precision.ts";
import { fastBf16 } from "../../../runtime/tensor/index.ts";

describe("the precision of a run", () => {
  const fast = { name: "image", fastBf16: true }, slow = { name: "text", fastBf16: false }, slower = { name: "fusion", fastBf16: false };

  it("is what the recipe says, on any machine", () => {
    for (const wanted of ["f32", "bf16"] as const) assert.deepEqual(choosePrecision(wanted, [fast, slow]), { precision: wanted });
  });

  it("auto is bf16 where every process has fast bf16, f32 where none has", () => {
    assert.deepEqual(choosePrecision("auto", [fast, { ...fast, name: "text" }]), { precision: "bf16" });
    assert.deepEqual(choosePrecision("auto", [slow, slower]), { precision: "f32" });
  });

  it("auto over different machines: the weakest decides, and is named", () => {
    const { precision, warning } = choosePrecision("auto", [slow, fast, slower]);
    assert.equal(precision, "f32");
    assert.match(warning!, /^train\.precision: auto chose f32: text, fusion run without fast bf16 \(avx512_bf16 or amx_bf16\)/);
    assert.match(choosePrecision("auto", [fast, slow]).warning!, /text runs without/);
  });

  it("fast bf16 is one of two instruction sets, and a library that uses it", () => {
    const fast = (isa: string[], gemm: boolean): boolean => fastBf16({ isa, gemm: { fastBf16: gemm } });
    assert.deepEqual([["avx512f", "avx512_bf16"], ["amx_bf16"], ["avx512f", "avx512bw"], []].map((isa) => fast(isa, true)), [true, true, false, false]);
    assert.equal(fast(["avx512_bf16", "amx_bf16"], false), false);
  });
});
