/** YAML files of the cluster (studies, cluster descriptions): read, checked by a schema, every mistake with file and line. */
import { readFileSync } from "node:fs";
import { LineCounter, parseDocument } from "yaml";
import type { z } from "zod";
import { nearest, RuntimeError, type Place } from "../runtime/index.ts";

/** Reads and checks a file. Throws ERR_INPUT with one line per mistake. `known` are the keys an unknown one is compared with. */
export function readYamlFile<T>(path: string, schema: z.ZodType<T>, known: readonly string[]): T {
  return readPlacedYamlFile(path, schema, known).value;
}

/** The same, and where in the file a path stands; for one that is not written, its nearest written ancestor. */
export function readPlacedYamlFile<T>(path: string, schema: z.ZodType<T>, known: readonly string[]): { value: T; place(keys: readonly (string | number)[]): Place } {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new RuntimeError("ERR_INPUT", `${path}: cannot be read (${(cause as NodeJS.ErrnoException).code ?? String(cause)}). Check the path.`, { path }, { cause });
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  if (document.errors.length) {
    throw refused(path, document.errors.map((error) => `${at(path, lines, error.pos[0])}: ${error.message}`));
  }
  const parsed = schema.safeParse(document.toJS());
  if (parsed.success) {
    return {
      value: parsed.data,
      place(keys) {
        const { line, col } = lines.linePos(offsetOf(document, keys));
        return { file: path, line, column: col };
      },
    };
  }
  throw refused(path, parsed.error.issues.flatMap((issue) => {
    const keys = issue.path.map(String);
    const where = (keys: readonly string[]): string => at(path, lines, offsetOf(document, keys));
    if (issue.code !== "unrecognized_keys") return [`${where(keys)}: ${keys.join(".") || "the file"}: ${issue.message}`];
    return issue.keys.map((key) => {
      const guess = nearest(key, known);
      return `${where([...keys, key])}: ${[...keys, key].join(".")}: unknown key. ${guess ? `Did you mean "${guess}"?` : `Known keys: ${known.join(", ")}.`}`;
    });
  }));
}

function refused(path: string, problems: string[]): RuntimeError {
  return new RuntimeError("ERR_INPUT", problems.join("\n"), { path, problems });
}

type Document = ReturnType<typeof parseDocument>;

/** Where the value of a path stands; for a path that is not written, its nearest written ancestor. */
function offsetOf(document: Document, path: readonly (string | number)[]): number {
  for (let length = path.length; length > 0; length--) {
    const node = document.getIn(path.slice(0, length), true) as { range?: [number, number, number] } | undefined;
    if (node?.range) return node.range[0];
  }
  return 0;
}

function at(path: string, lines: LineCounter, offset: number): string {
  const { line, col } = lines.linePos(offset);
  return `${path}:${line}:${col}`;
}
