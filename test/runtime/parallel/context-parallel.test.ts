import assert from "node:assert/strict";
import type { HostArray } from "../../../runtime/tensor/index.ts";
import { noLeaks } from "../numbers.ts";
import { type AttentionCase, type EncoderCase, attentionOf, encoderOf } from "./context-networks.ts";
import { type GroupProcesses, startGroup } from "./group-processes.ts";

const module = new URL("./context-networks.ts", import.meta.url);
type Found = Record<string, HostArray>;
const norm = (values: HostArray): number => Math.sqrt(Array.from(values as Float64Array).reduce((total, x) => total + x * x, 0));

/** Per tensor, the norm of the difference against its norm, with a floor of 1e-6 of the norm of all. */
function assertNear(got: Found, wanted: Found, tolerance: number): void {
  assert.deepEqual(Object.keys(got).sort(), Object.keys(wanted).sort());
  const floor = 1e-6 * norm(Float64Array.from(Object.values(wanted).map(norm)));
  for (const [name, values] of Object.entries(wanted)) {
    assert.equal(got[name].length, values.length, name);
    const difference = norm(Float64Array.from(values as Float64Array, (x, i) => x - Number(got[name][i])));
    assert.ok(difference <= tolerance * Math.max(norm(values), floor), `${name}: differs by ${difference}, its norm is ${norm(values)}`);
  }
}

/** Parts (B, n, W) of all members side by side: (B, N, W). */
function joined(parts: HostArray[], batch: number): Float64Array {
  const rows = parts[0].length / batch;
  return Float64Array.from({ length: parts.length * parts[0].length }, (_, i) => Number(parts[Math.floor((i % (rows * parts.length)) / rows)][Math.floor(i / (rows * parts.length)) * rows + (i % rows)]));
}

describe("context parallelism", function () {
  this.timeout(120_000);
  noLeaks();

  for (const size of [2, 3]) {
    describe(`over ${size} processes`, () => {
      let group: GroupProcesses;
      before(async () => { group = await startGroup({ size, module, name: "context" }); });
      after(() => group?.end());

      const tolerances = { f64: 1e-13, f32: 2e-6, bf16: 2e-2 } as const;
      for (const dtype of ["f64", "f32", "bf16"] as const) {
        for (const [causal, masked] of [[false, false], [true, false], [false, true], [true, true]]) {
          it(`CP-1: ring attention in ${dtype}${causal ? ", causal" : ""}${masked ? ", with hidden keys" : ""} is attention over the whole sequence`, async () => {
            const c: AttentionCase = { batch: 2, tokens: 30, heads: 4, kvHeads: 2, width: 24, causal, masked, dtype };
            const wanted = await attentionOf(undefined, c), parts = await group.run<Found>("attentionOf", c);
            assertNear(Object.fromEntries(Object.keys(wanted).map((name) => [name, joined(parts.map((part) => part[name]), c.batch)])), wanted, tolerances[dtype]);
          });
        }
      }

      const encoders: [string, Record<string, unknown>, number][] = [
        ["bidirectional", {}, 12], ["causal", { attention: "causal" }, 12], ["whose tokens the members do not divide", {}, 11],
        ["with adapters and pooling", { lora: { r: 3, alpha: 6, dropout: 0, targets: ["q_proj", "down_proj"], train: ["embed", "norm"] }, pooling: "mean" }, 13],
      ];
      for (const [what, options, tokens] of encoders) {
        it(`a text encoder ${what}: states and gradients`, async () => {
          for (const [dtype, tolerance] of [["f64", 1e-12], ["f32", 1e-5]] as const) {
            const c: EncoderCase = { options, dtype, batch: 3, tokens };
            const wanted = await encoderOf(undefined, c), [first, ...others] = await group.run<Found>("encoderOf", c);
            assertNear(first, wanted, tolerance);
            for (const other of others) assert.deepEqual(other, first, "all members have the same bits");
          }
        });
      }

      it("a text encoder whose blocks run again on the way back: the same bits", async () => {
        const c: EncoderCase = { options: {}, dtype: "f32", batch: 3, tokens: 12 };
        assert.deepEqual(await group.run("encoderOf", { ...c, recompute: true }), await group.run("encoderOf", c));
      });
    });
  }
});
