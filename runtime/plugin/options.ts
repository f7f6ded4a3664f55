/**
 * Options are checked by a plugin's zod schema; what zod finds becomes recipe problems with a place and the nearest known spelling.
 * The recipe itself is checked the same way (`problemsOf`).
 */
import type { z } from "zod";
import { nearest } from "../errors.ts";
import type { Plugin } from "./define.ts";
import type { Locate, Path, RecipeProblem } from "./problem.ts";
import { alternatives, describeValue, problem } from "./problem.ts";

export type Checked<T> = { value: T; problems: [] } | { value: undefined; problems: RecipeProblem[] };

/** Options accepted and filled with defaults, or everything that is wrong with them. `at` is the path of the options in the recipe. */
export function checkOptions(plugin: Plugin, options: unknown, at: Path, locate: Locate): Checked<unknown> {
  const given = options ?? {};
  const parsed = plugin.options.safeParse(given);
  if (parsed.success) return { value: parsed.data, problems: [] };
  return { value: undefined, problems: problemsOf(parsed.error, { schema: plugin.options, value: given, at, locate, owner: plugin.id, noun: "option" }) };
}

interface Context { schema: z.ZodType; value: unknown; at: Path; locate: Locate; /** whose keys they are */ owner: string; noun: string }

/** Everything a failed parse says, as problems; unknown keys one problem each. */
export function problemsOf(error: z.ZodError, context: Context): RecipeProblem[] {
  return error.issues.flatMap((issue) => fromIssue(issue, context));
}

type Issue = z.core.$ZodIssue;

function fromIssue(issue: Issue, context: Context): RecipeProblem[] {
  const inside = issue.path as (string | number)[];
  const path = [...context.at, ...inside];
  const value = valueAt(context.value, inside);
  if (issue.code === "unrecognized_keys") return issue.keys.map((key) => unknownKey(key, inside, context));
  if (issue.code === "invalid_key") {
    const reason = issue.issues[0]?.message ?? "is not allowed";
    return [problem(context.locate(path, "key"), path, { expected: `a name that fits: ${reason}`, found: describeValue(inside.at(-1)), fix: "Rename it." })];
  }
  if (value === undefined && isMissing(issue)) return [missingKey(issue, inside, context)];
  // `custom` issues of a schema's own refinement speak for themselves: "heads must divide width"
  if (issue.code === "custom") return [problem(context.locate(path), path, { expected: `that ${issue.message}`, found: describeValue(value), fix: "" })];
  const schema = schemaAt(context.schema, inside);
  return [problem(context.locate(path), path, { expected: expectedBy(issue, schema), found: describeValue(value), fix: fixFor(issue, schema, value) })];
}

function unknownKey(key: string, inside: (string | number)[], { schema, at, locate, owner, noun }: Context): RecipeProblem {
  const known = keysOf(schemaAt(schema, inside));
  const path = [...at, ...inside, key];
  const guess = nearest(key, known);
  const home = known.find((name) => keysOf(schemaAt(schema, [...inside, name])).includes(key));
  const whose = inside.length === 0 ? owner : inside.join(".");
  return problem(locate(path, "key"), path, {
    expected: known.length === 0 ? `no ${noun}s: ${whose} takes none` : `${article(noun)} of ${whose}`,
    found: JSON.stringify(key),
    fix: home !== undefined ? `Write it under ${[...inside, home].join(".")}.` : guess !== undefined ? `Did you mean "${guess}"?` : known.length === 0 ? "Remove it." : `Known: ${known.join(", ")}.`,
  });
}

function missingKey(issue: Issue, inside: (string | number)[], { schema, at, locate }: Context): RecipeProblem {
  const path = [...at, ...inside];
  return problem(locate(path), path, {
    expected: expectedBy(issue, schemaAt(schema, inside)),
    found: "nothing",
    fix: `Add ${JSON.stringify(inside.at(-1) ?? "")} under ${path.slice(0, -1).join(".") || "the top of the recipe"}.`,
  });
}

const isMissing = (issue: Issue): boolean => ["invalid_type", "invalid_value", "invalid_union"].includes(issue.code);

// ------------------------------------------------------------------------------------------------------ words for expectations

function expectedBy(issue: Issue, schema: z.ZodType | undefined): string {
  switch (issue.code) {
    case "invalid_value": return alternatives(issue.values.map((v) => describeValue(v)));
    case "invalid_union": return (schema && describeSchema(schema)) || "another value";
    case "too_small":
    case "too_big":
      if (issue.origin === "array" || issue.origin === "string" || issue.origin === "map" || issue.origin === "set") {
        const unit = issue.origin === "string" ? "characters" : "entries";
        const bound = issue.code === "too_small" ? issue.minimum : issue.maximum;
        return `${issue.origin === "string" ? "a text" : "a list"} of ${issue.exact ? "exactly" : issue.code === "too_small" ? "at least" : "at most"} ${bound} ${unit}`;
      }
      return (schema && describeSchema(schema)) || issue.message;
    case "invalid_type":
    case "not_multiple_of": return (schema && describeSchema(schema)) || issue.message;
    default: return `a value for which holds: ${issue.message}`;
  }
}

function fixFor(issue: Issue, schema: z.ZodType | undefined, value: unknown): string {
  const words = literalsOf(schema);
  if (typeof value === "string" && words.length > 0) {
    const guess = nearest(value, words);
    if (guess !== undefined) return `Did you mean "${guess}"?`;
  }
  if (issue.code !== "invalid_type") return "";
  const wanted = schema && unwrap(schema).def.type;
  if (typeof value === "string" && wanted === "number" && value.trim() !== "" && Number.isFinite(Number(value))) return `Write ${value} without quotes.`;
  if (typeof value === "string" && wanted === "array") return `Write [${value}] for a list of one.`;
  if (typeof value === "number" && wanted === "string") return `Put it in quotes: "${value}".`;
  return "";
}

/** `an integer of at least 1`, `"auto" or an integer`, `a list of numbers`. */
function describeSchema(schema: z.ZodType): string {
  const inner = unwrap(schema);
  const def = inner.def as unknown as { type: string; options?: z.ZodType[]; element?: z.ZodType; items?: z.ZodType[] };
  switch (def.type) {
    case "number": return number(inner);
    case "string": return "a text";
    case "boolean": return "true or false";
    case "literal":
    case "enum": return alternatives(literalsOf(inner).map((word) => JSON.stringify(word)));
    case "array": return "a list";
    case "tuple": return `a list of ${def.items?.length ?? 0} entries`;
    case "object":
    case "record": return "a map";
    case "union": return alternatives((def.options ?? []).map(describeSchema));
    case "null": return "null";
    default: return "";
  }
}

function number(schema: z.ZodType): string {
  type Check = { check?: string; format?: string; value?: number; inclusive?: boolean };
  const checks = [schema.def as Check, ...(schema.def.checks ?? []).map((check) => check._zod.def as Check)];
  const bounds = checks.flatMap(({ check, value, inclusive }) => {
    if (check === "greater_than") return [inclusive ? `at least ${value}` : `more than ${value}`];
    if (check === "less_than") return [inclusive ? `at most ${value}` : `less than ${value}`];
    return check === "multiple_of" ? [`divisible by ${value}`] : [];
  });
  const kind = checks.some(({ format }) => format?.endsWith("int") || format?.includes("int32")) ? "an integer" : "a number";
  return bounds.length === 0 ? kind : `${kind}, ${bounds.join(" and ")}`;
}

const article = (noun: string): string => (/^[aeiou]/.test(noun) ? `an ${noun}` : `a ${noun}`);

// --------------------------------------------------------------------------------------------------------- walking a schema

/** Through defaults, optionals and pipes to the schema that decides what may be written. */
export function unwrap(schema: z.ZodType): z.ZodType {
  const def = schema.def as unknown as { type: string; innerType?: z.ZodType; in?: z.ZodType; getter?: () => z.ZodType };
  if (def.innerType) return unwrap(def.innerType);
  if (def.type === "pipe" && def.in) return unwrap(def.in);
  if (def.type === "lazy" && def.getter) return unwrap(def.getter());
  return schema;
}

export function schemaAt(schema: z.ZodType, path: readonly (string | number)[]): z.ZodType | undefined {
  let here: z.ZodType | undefined = unwrap(schema);
  for (const step of path) {
    const def = here.def as unknown as { type: string; shape?: Record<string, z.ZodType>; element?: z.ZodType; valueType?: z.ZodType; items?: z.ZodType[]; options?: z.ZodType[] };
    const next: z.ZodType | undefined = def.shape?.[step] ?? def.items?.[Number(step)] ?? (def.type === "array" ? def.element : undefined) ?? def.valueType
      ?? def.options?.map((option) => schemaAt(option, [step])).find((found) => found !== undefined);
    if (next === undefined) return undefined;
    here = unwrap(next);
  }
  return here;
}

/** Keys a map of this schema may have; of all alternatives for a union; none for a record, where every key may be. */
export function keysOf(schema: z.ZodType | undefined): string[] {
  if (schema === undefined) return [];
  const def = unwrap(schema).def as unknown as { shape?: Record<string, unknown>; options?: z.ZodType[] };
  if (def.shape) return Object.keys(def.shape);
  return [...new Set((def.options ?? []).flatMap((option) => keysOf(option)))];
}

function literalsOf(schema: z.ZodType | undefined): string[] {
  if (schema === undefined) return [];
  const def = unwrap(schema).def as unknown as { type: string; values?: unknown[]; entries?: Record<string, unknown>; options?: z.ZodType[] };
  if (def.type === "literal") return (def.values ?? []).map(String);
  if (def.type === "enum") return Object.values(def.entries ?? {}).map(String);
  return (def.options ?? []).flatMap((option) => literalsOf(option));
}

function valueAt(value: unknown, path: readonly (string | number)[]): unknown {
  let here = value;
  for (const step of path) {
    if (typeof here !== "object" || here === null) return undefined;
    here = (here as Record<string | number, unknown>)[step];
  }
  return here;
}
