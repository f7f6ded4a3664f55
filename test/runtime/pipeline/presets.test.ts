/** Every number of the table of presets: parameters per block and in all, from the shapes that the plugins declare. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { builtins } from "../../../plugins/index.ts";
import { type PresetName, checkFile, createRegistry, formatRecipe, memory, parseRecipe, presetNames, presetOptions, presetReport, recipeReport, RecipeError } from "../../../runtime/index.ts";
import { root } from "../../process/octavo.ts";

const registry = createRegistry(builtins);
const blocks = ["vision", "text", "proj", "lff", "fusion", "prompt", "decoder", "heads", "total"] as const;

/**
 * Blocks as above; then the model of masked image pre-training (vision + second branch of 12d² + 14d per block + head of dK + K), and the visual
 * tokenizer without and with its codebook. The formulas of the blocks stand in `parameter-counts.test.ts` and `vision-counts.test.ts`.
 */
const counts: Record<PresetName, { blocks: readonly number[]; maskedImage: number; tokenizer: readonly [number, number] }> = {
  "tiny": { blocks: [410_928, 501_408, 18_624, 3_824, 484_992, 241_952, 828_416, 79_333, 2_569_477], maskedImage: 547_696, tokenizer: [222_288, 226_384] },
  "small": { blocks: [6_525_728, 7_999_744, 131_584, 12_960, 6_845_440, 2_983_168, 8_065_536, 799_493, 33_363_653], maskedImage: 8_632_096, tokenizer: [3_990_304, 4_055_840] },
  "base": { blocks: [85_705_008, 69_219_072, 1_181_184, 38_816, 42_529_536, 22_862_976, 57_223_680, 8_691_973, 287_452_245], maskedImage: 106_181_936, tokenizer: [28_213_792, 28_475_936] },
  // Llama-3-8B and Mistral-7B with 1040 more tokens, as encoder without head and as decoder with one of its own
  "paper-A": { blocks: [85_850_928, 7_509_184_512, 7_342_080, 43_296, 226_733_056, 22_961_536, 8_042_979_328, 72_552_725, 15_967_647_461], maskedImage: 106_327_856, tokenizer: [108_829_216, 109_091_360] },
  "paper-B": { blocks: [303_383_616, 7_114_919_936, 8_390_656, 43_296, 226_733_056, 22_961_536, 7_254_450_176, 72_456_469, 15_003_338_741], maskedImage: 336_974_912, tokenizer: [108_829_216, 109_091_360] },
};

describe("presets", () => {
  for (const name of presetNames) {
    it(`${name} has the parameters of its table, block by block, and allocates none`, () => {
      const before = memory(), report = presetReport(name, registry);
      const of = (component: string) => report.components.find((each) => each.name === component)!;
      const heads = ["mlm", "mim", "wpa", "answer"].reduce((sum, each) => sum + of(each).trainable, 0);
      const found = [of("image").trainable, of("text").trainable, of("fusion").parts.proj, of("position").trainable, of("fusion").parts.fusion, of("prompt").trainable, of("decoder").trainable, heads, report.trainable];
      assert.deepEqual(Object.fromEntries(blocks.map((block, i) => [block, found[i]])), Object.fromEntries(blocks.map((block, i) => [block, counts[name].blocks[i]])));
      const stage = (component: string) => report.stages!.find((each) => each.name === component)!;
      assert.equal(stage("masked-image").trainable + stage("masked-image-head").trainable, counts[name].maskedImage);
      const { codes, dim } = presetOptions(name)["visual-tokenizer/vq-kd"] as { codes: number; dim: number };
      assert.deepEqual([stage("codes").trainable, stage("codes").trainable + codes * dim], counts[name].tokenizer);
      assert.deepEqual(memory(), before);
    });

    it(`${name} fits together: what one component gives is as wide as what the next takes`, () => {
      const options = presetOptions(name) as Record<string, Record<string, number>>;
      const ports = (use: string) => registry.resolve(use).ports(registry.resolve(use).options.parse(use === "data-loader/shards" ? { ...options[use], shards: "x", tokenizer: "x", objective: "answer" } : options[use]));
      const same = (from: [string, string], to: [string, string]) => {
        const [given, taken] = [ports(from[0]).out[from[1]].dims, ports(to[0]).in[to[1]].dims];
        given.forEach((dim, i) => { if (typeof dim === "number" && typeof taken[i] === "number") assert.equal(dim, taken[i], `${from.join(".")} > ${to.join(".")}, dimension ${i}`); });
      };
      same(["data-loader/shards", "pixels"], ["image-encoder/beit", "pixels"]);
      for (const use of ["fusion/multiway", "fusion/co-attention", "fusion/concatenation"]) {
        same(["image-encoder/beit", "states"], [use, "image"]), same(["text-encoder/llama", "states"], [use, "text"]);
        same(["position/fourier", "image"], [use, "image_position"]), same(["position/fourier", "text"], [use, "text_position"]);
      }
      for (const use of ["decoder/llama", "objective/mlm", "objective/mim-codes", "objective/mim-teacher", "objective/wpa"]) same(["fusion/multiway", "memory"], [use, "memory"]);
      same(["text-encoder/llama", "embedding"], ["objective/mlm", "embedding"]);
      same(["prompt-encoder/bert", "embedding"], ["decoder/llama", "prompt"]);
      same(["decoder/llama", "hidden"], ["objective/answer", "hidden"]), same(["decoder/llama", "embedding"], ["objective/answer", "embedding"]);
      same(["teacher/stub-clip", "targets"], ["objective/mim-teacher", "targets"]);
    });
  }

  it("tiny is what the plugins are by default (PS-2)", () => {
    for (const [use, options] of Object.entries(presetOptions("tiny"))) {
      if (use === "data-loader/shards") continue; // has no defaults without pages
      const { options: schema } = registry.resolve(use), { head_dim: _, ...all } = schema.parse(options) as Record<string, unknown>;
      const { head_dim: __, ...defaults } = schema.parse({}) as Record<string, unknown>;
      assert.deepEqual(all, defaults, use);
    }
  });

  const recipe = (preset: string, more = "") => `preset: ${preset}\ncomponents:\n  text: { use: text-encoder/llama${more} }\n  mine: { use: text-encoder/mine }\n`;

  it("give a recipe's components their options; what the recipe says, in the file or by --set, wins (PS-1)", () => {
    const { components } = parseRecipe(recipe("small", ", options: { layers: 2 }"), "r.yaml", ["components.text.options.hidden=99"]);
    assert.deepEqual(components.text.options, { ...presetOptions("small")["text-encoder/llama"], layers: 2, hidden: 99 });
    assert.deepEqual(components.mine.options, {});
    assert.deepEqual(parseRecipe("components:\n  text: { use: text-encoder/llama }\n", "r.yaml").components.text.options, {});
  });

  it("stand in what a checkpoint keeps of its recipe", () => {
    const read = parseRecipe(recipe("base"), "r.yaml");
    assert.deepEqual(parseRecipe(formatRecipe(read), "copy.yaml").components, read.components);
  });

  it("are named when one is not known", () => {
    assert.throws(() => parseRecipe(recipe("smal"), "r.yaml"), (error: unknown) => error instanceof RecipeError && /preset: .*small/.test(error.message));
  });

  it("make the example recipe a small model by one line", async () => {
    const report = recipeReport(await checkFile(join(root, "examples/tiny.yaml"), registry, ["preset=small"]));
    const at = (name: string) => report.components.find((each) => each.name === name)!.trainable;
    assert.deepEqual([at("image"), at("fusion")], [6_525_728, 6_977_024]);
  });
});
