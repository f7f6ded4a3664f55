import assert from "node:assert/strict";
import { z } from "zod";
import { checkOptions, definePlugin, formatProblem } from "../../../runtime/plugin/index.ts";
import type { Plugin } from "../../../runtime/plugin/index.ts";

const locate = (path: readonly (string | number)[], part?: string): { file: string; line: number; column: number } =>
  ({ file: "r.yaml", line: path.length, column: part === "key" ? 1 : 5 });

function plugin(options: z.ZodType): Plugin {
  return definePlugin({ kind: "task", name: "asking", version: "1.0.0", options, create: () => ({ questions: () => [] }) });
}

/** The messages for options of a schema, at the path components.x.options (line 3). */
function messages(schema: z.ZodType, options: unknown): string[] {
  return checkOptions(plugin(schema), options, ["components", "x", "options"], locate).problems.map(formatProblem);
}

const where = "components.x.options";

describe("options of a plugin", () => {
  it("are filled with defaults, also when none are given", () => {
    const schema = z.strictObject({ width: z.int().default(8), names: z.array(z.string()).default(["a"]) });
    assert.deepEqual(checkOptions(plugin(schema), undefined, [], locate), { value: { width: 8, names: ["a"] }, problems: [] });
  });

  it("refuse an unknown key at the place of the key, with the nearest known one", () => {
    assert.deepEqual(messages(z.strictObject({ width: z.int().default(8), heads: z.int().default(2) }), { widht: 3 }),
      [`r.yaml:4:1: ${where}.widht: expected an option of task/asking, found "widht". Did you mean "width"?`]);
  });

  it("list what is known when nothing is near", () => {
    assert.deepEqual(messages(z.strictObject({ width: z.int().default(8), heads: z.int().default(2) }), { colour: 3 }),
      [`r.yaml:4:1: ${where}.colour: expected an option of task/asking, found "colour". Known: width, heads.`]);
    assert.deepEqual(messages(z.strictObject({}), { colour: 3 }),
      [`r.yaml:4:1: ${where}.colour: expected no options: task/asking takes none, found "colour". Remove it.`]);
  });

  it("refuse an unknown key inside an option against the keys there", () => {
    assert.deepEqual(messages(z.strictObject({ lora: z.strictObject({ rank: z.int().default(4) }).prefault({}) }), { lora: { rnak: 3 } }),
      [`r.yaml:5:1: ${where}.lora.rnak: expected an option of lora, found "rnak". Did you mean "rank"?`]);
  });

  it("say what was expected, bounds included, and what was found", () => {
    const schema = z.strictObject({
      width: z.int().min(1).multipleOf(4), rate: z.number().gt(0).lt(1), flag: z.boolean(), names: z.array(z.string()).min(2),
      either: z.union([z.literal("auto"), z.int()]), pair: z.tuple([z.number(), z.number()]),
    });
    assert.deepEqual(messages(schema, { width: 2.5, rate: 3, flag: "yes", names: ["a"], either: [1], pair: 3 }), [
      `r.yaml:4:5: ${where}.width: expected an integer, at least 1 and divisible by 4, found 2.5.`,
      `r.yaml:4:5: ${where}.rate: expected a number, more than 0 and less than 1, found 3.`,
      `r.yaml:4:5: ${where}.flag: expected true or false, found "yes".`,
      `r.yaml:4:5: ${where}.names: expected a list of at least 2 entries, found a list of 1.`,
      `r.yaml:4:5: ${where}.either: expected "auto" or an integer, found a list of 1.`,
      `r.yaml:4:5: ${where}.pair: expected a list of 2 entries, found 3.`,
    ]);
  });

  it("know the usual slips: quotes, a misspelt choice, a lone entry", () => {
    const schema = z.strictObject({ width: z.int(), name: z.string(), kind: z.enum(["silu", "gelu"]), files: z.array(z.string()) });
    assert.deepEqual(messages(schema, { width: "96", name: 12, kind: "gleu", files: "a.tar" }), [
      `r.yaml:4:5: ${where}.width: expected an integer, found "96". Write 96 without quotes.`,
      `r.yaml:4:5: ${where}.name: expected a text, found 12. Put it in quotes: "12".`,
      `r.yaml:4:5: ${where}.kind: expected "silu" or "gelu", found "gleu". Did you mean "gelu"?`,
      `r.yaml:4:5: ${where}.files: expected a list, found "a.tar". Write [a.tar] for a list of one.`,
    ]);
  });

  it("ask for what is missing", () => {
    assert.deepEqual(messages(z.strictObject({ shards: z.string() }), {}),
      [`r.yaml:4:5: ${where}.shards: expected a text, found nothing. Add "shards" under ${where}.`]);
  });

  it("repeat a schema's own words for rules between options", () => {
    const schema = z.strictObject({ width: z.int(), heads: z.int() }).refine((o) => o.width % o.heads === 0, { message: "heads divide width", path: ["heads"] });
    assert.deepEqual(messages(schema, { width: 8, heads: 3 }), [`r.yaml:4:5: ${where}.heads: expected that heads divide width, found 3.`]);
  });
});
