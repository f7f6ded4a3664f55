/**
 * The written form of a recipe: YAML with the place of every key and value, and overrides laid over it.
 *
 * S-1: the first syntax error is reported (the rest follow from it), and every repeated key, naming both lines; the first one holds.
 * S-2: an override may replace or remove what is written, or add what the recipe's own keys allow; a path that leads through
 *      something unknown is refused with the nearest spelling. `null` removes: the default holds again.
 * S-3: positions are plain data, so a recipe can travel between processes and still say where a mistake is.
 */
import { LineCounter, isMap, isScalar, isSeq, parse, parseDocument } from "yaml";
import type { Node, Pair, YAMLMap } from "yaml";
import type { z } from "zod";
import { nearest } from "../../errors.ts";
import { keysOf, schemaAt } from "../../plugin/options.ts";
import type { Path, Place, RecipeProblem } from "../../plugin/problem.ts";
import { describeValue, problem } from "../../plugin/problem.ts";

type At = readonly [line: number, column: number];

/** Where things are written. Paths are joined by "/"; `set` holds the override that wrote a path. */
export interface RecipeSource {
  file: string;
  keys: Record<string, At>;
  values: Record<string, At>;
  set: Record<string, string>;
  /** Component name -> place of the override that removed it. */
  removed: Record<string, Place>;
}

export interface Written { tree: unknown; source: RecipeSource; problems: RecipeProblem[] }

const joined = (path: Path): string => path.join("/");

/** The place of a path, or of its nearest ancestor that is written. */
export function placeOf(source: RecipeSource, path: Path, part: "key" | "value" = "value"): Place {
  for (let length = path.length; length >= 0; length--) {
    const here = joined(path.slice(0, length));
    const override = source.set[here];
    if (override !== undefined) return overridePlace(override);
    // the value of the path itself, but the key of an ancestor: "text:" is where something is missing under text
    const at = (part === "value" && length === path.length ? source.values[here] : undefined) ?? source.keys[here] ?? source.values[here];
    if (at !== undefined) return { file: source.file, line: at[0], column: at[1] };
  }
  return { file: source.file, line: 1, column: 1 };
}

export const overridePlace = (override: string): Place => ({ file: `--set ${override}`, line: 0, column: 0 });

export function readSource(text: string, file: string): Written {
  const lines = new LineCounter();
  const source: RecipeSource = { file, keys: {}, values: {}, set: {}, removed: {} };
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: false, prettyErrors: false });
  const problems = document.errors.slice(0, 1).map((error) => {
    const at = lines.linePos(error.pos[0]);
    return problem({ file, line: at.line, column: at.col }, "", { expected: "YAML", found: `that ${sentence(error.message)}`, fix: syntaxFix(error.code) });
  });
  if (problems.length > 0) return { tree: undefined, source, problems };
  const at = (node: Node | null | undefined): At | undefined => {
    if (!node?.range) return undefined;
    const { line, col } = lines.linePos(node.range[0]);
    return [line, col];
  };
  walk(document.contents, [], { source, at, problems });
  try {
    const tree = document.toJS() as unknown;
    JSON.stringify(tree); // throws for an alias inside its own anchor, which nothing after this could walk
    return { tree, source, problems };
  } catch (error) {
    return { tree: undefined, source, problems: [problem({ file, line: 1, column: 1 }, "", {
      expected: "aliases that can be written out", found: `that ${sentence((error as Error).message)}`, fix: "Write the value instead of the *alias.",
    })] };
  }
}

interface Walk { source: RecipeSource; at(node: Node | null | undefined): At | undefined; problems: RecipeProblem[] }

function walk(node: unknown, path: Path, w: Walk): void {
  const here = w.at(node as Node);
  if (here) w.source.values[joined(path)] = here;
  if (isSeq(node)) node.items.forEach((item, index) => walk(item, [...path, index], w));
  if (isMap(node)) walkMap(node, path, w);
}

function walkMap(map: YAMLMap, path: Path, w: Walk): void {
  map.items = (map.items as Pair<Node, Node | null>[]).filter((pair) => {
    const key = isScalar(pair.key) ? String(pair.key.value) : String(pair.key);
    const inner = [...path, key];
    const here = w.at(pair.key) ?? [1, 1];
    const first = w.source.keys[joined(inner)];
    if (first !== undefined) {
      w.problems.push(problem({ file: w.source.file, line: here[0], column: here[1] }, inner, {
        expected: `one ${kindOfKey(path)} of this name`, found: `"${key}" here and at line ${first[0]}`, fix: "Rename or remove one of them.",
      }));
      return false;
    }
    w.source.keys[joined(inner)] = here;
    walk(pair.value, inner, w);
    return true;
  });
}

function kindOfKey(parent: Path): string {
  if (parent.length === 1 && parent[0] === "components") return "component";
  if (parent.length === 1 && parent[0] === "stages") return "stage";
  return parent.at(-1) === "in" ? "input" : parent.at(-1) === "options" ? "option" : "key";
}

/** A message of the YAML package in the middle of a sentence, without the place, which is said before. */
function sentence(message: string): string {
  const [first] = message.split(/ at line \d|\n/);
  return first.charAt(0).toLowerCase() + first.slice(1).replace(/\.$/, "");
}

function syntaxFix(code: string): string {
  switch (code) {
    case "TAB_AS_INDENT": return "Indent with spaces.";
    case "BAD_INDENT": return "Give all keys of one map the same indentation.";
    case "MISSING_CHAR": return "Close the quote, bracket or brace.";
    case "MULTILINE_IMPLICIT_KEY":
    case "BLOCK_AS_IMPLICIT_KEY": return "A key, its colon and a space belong on one line.";
    case "BAD_ALIAS": return "Define the &anchor before its *alias.";
    default: return "";
  }
}

// --------------------------------------------------------------------------------------------------------------- overrides

/** Lays `a.b=c` over what is written, in order. `schema` says which keys may be added. */
export function applyOverrides(written: Written, overrides: readonly string[], schema: z.ZodType): Written {
  const tree = structuredClone(written.tree ?? {}) as Record<string, unknown>;
  const problems = [...written.problems];
  for (const override of overrides) {
    const wrong = applyOne(tree, written.source, override, schema);
    if (wrong) problems.push(wrong);
  }
  return { tree, source: written.source, problems };
}

function applyOne(tree: Record<string, unknown>, source: RecipeSource, override: string, schema: z.ZodType): RecipeProblem | undefined {
  const place = overridePlace(override);
  const cut = override.indexOf("=");
  if (cut < 1) return problem(place, "", { expected: "path=value", found: JSON.stringify(override), fix: "Write for example --set train.steps=100." });
  const path = override.slice(0, cut).trim().split(".");
  let value: unknown;
  try {
    value = parse(override.slice(cut + 1)) as unknown;
  } catch (error) {
    return problem(place, path, { expected: "a YAML value after =", found: `that ${sentence((error as Error).message)}`, fix: "Quote it." });
  }
  const parent = descend(tree, path, schema, place);
  if ("expected" in parent) return parent;
  const last = path[path.length - 1];
  const unknown = refuseUnknown(parent.at, path, path.length - 1, schema, place, value);
  if (unknown) return unknown;
  forget(source, path);
  if (value === null && !Array.isArray(parent.at)) remove(tree, parent.at, path, source, place);
  else {
    (parent.at as Record<string, unknown>)[last] = value;
    source.set[joined(path)] = override;
  }
  return undefined;
}

type Container = Record<string, unknown>;

/** The map or list that holds the last step of the path; maps that the schema knows are made on the way. */
function descend(tree: Container, path: readonly string[], schema: z.ZodType, place: Place): { at: Container } | RecipeProblem {
  let at = tree;
  for (let i = 0; i < path.length - 1; i++) {
    const unknown = refuseUnknown(at, path, i, schema, place, {});
    if (unknown) return unknown;
    if (!Object.hasOwn(at, path[i])) at[path[i]] = {};
    const next = at[path[i]];
    if (typeof next !== "object" || next === null) {
      return problem(place, path, {
        expected: `a map at ${path.slice(0, i + 1).join(".")}`, found: describeValue(next),
        fix: i === 0 ? "" : `Set ${path.slice(0, i + 1).join(".")} itself.`,
      });
    }
    at = next as Container;
  }
  return { at };
}

/** Step `i` of the path must be written already, or be a key the schema knows, or be a whole new entry of a record. */
function refuseUnknown(at: Container, path: readonly string[], i: number, schema: z.ZodType, place: Place, value: unknown): RecipeProblem | undefined {
  const step = path[i];
  if (step === "__proto__") return problem(place, path, { expected: "a name", found: `"${step}"`, fix: "No key is called so." });
  if (Object.hasOwn(at, step)) return undefined;
  if (Array.isArray(at)) {
    return problem(place, path, { expected: `an index of ${path.slice(0, i).join(".")}, 0 to ${at.length - 1}`, found: JSON.stringify(step), fix: "" });
  }
  const known = keysOf(schemaAt(schema, path.slice(0, i)));
  if (known.includes(step)) return undefined;
  const written = Object.keys(at);
  const record = known.length === 0;
  const entry = i === 1 && (path[0] === "components" || path[0] === "stages");
  // a new component or stage is added whole, so that a slip of the finger never makes one; options and inputs are the plugin's to know
  const last = i === path.length - 1;
  const removing = last && value === null;
  if (record && !removing && (!entry || (last && typeof value === "object"))) return undefined;
  const candidates = record ? written : known;
  const guess = nearest(step, candidates);
  return problem(place, path, {
    expected: entry ? `a ${path[0].slice(0, -1)} of the recipe` : i === 0 ? "a key of the recipe" : `a key of ${path.slice(0, i).join(".")}`,
    found: JSON.stringify(step),
    fix: guess !== undefined ? `Did you mean "${guess}"?` : candidates.length > 0 ? `Known: ${candidates.join(", ")}.` : "There is nothing to remove.",
  });
}

/** Removing a component takes it out of its stage too, and the stage with it when it was alone there. */
function remove(tree: Container, at: Container, path: readonly string[], source: RecipeSource, place: Place): void {
  delete at[path[path.length - 1]];
  if (path.length !== 2 || path[0] !== "components") return;
  source.removed[path[1]] = place;
  const stages = tree.stages as Record<string, unknown> | undefined;
  for (const [stage, members] of Object.entries(stages ?? {})) {
    if (!Array.isArray(members) || !members.includes(path[1])) continue;
    const left = members.filter((member) => member !== path[1]);
    if (left.length > 0) stages![stage] = left;
    else delete stages![stage];
  }
}

/** What was written at or below an overridden path is written there no longer. */
function forget(source: RecipeSource, path: Path): void {
  const here = joined(path);
  for (const table of [source.keys, source.values, source.set] as Record<string, unknown>[]) {
    for (const known of Object.keys(table)) if (known === here || known.startsWith(`${here}/`)) delete table[known];
  }
}
