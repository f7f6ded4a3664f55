/**
 * From what a recipe names to what can run: the plugin of each `use`, its options accepted and filled, the component created.
 *
 * B-1: creating allocates no tensor (D-1 of plugins). Trackers are not created: they would open their files.
 * B-2: whatever goes wrong is a problem at the place in the recipe; what a plugin threw is kept in `causes`.
 */
import { RuntimeError } from "../../errors.ts";
import type { Plugin, PluginHost } from "../../plugin/define.ts";
import type { Kind, TensorComponent } from "../../plugin/kinds.ts";
import { tensorKinds } from "../../plugin/kinds.ts";
import { checkOptions } from "../../plugin/options.ts";
import type { Locate, Path, RecipeProblem } from "../../plugin/problem.ts";
import { RecipeError, problem } from "../../plugin/problem.ts";
import type { LookupDetails, Registry } from "../../plugin/registry.ts";
import { createHost } from "../../plugin/registry.ts";
import type { GraphNode } from "./graph.ts";
import type { PluginUse, Recipe } from "../recipe/recipe.ts";
import { locateIn, unreadableUse } from "../recipe/recipe.ts";

/** A plugin with options that its schema has accepted and filled. */
export interface Chosen { use: string; plugin: Plugin; options: unknown }

export class Builder {
  readonly problems: RecipeProblem[] = [];
  /** What plugins threw. */
  readonly causes: unknown[] = [];
  readonly locate: Locate;
  readonly host: PluginHost;

  constructor(readonly recipe: Recipe, readonly registry: Registry, copies?: ReadonlyMap<string, string>) {
    this.locate = locateIn(recipe);
    this.host = createHost(registry, { folder: recipe.folder, seed: recipe.seed, copies });
  }

  async component(name: string): Promise<GraphNode | undefined> {
    const entry = this.recipe.components[name];
    const path = ["components", name];
    const chosen = await this.#resolve(entry, undefined, path);
    if (!chosen) return undefined;
    const { plugin, options } = chosen;
    if (plugin.kind !== "data-loader" && !(tensorKinds as readonly string[]).includes(plugin.kind)) {
      this.say([...path, "use"], { expected: `a component: a plugin of kind data-loader, ${tensorKinds.join(", ")}`, found: `${entry.use}, of kind ${plugin.kind}`, fix: placeFor(plugin.kind) });
      return undefined;
    }
    return this.#try(chosen, path, () => {
      const ports = plugin.ports(options);
      const component = plugin.create(options, this.host);
      const tensor = plugin.kind === "data-loader" ? undefined : (component as TensorComponent);
      const parameters = tensor?.parameters() ?? {};
      const frozen = tensor?.frozen ?? false;
      const trainable = !frozen && Object.values(parameters).some((parameter) => parameter.trainable);
      return { name, use: entry.use, kind: plugin.kind, plugin, options, ports, inputs: entry.in, component, parameters, trainable, frozen };
    });
  }

  /** A plugin outside the graph. Trackers are not created here: they would open their files. */
  async chosen(entry: PluginUse, kind: Kind, path: Path, create: boolean): Promise<Chosen | undefined> {
    const chosen = await this.#resolve(entry, kind, path);
    if (!chosen || !create) return chosen;
    return this.#try(chosen, path, () => {
      chosen.plugin.create(chosen.options, this.host);
      return chosen;
    });
  }

  /** The plugin of a `use` with its options, or problems. */
  async #resolve(entry: { use: string; options: Record<string, unknown> }, kind: Kind | undefined, path: Path): Promise<Chosen | undefined> {
    const plugin = entry.use === unreadableUse ? undefined : await this.#load(entry.use, kind, [...path, "use"]);
    if (!plugin) return undefined;
    for (const [inner, use] of usesIn(entry.options)) if (!await this.#load(use, undefined, [...path, "options", ...inner, "use"])) return undefined;
    const checked = checkOptions(plugin, entry.options, [...path, "options"], this.locate);
    this.problems.push(...checked.problems);
    return checked.problems.length > 0 ? undefined : { use: entry.use, plugin, options: checked.value };
  }

  async #load(use: string, kind: Kind | undefined, path: Path): Promise<Plugin | undefined> {
    try {
      return await this.registry.load(use, this.recipe.folder, kind);
    } catch (error) {
      if (!(error instanceof RuntimeError) || error.code !== "ERR_PLUGIN") throw error;
      const said = error.details as Partial<LookupDetails>;
      this.causes.push(...(error.cause === undefined ? [] : [error]));
      this.say(path, said.expected === undefined ? { expected: "a plugin", found: `that ${error.message.replace(/\.$/, "")}`, fix: "" } : { expected: said.expected, found: said.found!, fix: said.fix! });
      return undefined;
    }
  }

  /** Whatever a plugin throws becomes a problem of the component; problems of plugins inside it keep their words. */
  #try<T>(chosen: Chosen, path: Path, work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      this.causes.push(error);
      if (error instanceof RecipeError) {
        for (const inner of error.problems) this.say([...path, "options"], { expected: `${inner.where ? `${inner.where} to be ` : ""}${inner.expected} in the options of ${inner.file}`, found: inner.found, fix: inner.fix }, "key");
      } else {
        const message = (error instanceof Error ? error.message : String(error)).replace(/\.$/, "");
        this.say(path, { expected: `${chosen.use} ${chosen.plugin.version} to be built from its options`, found: `that it threw: ${message}`, fix: "Correct its options, or the plugin." }, "key");
      }
      return undefined;
    }
  }

  say(path: Path | string, said: { expected: string; found: string; fix: string }, part: "key" | "value" = "value"): void {
    this.problems.push(problem(this.locate(typeof path === "string" ? [path] : path, part), path, said));
  }
}

/** Where a plugin of a kind that is no component belongs. */
function placeFor(kind: Kind): string {
  switch (kind) {
    case "optimizer": return "It belongs under train.optimizer.";
    case "evaluator": return "It belongs under evaluate.evaluator.";
    case "tracker": return "It belongs under trackers.";
    default: return "It belongs into the options of the data loader.";
  }
}

/** Plugins named inside options (a loader's tokenizer): `{ use: ... }` at any depth. */
function* usesIn(value: unknown, path: Path = []): Generator<[Path, string]> {
  if (typeof value !== "object" || value === null) return;
  for (const [key, inner] of Object.entries(value)) {
    if (key === "use" && typeof inner === "string") yield [path, inner];
    else yield* usesIn(inner, [...path, key]);
  }
}
