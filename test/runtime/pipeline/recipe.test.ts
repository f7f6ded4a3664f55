import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RecipeError, formatProblem } from "../../../runtime/plugin/index.ts";
import { formatRecipe, loadRecipe, parseRecipe, readRecipe } from "../../../runtime/pipeline/recipe/recipe.ts";
import { placeOf } from "../../../runtime/pipeline/recipe/source.ts";
import { edited, recipeText } from "./small-world.ts";

const problems = (text: string, overrides: string[] = []): string[] => readRecipe(text, "r.yaml", overrides).problems.map(formatProblem);

describe("a recipe", () => {
  it("is filled with defaults", () => {
    const { train, seed, trackers, stages, name, layout } = parseRecipe("components: {}", "some/place/first-try.yaml");
    assert.deepEqual({ train, seed, trackers, stages, name, layout }, {
      layout: { data: 1, tensor: 1, context: 1 }, name: "first-try", seed: 1, trackers: [], stages: undefined,
      train: { steps: 50, batch: 16, microbatches: 4, schedule: "1f1b", clip: 1, threads: "auto", precision: "f32", compile: "auto", zero: 0, recompute: "none", sequence_parallel: false, optimizer: { use: "optimizer/adamw", options: {} }, checkpoint: { keep: 2 } },
    });
  });

  it("knows the precisions, and guesses which one is meant", () => {
    const chosen = (value: string) => parseRecipe(`components: {}\ntrain: { precision: ${value} }`, "r.yaml").train.precision;
    assert.deepEqual(["f32", "bf16", "auto"].map(chosen), ["f32", "bf16", "auto"]);
    assert.deepEqual(problems("components: {}\ntrain:\n  precision: fb16"), [`r.yaml:3:14: train.precision: expected "f32", "bf16" or "auto", found "fb16". Did you mean "bf16"?`]);
    assert.deepEqual(problems("components: {}\ntrain:\n  precission: bf16"), [`r.yaml:3:3: train.precission: expected a key of train, found "precission". Did you mean "precision"?`]);
    assert.deepEqual(problems("precision: bf16\ncomponents: {}"), [`r.yaml:1:1: precision: expected a key of a recipe, found "precision". Write it under train.`]);
  });

  it("has layouts of its own and of components, each whole by itself, and keeps them when written", () => {
    const recipe = parseRecipe("layout: { data: 2 }\ncomponents:\n  text: { use: a/b, layout: { tensor: 2 } }\ntrain: { zero: 2, ranks: 3, recompute: block }", "r.yaml");
    assert.deepEqual(recipe.components.text.layout, { data: 1, tensor: 2, context: 1 });
    const { layout, components, train: { zero, ranks, recompute } } = parseRecipe(formatRecipe(recipe), "again.yaml");
    assert.deepEqual([layout, components.text.layout, zero, ranks, recompute], [{ data: 2, tensor: 1, context: 1 }, { data: 1, tensor: 2, context: 1 }, 2, 3, "block"]);
    assert.deepEqual(problems("components: {}\nlayout: { dta: 2, tensor: 0 }\ntrain: { zero: 4, recompute: blok }"), [
      `r.yaml:2:27: layout.tensor: expected an integer, at least 1, found 0.`,
      `r.yaml:2:11: layout.dta: expected a key of layout, found "dta". Did you mean "data"?`,
      `r.yaml:3:16: train.zero: expected an integer, at least 0 and at most 3, found 4.`,
      `r.yaml:3:30: train.recompute: expected "none" or "block", found "blok". Did you mean "block"?`,
    ]);
  });

  it("knows where every key and value is written", () => {
    const { source } = parseRecipe(recipeText, "r.yaml");
    assert.deepEqual(placeOf(source, ["components", "fusion", "in", "text"]), { file: "r.yaml", line: 16, column: 13 });
    assert.deepEqual(placeOf(source, ["components", "fusion", "in", "text"], "key"), { file: "r.yaml", line: 16, column: 7 });
    assert.deepEqual(placeOf(source, ["stages", "image", 1]), { file: "r.yaml", line: 23, column: 18 });
    assert.deepEqual(placeOf(source, ["components", "text", "options", "width"]), { file: "r.yaml", line: 7, column: 3 }, "what is not written is missing under the nearest key");
  });

  it("refuses unknown keys, wrong types and missing keys, all at once", () => {
    const text = "name: small\nsed: 3\ncomponents:\n  text: { in: { a: 3 } }\ntrain:\n  steps: many\n  stepz: 3\n";
    assert.deepEqual(problems(text), [
      `r.yaml:4:3: components.text.use: expected a text, found nothing. Add "use" under components.text.`,
      `r.yaml:4:20: components.text.in.a: expected a text, found 3. Put it in quotes: "3".`,
      `r.yaml:6:10: train.steps: expected an integer, at least 0, found "many".`,
      `r.yaml:7:3: train.stepz: expected a key of train, found "stepz". Did you mean "steps"?`,
      `r.yaml:2:1: sed: expected a key of a recipe, found "sed". Did you mean "seed"?`,
    ]);
    assert.throws(() => parseRecipe(text, "r.yaml"), (error: RecipeError) => error.code === "ERR_RECIPE" && error.problems.length === 5 && error.message.startsWith("r.yaml has 5 problems:\nr.yaml:2:1: sed: "));
  });

  it("still reads what is right in a recipe with mistakes, so that it can be checked too", () => {
    const { recipe } = readRecipe("components:\n  text: { options: { a: 1 } }\n  image: { use: b/c }\ntrain: { steps: many, batch: 8 }", "r.yaml");
    assert.equal(recipe?.train.batch, 8);
    assert.deepEqual(Object.keys(recipe!.components), ["text", "image"]);
  });

  it("names both lines of a repeated key, and keeps the first", () => {
    const text = edited("  text:\n    use", "  image:\n    use").replace("steps: 3\n", "steps: 3\n  steps: 4\n");
    const { recipe, problems: found } = readRecipe(text, "r.yaml");
    assert.deepEqual(found.map(formatProblem), [
      `r.yaml:7:3: components.image: expected one component of this name, found "image" here and at line 4. Rename or remove one of them.`,
      `r.yaml:28:3: train.steps: expected one key of this name, found "steps" here and at line 27. Rename or remove one of them.`,
    ]);
    assert.equal(recipe?.components.image.use, "image-encoder/patches");
    assert.equal(recipe?.train.steps, 3);
  });

  it("says where YAML ends to be YAML", () => {
    assert.deepEqual(problems("name: x\ntrain:\n\tsteps: 3\n"), ["r.yaml:3:1: expected YAML, found that tabs are not allowed as indentation. Indent with spaces."]);
    assert.match(problems("name: \"x\ncomponents: {}\n")[0], /^r\.yaml:\d+:\d+: expected YAML, found that missing closing "quote\. Close the quote, bracket or brace\.$/);
    for (const empty of ["", "# nothing\n", "- a\n", "12"]) assert.match(problems(empty)[0], /^r\.yaml:1:1: expected a recipe: a map with name, seed, .*Start from examples\/tiny\.yaml\.$/);
  });

  it("survives aliases that contain themselves or grow without end", () => {
    assert.match(problems("components: &a\n  b: *a\n")[0], /^r\.yaml:1:1: expected aliases that can be written out, found that /);
    const lines = Array.from({ length: 9 }, (_, i) => `l${i}: &l${i} [${i === 0 ? "1" : Array(9).fill(`*l${i - 1}`).join(", ")}]`);
    assert.match(problems(lines.join("\n"))[0], /^r\.yaml:1:1: expected aliases that can be written out, found that excessive alias count/);
  });

  it("says so when the file is not there", () => {
    assert.throws(() => loadRecipe("/nowhere/at/all.yaml"), (error: RecipeError) => error.code === "ERR_RECIPE" && error.message === "/nowhere/at/all.yaml: expected a readable recipe, found no such file. Check the path.");
  });

  it("starts relative paths at its own folder, or at base", () => {
    const folder = mkdtempSync(join(tmpdir(), "octavo-recipe-"));
    try {
      writeFileSync(join(folder, "a.yaml"), "components: {}\n");
      writeFileSync(join(folder, "b.yaml"), "base: data\ncomponents: {}\n");
      assert.equal(loadRecipe(join(folder, "a.yaml")).folder, folder);
      assert.equal(loadRecipe(join(folder, "b.yaml")).folder, join(folder, "data"));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("written out and read again from elsewhere is the same recipe", () => {
    const recipe = parseRecipe(recipeText, "/one/place/small.yaml", ["train.steps=7", "components.place=null"]);
    const { file: _f, source: _s, overrides: _o, ...again } = parseRecipe(formatRecipe(recipe), "/other/place/recipe.yaml");
    const { file: _file, source: _source, overrides: _overrides, ...first } = recipe;
    delete first.components.fusion.in.text_position; // what fed it was removed: the written recipe leaves the input open
    assert.deepEqual(again, first);
  });
});

describe("an override", () => {
  const recipe = (...overrides: string[]): ReturnType<typeof parseRecipe> => parseRecipe(recipeText, "r.yaml", overrides);

  it("replaces a value, read as YAML", () => {
    const { train, components, name } = recipe("train.steps=7", "train.clip=1e-2", "name=other", "components.text.options.betas=[1, 2]", "train.optimizer.options.lr=0.1");
    assert.equal(train.steps, 7);
    assert.equal(train.clip, 0.01);
    assert.equal(name, "other");
    assert.deepEqual(components.text.options, { betas: [1, 2] });
    assert.deepEqual(train.optimizer, { use: "optimizer/adamw", options: { lr: 0.1 } });
  });

  it("adds a whole component or stage, and sets one entry of a list", () => {
    const { components, stages } = recipe("components.gate={ use: fusion/join }", "stages.gate=[gate]", "stages.image.1=text");
    assert.equal(components.gate.use, "fusion/join");
    assert.deepEqual([stages?.gate, stages?.image], [["gate"], ["image", "text"]]);
  });

  it("with null removes: a component leaves its stage, a setting returns to its default", () => {
    const { components, stages, train, source } = recipe("components.place=null", "components.text=null", "train.steps=null");
    assert.deepEqual([components.place, components.text, train.steps], [undefined, undefined, 50]);
    assert.deepEqual(stages, { pages: ["pages"], image: ["image", "teacher"], fusion: ["fusion", "mlm", "mim"] });
    assert.deepEqual(Object.keys(source.removed), ["place", "text"]);
  });

  it("is the place of a mistake it brings", () => {
    assert.deepEqual(problems(recipeText, ["train.steps=many"]), [`--set train.steps=many: train.steps: expected an integer, at least 0, found "many".`]);
  });

  it("is refused with the nearest spelling when its path leads nowhere", () => {
    assert.deepEqual(problems(recipeText, ["train.stepz=3", "trian.steps=3", "components.txt.options.width=3", "components.txt=null", "components.gate=3", "train.steps.first=3", "stages.image.7=text", "components.fusion.in.image_position=null"]), [
      `--set train.stepz=3: train.stepz: expected a key of train, found "stepz". Did you mean "steps"?`,
      `--set trian.steps=3: trian.steps: expected a key of the recipe, found "trian". Did you mean "train"?`,
      `--set components.txt.options.width=3: components.txt.options.width: expected a component of the recipe, found "txt". Did you mean "text"?`,
      `--set components.txt=null: components.txt: expected a component of the recipe, found "txt". Did you mean "text"?`,
      `--set components.gate=3: components.gate: expected a component of the recipe, found "gate". Known: pages, image, text, teacher, place, fusion, mlm, mim.`,
      `--set train.steps.first=3: train.steps.first: expected a map at train.steps, found 3. Set train.steps itself.`,
      `--set stages.image.7=text: stages.image.7: expected an index of stages.image, 0 to 1, found "7".`,
      `--set components.fusion.in.image_position=null: components.fusion.in.image_position: expected a key of components.fusion.in, found "image_position". Did you mean "text_position"?`,
    ]);
  });

  it("cannot reach the prototype of objects", () => {
    assert.match(problems(recipeText, ["components.text.options.__proto__.width=9"])[0], /expected a name, found "__proto__"/);
    parseRecipe(recipeText, "r.yaml", ["components.text.options.constructor.width=9"]);
    assert.deepEqual([({} as { width?: number }).width, (Object as { width?: number }).width], [undefined, undefined]);
  });

  it("is refused when it is no assignment or its value no YAML", () => {
    assert.deepEqual(problems(recipeText, ["train.steps", 'name="x']), [
      `--set train.steps: expected path=value, found "train.steps". Write for example --set train.steps=100.`,
      `--set name="x: name: expected a YAML value after =, found that missing closing "quote. Quote it.`,
    ]);
  });
});
