/** Operations and kept numbers as `costs.ts` counts them, against what the engine did and holds. */
import assert from "node:assert/strict";
import { builtins } from "../../../plugins/index.ts";
import { createRegistry, fence, fromArray, full, materialise, memory, native, presetOptions, release, Scope, type ForwardContext, type TensorComponent } from "../../../runtime/index.ts";
import { forwardPass } from "../../../runtime/pipeline/run/component-pass.ts";
import { costOf, type PageSizes } from "../../../runtime/pipeline/plan/costs.ts";
import { presetReport } from "../../../runtime/pipeline/plan/model-report.ts";

const registry = createRegistry(builtins);
const sizes = { T: 100, M: 165, Q: 20, A: 30, Nm: 30, Np: 26, Na: 25 } satisfies PageSizes;
const elements = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** Per page of one forward over pages of ones. `flops`: of the products that ran; a causal attention sees half of the pairs. */
async function measured(use: string, options: Record<string, unknown>, absent: readonly string[], pages = 1): Promise<{ flops: number; kept: number }> {
  const plugin = registry.resolve(use), o = plugin.options.parse(options), { in: ports } = plugin.ports(o);
  const component = plugin.create(o, { seed: 1, resolvePath: (path) => path, build: () => { throw new Error("builds nothing"); } }) as TensorComponent;
  materialise(component.parameters(), { seed: 1, prefix: "" });
  const scope = new Scope("measured"), dims: Record<string, number> = { ...sizes, Nm: sizes.Nm * pages, Np: sizes.Np * pages, Na: sizes.Na * pages, B: pages, K: 2 };
  const inputs = scope.enter(() => Object.fromEntries(Object.entries(ports).filter(([name]) => !absent.includes(name)).map(([name, { dims: of, dtype }]) => {
    const shape = of.map((dim) => (typeof dim === "number" ? dim : dims[dim]));
    return [name, dtype === "i32" ? fromArray(new Int32Array(elements(shape)), shape) : dtype === "u8" ? fromArray(new Uint8Array(elements(shape)).fill(1), shape) : full(shape, 0.1)];
  })));
  const wants = new Set(Object.keys(inputs).filter((name) => ports[name].gradient !== false && inputs[name].dtype === "f32"));
  await fence();
  const before = memory().bytesInUse;
  native().timings(true);
  const context: ForwardContext = { training: true, step: 0, seed: 1, counts: { mlm_tokens: 10, mim_patches: 10, wpa_tokens: 10, answer_text_tokens: 10, answer_loc_tokens: 10, boxes: 2, lm_tokens: 99, mntp_tokens: 10, pages, sentences: pages }, sampleIds: Array.from({ length: pages }, (_, page) => page), precision: "f32" };
  scope.enter(() => forwardPass(component, inputs, wants, context));
  await fence();
  const flops = native().timings(false).reduce((sum, { kernel, operands, calls }) => {
    const [a, b, c] = [...operands.matchAll(/\(([\d, ]*)\)/g)].map(([, list]) => list.split(",").map(Number));
    if (kernel === "matmul") return sum + calls * 2 * elements(c) * a[a.length - 1]; // none here transposes its first operand
    if (kernel === "info_nce_forward") return sum + calls * 2 * elements(a) * b[0];
    return sum + calls * (kernel === "linear_forward" ? 2 * elements(a) * b[0] : kernel === "attention_forward" ? (use === "decoder/llama" || (use === "teacher/mini-clip" && a[1] === sizes.T) ? 2 : 4) * elements(a) * b[b.length - 2] : 0);
  }, 0);
  const kept = (memory().bytesInUse - before) / 4;
  scope.close();
  release(component.parameters());
  return { flops: flops / pages, kept: kept / pages };
}

describe("what a component costs", () => {
  const wider = { layers: 2, width: 192 };
  const cases: [use: string, options: Record<string, unknown>, absent: string[], pages?: number][] = [
    ["image-encoder/beit", {}, ["patch_mask"]], ["image-encoder/beit", { ...wider, heads: 6, image: 256 }, ["patch_mask"]],
    ["text-encoder/llama", {}, []], ["text-encoder/llama", { ...wider, heads: 8, kv_heads: 4, hidden: 300 }, []],
    ["position/fourier", {}, []], ["position/fourier", { width: 192, features: 128, hidden: 64 }, []],
    ["fusion/multiway", {}, []], ["fusion/multiway", { ...wider, vision_language_layers: 0 }, []], ["fusion/concatenation", {}, []], ["fusion/co-attention", {}, []], ["fusion/co-attention", { ...wider, heads: 6 }, []],
    ["prompt-encoder/bert", {}, Object.entries(registry.resolve("prompt-encoder/bert").ports(registry.resolve("prompt-encoder/bert").options.parse({})).in).flatMap(([name, { optional }]) => (optional ? [name] : []))],
    ["decoder/llama", {}, ["prompt"]], ["decoder/llama", { width: 64, layers: 1 }, ["prompt"]],
    ["objective/mlm", {}, ["labels"]], ["objective/mim-codes", {}, ["cls_pt_states"]], ["objective/wpa", {}, []], ["objective/answer", {}, ["labels"]],
    ["teacher/stub-clip", {}, []], ["teacher/mini-clip", {}, []], ["teacher/mini-clip", { width: 128, text: { width: 128, layers: 3 } }, []], ["teacher/mini-clip", { train: false }, []],
    ["visual-tokenizer/vq-kd", {}, []], ["visual-tokenizer/vq-kd", { train: true, kmeans_rounds: 0 }, []], ["objective/vq-kd", {}, []], ["objective/vq-kd", { dim: 32, targets: 128 }, []],
    ["objective/causal-lm", {}, []], ["objective/causal-lm", { width: 192, vocabulary: 1000 }, []], ["objective/mntp", {}, ["labels"]], ["objective/mntp", { width: 192, vocabulary: 1000 }, ["labels"]],
    ["objective/contrastive", {}, [], 16], ["objective/contrastive", { width: 128 }, [], 8], ["objective/contrastive", { source: "memory", width: 96 }, [], 8],
    ["objective/simcse", {}, [], 16], ["objective/simcse", { width: 192 }, [], 8],
  ];
  for (const [use, options, absent, pages = 1] of cases) {
    it(`${use} ${JSON.stringify(options)}: operations to 3 %, kept numbers to 15 %`, async () => {
      const { flops, kept } = await measured(use, options, absent, pages), cost = costOf(use, registry.resolve(use).options.parse(options), { ...sizes, B: pages })!;
      const heads = use === "objective/mlm" || use === "objective/answer" || use === "objective/mim-codes"; // their last product is part of the loss
      if (!heads) assert.ok(Math.abs(flops - cost.flops) <= 0.03 * cost.flops, `${cost.flops} operations counted, ${flops} done`);
      assert.ok(Math.abs(kept / cost.kept - 1) < 0.15, `${cost.kept} numbers counted, ${kept} held`);
    });
  }

  it("of a decoder with a window counts the pairs it sees, no more than all", () => {
    const of = (window?: number) => costOf("decoder/llama", registry.resolve("decoder/llama").options.parse({ window }), sizes)!.flops, n = sizes.M + sizes.A;
    let pairs = 0;
    for (let i = 0; i < n; i++) pairs += Math.min(20, i + 1);
    // 3 layers, 4 heads of 32, 4 operations per pair; n²/2 is half a row more than n (n + 1) / 2
    assert.ok(Math.abs((of() - of(20)) / (3 * 4 * 32 * 4 * (n * n / 2 - pairs)) - 1) < 0.01);
    assert.equal(of(10_000), of());
  });

  it("is not known where a size is not, or the plugin is not ours", () => {
    assert.equal(costOf("text-encoder/llama", presetOptions("tiny")["text-encoder/llama"], {}), undefined);
    assert.equal(costOf("text-encoder/mine", {}, sizes), undefined);
  });

  it("of the tiny model is about 0.63 GFLOP per page forward without attention", () => {
    // 64 patches, 128 text, 96 answer tokens; heads of pre-training and attention left out
    const { components } = presetReport("tiny", registry);
    const forward = components.filter(({ name }) => !["mlm", "mim", "wpa"].includes(name)).reduce((sum, { forwardFlops }) => sum + forwardFlops!, 0);
    const attention = 3 * 4 * 65 ** 2 * 96 + 3 * 4 * 128 ** 2 * 96 + 3 * 4 * 193 ** 2 * 96 + 3 * 2 * 289 ** 2 * 128;
    assert.ok(Math.abs((forward - attention) / 0.63e9 - 1) < 0.05, `${(forward - attention) / 1e9} GFLOP`);
  });
});
