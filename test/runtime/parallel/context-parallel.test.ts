import assert from "node:assert/strict";
import { builtins } from "../../../plugins/index.ts";
import { createRegistry } from "../../../runtime/index.ts";
import { joinGroup, offerGroup } from "../../../runtime/parallel/groups/collectives.ts";
import { ringAttention } from "../../../runtime/parallel/sharing/context-parallel.ts";
import { checkFile } from "../../../runtime/pipeline/plan/check.ts";
import { type HostArray, zeros } from "../../../runtime/tensor/index.ts";
import { miniRecipe } from "../../process/octavo.ts";
import { noLeaks } from "../numbers.ts";
import { type AttentionCase, type EncoderCase, attentionOf, encoderOf, trained } from "./context-networks.ts";
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

describe("a context layout that cannot be", () => {
  const refused = (...changes: string[]): Promise<string> => checkFile(miniRecipe, createRegistry(builtins), ["components.text.layout={ context: 2 }", ...changes]).then(() => assert.fail("the layout was accepted"), (error: Error) => error.message);

  it("is refused by name: rules that speak of places in the whole text", async () => {
    for (const [option, ...changes] of [
      ["attention: s2", "components.text.options.attention=s2"], ["window", "components.text.options.attention=causal", "components.text.options.window=64"],
      ["attention_dropout", "components.text.options.attention_dropout=0.1"], ["lora.dropout", "components.text.options.lora={ dropout: 0.1 }"],
    ]) {
      assert.ok((await refused(...changes)).includes(`components.text.layout.context: expected 1, since text (text-encoder/llama) has ${option}: it speaks of places in the whole text, found 2`), option);
    }
  });

  it("does not forbid what fits", async () => {
    await checkFile(miniRecipe, createRegistry(builtins), ["components.text.layout={ context: 2 }"]);
  });

  it("attention itself refuses them too", async () => {
    const seat = offerGroup({ name: "context of text", rank: 0, size: 1, members: ["me"] }), group = await joinGroup(seat, [seat.offer]), x = zeros([1, 4, 8]);
    assert.throws(() => ringAttention({ q: x, k: x, v: x, heads: 2, causal: true, window: 2 }, group), { code: "ERR_PLAN", message: /attention: window speaks of places in the whole sequence, whose tokens are shared out over group context of text/ });
    x.dispose();
    group.close();
  });
});

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

      it("a text encoder that learns for 50 steps", async () => {
        for (const [dtype, late] of [["f64", 1e-9], ["f32", 1e-3]] as const) {
          const c = { options: {}, dtype, batch: 3, tokens: 11, steps: 50 };
          const wanted = await trained(undefined, c), [got] = await group.run<Awaited<ReturnType<typeof trained>>>("trained", c);
          assert.ok(wanted.losses[49] < wanted.losses[0], "it learns");
          wanted.losses.forEach((loss, step) => {
            const bound = (dtype === "f32" && step < 10 ? 1e-5 : late) * Math.max(1, Math.abs(loss));
            assert.ok(Math.abs(got.losses[step] - loss) <= bound, `${dtype}, loss of step ${step}: ${got.losses[step]}, expected ${loss}`);
          });
          if (dtype === "f64") assertNear(got.values, wanted.values, 1e-9);
        }
      });

      it("a text encoder whose blocks run again on the way back: the same bits", async () => {
        const c: EncoderCase = { options: {}, dtype: "f32", batch: 3, tokens: 12 };
        assert.deepEqual(await group.run("encoderOf", { ...c, recompute: true }), await group.run("encoderOf", c));
      });
    });
  }
});
