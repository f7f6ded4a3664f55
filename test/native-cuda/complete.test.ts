/**
 * Every kernel answers three questions: does it agree with its reference (a test here), is its gradient right (an op of runtime/ops uses it, and
 * every op has a row in test/runtime/ops/op-table.ts), how fast is it (a row in test/bench/kernels/rows.ts).
 */
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { native } from "../../runtime/native.ts";
import { everyRow, twinOf, withoutRow } from "../bench/kernels/rows.ts";

const textOf = (folder: string, ending: string): string =>
  readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(ending)).map((file) => readFileSync(join(folder, file), "utf8")).join("\n");

/** Is the kernel named, in full or, where a loop makes the endings, as `gelu` or "gelu"? */
function named(kernel: string, text: string): boolean {
  const stem = kernel.replace(/_(forward|backward|many)$/, "");
  return new RegExp(`\\b${kernel}\\b`).test(text) || (stem !== kernel && new RegExp(`["'\`]${stem}["'\`]|\\b${stem}:|\\["?${stem}\\b`).test(text));
}

/** They need other processes: test/runtime/parallel/collectives.test.ts holds them against the tree of sums, test/bench/runtime/collectives.ts times them. */
const collectives = ["all_gather", "all_reduce", "all_to_all", "barrier", "broadcast", "reduce", "reduce_scatter", "rotate"];
const computing = (): string[] => native().kernels().filter((kernel) => !collectives.includes(kernel));

describe("every kernel", () => {
  const missingIn = (text: string, kernels = computing()): string[] => kernels.filter((kernel) => !named(kernel, text));

  it("is held against its reference by a test of this folder", () => {
    const text = textOf("test/native-cuda", ".test.ts") + textOf("test/native-cuda", "-cases.ts");
    assert.deepEqual(missingIn(text), []);
    assert.equal(missingIn(text, [["no", "such", "kernel"].join("_")]).length, 1);
  });

  it("that computes a gradient belongs to an op", () => assert.deepEqual(missingIn(textOf("runtime/ops", ".ts"), native().kernels().map(twinOf).filter((kernel) => kernel.includes("_backward"))), []));

  it("has a row in the benchmark of kernels", () => {
    assert.deepEqual(withoutRow(computing(), everyRow(8, 8)), []);
  });
});
