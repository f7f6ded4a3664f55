/**
 * Where `use: kind/name` is looked up. Built-in plugins are added by the composition root; a plugin of a package is
 * `use: "package/kind/name"`: the package is imported once, from where the recipe lies, and exports `plugins`.
 * A plugin runs with the rights of the user: a recipe that names a package runs that package's code.
 *
 * R-1: one id, one plugin; adding a second of the same id throws.
 * R-2: an unknown id is answered with the nearest spelling, or with everything of its kind.
 */
import { readFileSync } from "node:fs";
import { dirname, join, resolve as resolvePath } from "node:path";
import { pathToFileURL } from "node:url";
import { RuntimeError, nearest } from "../errors.ts";
import type { Plugin, PluginHost } from "./define.ts";
import { isPlugin } from "./define.ts";
import type { Kind } from "./kinds.ts";
import { kinds } from "./kinds.ts";
import { checkOptions } from "./options.ts";
import { RecipeError, alternatives } from "./problem.ts";

/** Why a `use` leads nowhere, in the three parts of a recipe problem. */
export type LookupDetails = { use: string; expected: string; found: string; fix: string };

export interface Registry {
  add(plugins: Iterable<Plugin>): void;
  /** Every plugin known so far, in the order of kinds. */
  plugins(kind?: Kind): Plugin[];
  /** The plugin of an id that is already known. Throws ERR_PLUGIN with `LookupDetails`. */
  resolve(use: string, kind?: Kind): Plugin;
  /** The same, importing the package that the id names when it is not yet known. `from` is the folder of the recipe. */
  load(use: string, from: string, kind?: Kind): Promise<Plugin>;
}

export function createRegistry(plugins: Iterable<Plugin> = []): Registry {
  const known = new Map<string, Plugin>();
  const put = (id: string, plugin: Plugin): void => {
    const already = known.get(id);
    if (already === plugin) return;
    if (already) throw new RuntimeError("ERR_PLUGIN", `plugin ${id}: expected one plugin of this name, found versions ${already.version} and ${plugin.version}. Rename one of them.`, { use: id });
    known.set(id, plugin);
  };
  const registry: Registry = {
    add(more) {
      for (const plugin of more) {
        if (!isPlugin(plugin)) throw new RuntimeError("ERR_PLUGIN", `registry: expected what definePlugin gives, found ${typeof plugin}. Export an array of plugins.`, {});
        put(plugin.id, plugin);
      }
    },
    plugins: (kind) => [...known.values()].filter((p) => kind === undefined || p.kind === kind).sort((a, b) => kinds.indexOf(a.kind) - kinds.indexOf(b.kind)),
    resolve(use, kind) {
      const plugin = known.get(use);
      if (plugin === undefined) throw unknown(use, [...known.keys()], kind);
      if (kind !== undefined && plugin.kind !== kind) throw wrongKind(use, plugin, kind, [...known.values()]);
      return plugin;
    },
    async load(use, from, kind) {
      const named = packageOf(use);
      if (named !== undefined && !known.has(use)) {
        for (const plugin of await importPlugins(named, use, from)) put(`${named}/${plugin.id}`, { ...plugin, id: `${named}/${plugin.id}` });
      }
      return registry.resolve(use, kind);
    },
  };
  registry.add(plugins);
  return registry;
}

/** The host of a component made alone, without a recipe: it builds no other plugin and takes paths as they are. */
export const aloneHost: PluginHost = {
  seed: 0,
  resolvePath: (path) => path,
  build: (use) => { throw new RuntimeError("ERR_PLUGIN", `${use}: a component made alone builds no other plugin. Make it with createHost.`, { use }); },
};

/** The host that plugins of one recipe are built with. `copies`: files, by absolute path, that a checkpoint holds copies of. */
export function createHost(registry: Registry, o: { folder: string; seed: number; runFolder?: string; copies?: ReadonlyMap<string, string> }): PluginHost {
  return {
    seed: o.seed,
    runFolder: o.runFolder,
    resolvePath: (path) => o.copies?.get(resolvePath(o.folder, path)) ?? resolvePath(o.folder, path),
    build<T>(use: string, options: unknown, kind: Kind): T {
      const plugin = registry.resolve(use, kind);
      const place = { file: use, line: 0, column: 0 };
      const checked = checkOptions(plugin, options, [], () => place);
      if (checked.value === undefined) throw new RecipeError(use, checked.problems);
      return plugin.create(checked.value, this) as T;
    },
  };
}

function unknown(use: string, ids: readonly string[], kind?: Kind): RuntimeError<LookupDetails> {
  const [wanted] = use.split("/");
  const sameName = ids.filter((id) => id.split("/").at(-1) === use.split("/").at(-1) && (kind === undefined || id.split("/").at(-2) === kind));
  const ofKind = ids.filter((id) => id.split("/").at(-2) === (kind ?? wanted));
  const guess = nearest(use, kind === undefined ? ids : ofKind) ?? (sameName.length === 1 ? sameName[0] : undefined);
  return refusal({
    use,
    expected: kind === undefined ? "a plugin (kind/name, or package/kind/name)" : `a plugin of kind ${kind}`,
    found: JSON.stringify(use),
    fix: guess !== undefined ? `Did you mean "${guess}"?`
      : ofKind.length > 0 ? `Known: ${ofKind.join(", ")}.`
      : use.includes("/") ? `Known kinds: ${[...new Set(ids.map((id) => id.split("/").at(-2)))].join(", ") || "none"}.`
      : `Write it as kind/name; see "octavo plugins".`,
  });
}

function wrongKind(use: string, plugin: Plugin, kind: Kind, all: readonly Plugin[]): RuntimeError<LookupDetails> {
  const fitting = all.filter((p) => p.kind === kind).map((p) => p.id);
  return refusal({
    use, expected: `a plugin of kind ${kind}`, found: `${JSON.stringify(use)}, which is of kind ${plugin.kind}`,
    fix: fitting.length > 0 ? `Use ${alternatives(fitting)}.` : "",
  });
}

function refusal(d: LookupDetails, cause?: unknown): RuntimeError<LookupDetails> {
  return new RuntimeError("ERR_PLUGIN", `plugin ${d.use}: expected ${d.expected}, found ${d.found}.${d.fix ? ` ${d.fix}` : ""}`, d, cause === undefined ? undefined : { cause });
}

// ---------------------------------------------------------------------------------------------------------------- packages

/** `my-package` of "my-package/fusion/gated", `@us/pack` of "@us/pack/fusion/gated"; undefined for "fusion/gated". */
function packageOf(use: string): string | undefined {
  const parts = use.split("/");
  const named = parts.slice(0, -2).join("/");
  return /^(@[a-z0-9._-]+\/)?[a-z0-9._-]+$/i.test(named) && (kinds as readonly string[]).includes(parts.at(-2) ?? "") ? named : undefined;
}

async function importPlugins(name: string, use: string, from: string): Promise<Plugin[]> {
  const entry = findEntry(name, from);
  if (entry === undefined) {
    throw refusal({ use, expected: `package ${name} to be installed`, found: `no node_modules/${name} at or above ${from}`, fix: `Run "npm install ${name}", or correct the name.` });
  }
  let door: { plugins?: unknown; default?: unknown };
  try {
    door = (await import(pathToFileURL(entry).href)) as typeof door;
  } catch (cause) {
    throw refusal({ use, expected: `package ${name} to load`, found: `${cause instanceof Error ? cause.message : String(cause)} in ${entry}`, fix: "Mend the package." }, cause);
  }
  const list = door.plugins ?? door.default;
  if (!Array.isArray(list) || !list.every(isPlugin)) {
    throw refusal({ use, expected: `package ${name} to export \`plugins\`, an array of what definePlugin gives`, found: `exports ${Object.keys(door).join(", ") || "nothing"}`, fix: "" });
  }
  return list;
}

/** Node finds an ESM package only from the importing module; a recipe is no module, so the folders above it are walked here. */
function findEntry(name: string, from: string): string | undefined {
  for (let folder = resolvePath(from); ; folder = dirname(folder)) {
    const root = join(folder, "node_modules", name);
    const manifest = readManifest(join(root, "package.json"));
    if (manifest) return join(root, entryOf(manifest.exports) ?? manifest.main ?? "index.js");
    if (dirname(folder) === folder) return undefined;
  }
}

function readManifest(file: string): { exports?: unknown; main?: string } | undefined {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as { exports?: unknown; main?: string };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT" || (error as NodeJS.ErrnoException).code === "ENOTDIR") return undefined;
    throw new RuntimeError("ERR_PLUGIN", `${file}: expected a readable package manifest, found: ${(error as Error).message}. Reinstall the package.`, { file }, { cause: error });
  }
}

/** The target of "." under the conditions node, import, default. */
function entryOf(exported: unknown): string | undefined {
  if (typeof exported === "string") return exported;
  if (typeof exported !== "object" || exported === null) return undefined;
  const table = exported as Record<string, unknown>;
  if ("." in table) return entryOf(table["."]);
  for (const condition of Object.keys(table)) {
    if (["node", "import", "default"].includes(condition)) return entryOf(table[condition]);
  }
  return undefined;
}
