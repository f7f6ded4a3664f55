/** What every loader of pages is told: where its shards are, and which tokenizer reads their words. */
import { z } from "zod";
import type { PluginHost, Tokenizer } from "../../runtime/index.ts";

/** Files; `*`, `?` and `{000..002}` are expanded. Relative to the recipe. */
export const filePatterns = z.union([z.string(), z.array(z.string()).nonempty()]).transform((value) => (typeof value === "string" ? [value] : value));

/** A `tokenizer.json`, or a tokenizer plugin. */
export const tokenizerOption = z.union([z.string(), z.strictObject({ use: z.string(), options: z.record(z.string(), z.unknown()).default({}) })]);

export const buildTokenizer = (option: z.output<typeof tokenizerOption>, host: PluginHost): Tokenizer => (typeof option === "string"
  ? host.build<Tokenizer>("tokenizer/byte-bpe", { file: option }, "tokenizer")
  : host.build<Tokenizer>(option.use, option.options, "tokenizer"));
