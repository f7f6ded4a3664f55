import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/**
 * Stairs go down: which room may import which. A room is a folder, or a file where it is named. `*` after a room: its subfolders are
 * rooms of their own that may not see each other. Changing this table needs a decision in the README of the floor.
 */
const root = fileURLToPath(new URL("..", import.meta.url));
const base = ["runtime/errors.ts", "runtime/clock.ts"];
const numbers = [...base, "native-cuda", "runtime/native.ts", "runtime/tensor", "runtime/autograd", "runtime/ops", "runtime/nn", "runtime/optimizer"];
const upTo = (room: string): string[] => numbers.slice(0, numbers.indexOf(room));
const messages = [...base, "runtime/transport", "runtime/actor", "runtime/metrics"];
const landing = [...new Set([...numbers, ...messages, "runtime/parallel", "runtime/plugin"])];

const table: Record<string, { ours: string[]; thirdParty: string[] }> = {
  "native-cuda": { ours: [], thirdParty: [] },
  "runtime/errors.ts": { ours: [], thirdParty: [] },
  "runtime/clock.ts": { ours: [], thirdParty: [] },
  "runtime/native.ts": { ours: [...base, "native-cuda"], thirdParty: [] },
  "runtime/tensor": { ours: upTo("runtime/tensor"), thirdParty: [] },
  "runtime/autograd": { ours: upTo("runtime/autograd"), thirdParty: [] },
  "runtime/ops": { ours: upTo("runtime/ops"), thirdParty: [] },
  "runtime/nn": { ours: upTo("runtime/nn"), thirdParty: [] },
  "runtime/optimizer": { ours: upTo("runtime/optimizer"), thirdParty: [] },
  "runtime/transport": { ours: base, thirdParty: ["zeromq", "msgpackr"] },
  "runtime/metrics": { ours: base, thirdParty: [] },
  "runtime/actor": { ours: [...base, "runtime/transport", "runtime/metrics"], thirdParty: [] },
  "runtime/plugin": { ours: [...base, "runtime/nn", "runtime/tensor"], thirdParty: ["zod"] },
  "runtime/parallel": { ours: [...numbers, ...messages], thirdParty: [] },
  "runtime/parallel/lanes": { ours: [...numbers, ...messages], thirdParty: [] },
  "runtime/parallel/groups": { ours: [...numbers, ...messages, "runtime/parallel/lanes"], thirdParty: [] },
  "runtime/parallel/sharing": { ours: [...numbers, ...messages, "runtime/parallel/groups"], thirdParty: [] },
  "runtime/checkpoint": { ours: landing, thirdParty: [] },
  "runtime/pipeline": { ours: [...landing, "runtime/checkpoint"], thirdParty: [] },
  "runtime/pipeline/recipe": { ours: landing, thirdParty: ["yaml", "zod"] },
  "runtime/pipeline/graph": { ours: [...landing, "runtime/checkpoint", "runtime/pipeline/recipe"], thirdParty: [] },
  "runtime/pipeline/schedule": { ours: base, thirdParty: [] },
  "runtime/pipeline/plan": { ours: [...landing, "runtime/checkpoint", "runtime/pipeline/recipe", "runtime/pipeline/graph", "runtime/pipeline/schedule"], thirdParty: [] },
  "runtime/pipeline/run": { ours: [...landing, "runtime/checkpoint", "runtime/pipeline/recipe", "runtime/pipeline/graph", "runtime/pipeline/schedule", "runtime/pipeline/plan"], thirdParty: [] },
  "runtime/trainer": { ours: [...landing, "runtime/checkpoint", "runtime/pipeline"], thirdParty: [] },
  "runtime/index.ts": { ours: [...landing, "runtime/checkpoint", "runtime/pipeline", "runtime/trainer"], thirdParty: [] },
  "plugins/index.ts": { ours: ["runtime/index.ts", "plugins/*"], thirdParty: [] },
  "plugins/*": { ours: ["runtime/index.ts"], thirdParty: ["zod", "sharp", "pdfjs-dist", "@hyzyla/pdfium", "@huggingface/tokenizers", "tar-stream"] },
  cluster: { ours: ["runtime/index.ts"], thirdParty: ["@grpc/grpc-js", "@grpc/proto-loader", "commander", "yaml", "zod", "zeromq", "octavo"] },
};

/** Only these files may load what they load: one file per foreign thing. */
const onlyIn: Record<string, string[]> = {
  "native-cuda/index": ["runtime/native.ts"],
  "@huggingface/tokenizers": ["plugins/tokenizer/"],
  "@hyzyla/pdfium": ["plugins/data-loader/pdf.ts"],
  "pdfjs-dist": ["plugins/data-loader/pdf.ts"],
  "tar-stream": ["plugins/data-loader/", "examples/convert/"],
};

interface Import { file: string; line: number; specifier: string; typeOnly: boolean; text: string }

describe("architecture", () => {
  const files = ["native-cuda", "runtime", "plugins", "cluster"].flatMap((folder) => sources(join(root, folder)));
  const imports = files.flatMap(importsOf);

  it("sees the sources it judges", () => {
    assert.ok(files.length > 100, `only ${files.length} files found`);
    assert.ok(imports.length > 400, `only ${imports.length} imports found`);
  });

  it("imports only downwards, as the table allows", () => {
    const offences = imports.flatMap((each) => offence(each) ?? []);
    assert.deepEqual(offences, []);
  });

  it("names every room in the table", () => {
    const nameless = files.map((file) => relative(root, file)).filter((file) => roomOf(file) === undefined);
    assert.deepEqual(nameless, []);
  });

  it("keeps each foreign thing behind its file", () => {
    const offences = imports.flatMap(({ file, line, specifier, text }) => {
      const rule = Object.entries(onlyIn).find(([what]) => specifier === what || specifier.startsWith(`${what}/`) || (what === "native-cuda/index" && /native-cuda\/index/.test(specifier)));
      return rule && !rule[1].some((allowed) => file.startsWith(allowed)) ? [`${file}:${line}: ${text}`] : [];
    });
    assert.deepEqual(offences, []);
  });

  it("has no branch about scale in the plain step", () => {
    const step = readFileSync(join(root, "runtime/trainer/step.ts"), "utf8");
    assert.doesNotMatch(step.replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, ""), /\b(rank|world|worker|stage|lane|transport|process)\b/i);
  });

  it("includes napi.h only in the binding", () => {
    const native = sources(join(root, "native-cuda"), /\.(h|cpp|cu)$/);
    const offences = native.map((file) => relative(root, file)).filter((file) => !file.startsWith("native-cuda/binding/") && /#include\s*<napi\.h>/.test(readFileSync(join(root, file), "utf8")));
    assert.deepEqual(offences, []);
    assert.ok(native.length > 20);
  });
});

function sources(folder: string, pattern = /(?<!\.d)\.ts$/): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? sources(path, pattern) : pattern.test(entry.name) ? [path] : [];
  });
}

function importsOf(path: string): Import[] {
  const file = relative(root, path);
  const text = readFileSync(path, "utf8");
  const found: Import[] = [];
  for (const match of text.matchAll(/^(?:import|export)\b([^;"']*?)\bfrom\s*["']([^"']+)["']|^import\s*["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']\s*\)/gm)) {
    const specifier = match[2] ?? match[3] ?? match[4];
    found.push({ file, specifier, line: text.slice(0, match.index).split("\n").length, typeOnly: /^(import|export)\s+type\b/.test(match[0]), text: match[0].replace(/\s+/g, " ") });
  }
  return found;
}

/** The row of the table that speaks of a file: the longest name that fits. */
function roomOf(file: string): string | undefined {
  return Object.keys(table)
    .filter((room) => file === room || (room.endsWith("/*") ? file.startsWith(room.slice(0, -1)) && file.slice(room.length - 1).includes("/") : file.startsWith(`${room}/`)))
    .sort((a, b) => b.length - a.length)[0];
}

function offence({ file, line, specifier, text, typeOnly }: Import): string[] | undefined {
  const room = roomOf(file);
  if (room === undefined) return undefined;
  const { ours, thirdParty } = table[room];
  const say = (why: string): string[] => [`${file}:${line}: ${text}  (${why})`];
  if (specifier.startsWith("node:")) return undefined;
  if (!specifier.startsWith(".")) {
    const name = specifier.split("/").slice(0, specifier.startsWith("@") ? 2 : 1).join("/");
    return thirdParty.includes(name) ? undefined : say(`${room} may not import the package ${name}`);
  }
  const target = relative(root, resolve(root, dirname(file), specifier));
  const inside = room.endsWith("/*") ? file.split("/").slice(0, 2).join("/") : room;
  if (target.startsWith(`${inside}/`)) return undefined;
  if (room === "runtime/plugin" && !typeOnly && !base.includes(target)) return say("runtime/plugin may import nn and tensor only as types");
  const allowed = ours.some((other) => target === other || target.startsWith(`${other.replace(/\*$/, "").replace(/\/$/, "")}/`));
  return allowed ? undefined : say(`${room} may not import ${target}`);
}
