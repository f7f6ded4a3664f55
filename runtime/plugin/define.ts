/**
 * `definePlugin`: a kind, a name, defaults, one create.
 *
 * D-1: `create` allocates no tensor; it declares parameters by shape. A recipe can so be checked on a machine without memory for it.
 * D-2: `create` gets options that the schema has accepted and filled; it never validates again.
 * D-3: `ports`, `counts` and `maxDims` are pure functions of the options.
 */
import type { z } from "zod";
import type { Components, Kind } from "./kinds.ts";
import { kinds } from "./kinds.ts";
import type { Ports } from "./ports.ts";
import type { ContextDeclaration, TensorDeclaration } from "../nn/index.ts";
import { RuntimeError } from "../errors.ts";

/** What a plugin may ask of the one who builds it. */
export interface PluginHost {
  /** A path of the recipe, made absolute: relative paths start at the recipe file. */
  resolvePath(path: string): string;
  /** Builds a plugin inside a plugin (a loader its tokenizer). Throws ERR_PLUGIN, or ERR_RECIPE for wrong options. */
  build<T>(use: string, options: unknown, kind: Kind): T;
  readonly seed: number;
  /** Where this run keeps its files; absent while a recipe is only checked. */
  readonly runFolder?: string;
}

export interface PluginDefinition<K extends Kind, S extends z.ZodType> {
  kind: K;
  /** kebab-case; `kind/name` is what a recipe writes after `use:`. */
  name: string;
  version: string;
  /** One sentence for `octavo plugins`: what it does, and its source. */
  about?: string;
  /** A `z.strictObject`; every option that can have a default has one. */
  options: S;
  ports?(options: z.output<S>): Ports;
  /** Objectives: the batch counts that normalise the loss. Data loaders: the counts they give. */
  counts?: readonly string[] | ((options: z.output<S>) => readonly string[]);
  /** Objectives: false when the loss is no sum over microbatches (contrastive losses). Default true. */
  separable?: boolean;
  /**
   * The largest value of symbolic dimensions, for estimates of bytes only: a loader says how long a text may be, a fusion that its
   * memory is patches and text together. `known` holds what components before it said, and B, the pages of one microbatch.
   */
  maxDims?(options: z.output<S>, known: Readonly<Record<string, number>>): Record<string, number>;
  /** How its weights are shared out over a tensor group (D-3 holds for it too); absent: they are not. `{}`: every member does the same. */
  tensor?(options: z.output<S>): TensorDeclaration;
  /** Whether the tokens of its sequences can be shared out over a context group; absent: they cannot. */
  context?(options: z.output<S>): ContextDeclaration;
  create(options: z.output<S>, host: PluginHost): Components[K];
}

/** A plugin as the registry keeps it: the types of its options are erased, `options` checks them. */
export interface Plugin {
  readonly [pluginMark]: 1;
  readonly kind: Kind;
  readonly name: string;
  /** `kind/name`, or `package/kind/name` once loaded from a package. */
  readonly id: string;
  readonly version: string;
  readonly about: string;
  readonly options: z.ZodType;
  readonly separable: boolean;
  ports(options: unknown): Ports;
  counts(options: unknown): readonly string[];
  maxDims(options: unknown, known: Readonly<Record<string, number>>): Record<string, number>;
  tensor?(options: unknown): TensorDeclaration;
  context?(options: unknown): ContextDeclaration;
  create(options: unknown, host: PluginHost): Components[Kind];
}

/** Survives two copies of this package in one process: plugins are known by the mark, not by identity. */
export const pluginMark = Symbol.for("octavo.plugin");

export function definePlugin<K extends Kind, S extends z.ZodType>(definition: PluginDefinition<K, S>): Plugin {
  const { kind, name, counts } = definition;
  if (!(kinds as readonly string[]).includes(kind)) {
    throw new RuntimeError("ERR_PLUGIN", `plugin ${name}: expected one of the kinds ${kinds.join(", ")}, found ${String(kind)}.`, { kind, name });
  }
  if (!/^[a-z0-9]+(-[a-z0-9]+)*$/.test(name)) {
    throw new RuntimeError("ERR_PLUGIN", `plugin ${kind}/${name}: expected a name in kebab-case, found "${name}".`, { kind, name });
  }
  type Options = z.output<S>;
  return {
    [pluginMark]: 1,
    kind, name, id: `${kind}/${name}`, version: definition.version, about: definition.about ?? "",
    options: definition.options,
    separable: definition.separable ?? true,
    ports: (options) => definition.ports?.(options as Options) ?? { in: {}, out: {} },
    counts: (options) => (typeof counts === "function" ? counts(options as Options) : counts) ?? [],
    maxDims: (options, known) => definition.maxDims?.(options as Options, known) ?? {},
    ...(definition.tensor && { tensor: (options: unknown) => definition.tensor!(options as Options) }),
    ...(definition.context && { context: (options: unknown) => definition.context!(options as Options) }),
    create: (options, host) => definition.create(options as Options, host),
  };
}

export function isPlugin(value: unknown): value is Plugin {
  return typeof value === "object" && value !== null && (value as Partial<Plugin>)[pluginMark] === 1;
}
