/**
 * What is wrong with a recipe: all of it at once, each mistake one line that says where, what was expected, what was found, and the fix.
 *
 *   tiny.yaml:12:7: components.text.options.widht: expected an option of text-encoder/llama, found "widht". Did you mean "width"?
 *   --set train.steps=many: train.steps: expected an integer, found "many". ...
 */
import { RuntimeError } from "../errors.ts";

/** Lines and columns count from 1. For an override `file` is `--set a.b=c`, and line and column are 0. */
export interface Place { file: string; line: number; column: number }

export interface RecipeProblem extends Place {
  /** Dotted path in the recipe. */
  where: string;
  expected: string;
  found: string;
  fix: string;
}

/** A path in a recipe: keys of maps, indices of lists. */
export type Path = readonly (string | number)[];
/** The place of a path; of its nearest ancestor when the path itself is not written anywhere. `key` asks for the key, not the value. */
export type Locate = (path: Path, part?: "key" | "value") => Place;

/** A recipe is wrong. `details.problems` for programs, one line each for people. */
export class RecipeError extends RuntimeError<{ file: string; problems: RecipeProblem[] }> {
  override readonly name = "RecipeError";
  constructor(file: string, problems: readonly RecipeProblem[], options?: { cause?: unknown }) {
    const sorted = sortProblems(problems);
    super("ERR_RECIPE", formatProblems(file, sorted), { file, problems: sorted }, options);
  }
  get problems(): RecipeProblem[] {
    return this.details.problems;
  }
}

export function problem(place: Place, path: Path | string, said: { expected: string; found: string; fix: string }): RecipeProblem {
  const { file, line, column } = place;
  return { file, line, column, where: typeof path === "string" ? path : path.join("."), ...said };
}

/** One problem on one line. */
export function formatProblem(p: RecipeProblem): string {
  const place = p.line > 0 ? `${p.file}:${p.line}:${p.column}` : p.file;
  return `${place}: ${p.where === "" ? "" : `${p.where}: `}expected ${p.expected}, found ${p.found}.${p.fix === "" ? "" : ` ${p.fix}`}`;
}

export function formatProblems(file: string, problems: readonly RecipeProblem[]): string {
  if (problems.length === 1) return formatProblem(problems[0]);
  return [`${file} has ${problems.length} problems:`, ...problems.map(formatProblem)].join("\n");
}

/** In the order in which a reader meets them, file by file as they come; overrides last. */
function sortProblems(problems: readonly RecipeProblem[]): RecipeProblem[] {
  const files = [...new Set(problems.filter(({ line }) => line > 0).map(({ file }) => file))];
  const rank = (p: RecipeProblem): number => (p.line > 0 ? files.indexOf(p.file) : Infinity);
  return [...problems].sort((a, b) => (rank(a) === rank(b) ? a.line - b.line || a.column - b.column : rank(a) - rank(b)) || 0);
}

/** A value as a message shows it: short, quoted where it is text. */
export function describeValue(value: unknown): string {
  if (value === undefined) return "nothing";
  if (value === null) return "null";
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value);
  if (Array.isArray(value)) return value.length === 0 ? "an empty list" : `a list of ${value.length}`;
  if (typeof value === "object") {
    const keys = Object.keys(value);
    return keys.length === 0 ? "an empty map" : `a map with ${keys.slice(0, 4).join(", ")}${keys.length > 4 ? ", ..." : ""}`;
  }
  return String(value);
}

/** `a, b or c`. */
export function alternatives(words: readonly string[]): string {
  return words.length < 2 ? (words[0] ?? "") : `${words.slice(0, -1).join(", ")} or ${words[words.length - 1]}`;
}
