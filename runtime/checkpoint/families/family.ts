/**
 * How released checkpoints name what a model of ours names: one table per family, read forwards by import and backwards by export.
 *
 * FA-1: a rule is a fact that holds in both directions: what export writes, import reads back bit for bit.
 * FA-2: every name of a source falls into exactly one class: taken, ignored by rule, known but of no use here, or unexpected.
 */
import type { StoredDType } from "../stored.ts";

/** What has to be done to their data to make it ours; the inverse makes theirs of ours. */
export type Move =
  /** (a, b) -> (b, a) */
  | "transpose"
  /** Rows of each head from pairs (2i, 2i+1) to halves (i, i + K/2), for query or key heads: rotary positions, see the spec of RoPE. */
  | "halves-of-heads" | "halves-of-kv-heads";

/** A table whose size follows the page or the vocabulary and that can be made to fit another. */
export type Resize = "relative-bias" | "positions" | "vocabulary";

export interface Rule {
  /** Our name within the component; `{i}` is the number of a layer. */
  ours: string;
  /** Theirs; of several, the rows one after another make ours. */
  theirs: string | readonly string[];
  move?: Move;
  resize?: Resize;
  /** Another of their names that serves where the first is missing: it may lack `{i}`, and then serves every layer. */
  orElse?: string;
  /** Absent in some releases: then it starts afresh. */
  optional?: boolean;
}

/** One way of writing a family's checkpoints. */
export interface Dialect {
  name: string;
  /** In front of every name of a rule without `bare`; a release may leave them out. The first is written by export. */
  prefixes: readonly string[];
  rules: readonly (Rule & { /** The prefix is never there. */ bare?: boolean })[];
  /** Old spellings within their names, put right before anything else. */
  spellings?: readonly (readonly [RegExp, string])[];
}

/** What config.json, or the shapes, say about one option of ours. */
export interface Setting {
  /** `outer.inner` speaks of a part that the component has only when the user asks for it (a text tower). */
  option: string;
  value: unknown;
  /** The value that a component without this option computes with: then it need not have it. */
  neutral?: unknown;
  /** Where it is written, for messages. */
  from: string;
}

export type Shapes = (ours: string) => readonly number[] | undefined;
export type Config = Record<string, unknown>;

export interface Family {
  name: string;
  /** kind/name of a plugin -> what its parameters of this family begin with. */
  targets: Readonly<Record<string, string>>;
  dialects: readonly Dialect[];
  /** Their names that carry nothing: indices, masks, frequencies that are computed. */
  ignored: readonly RegExp[];
  /** Options that follow from config.json. `use`: the plugin asked for. */
  fromConfig(config: Config, use: string): Setting[];
  /** Options that follow from shapes, by our names; what config.json says wins. */
  fromShapes(shapes: Shapes, layers: number): Setting[];
  /** A config.json for what was exported. */
  toConfig(options: Config, dtype: StoredDType): Config;
  /** Options that no shape tells and a wrong value of which loads without an error: they must come from config.json or from the user. */
  mustBeTold: readonly string[];
}

/** Names of the same tensors in both worlds: weight and bias of each part. */
export const affine = (ours: string, theirs: string, more: Partial<Rule> = {}): Rule[] =>
  ["weight", "bias"].map((part) => ({ ours: `${ours}.${part}`, theirs: `${theirs}.${part}`, ...more, ...(more.orElse && { orElse: `${more.orElse}.${part}` }) }));

export const same = (names: readonly string[], more: Partial<Rule> = {}): Rule[] => names.map((name) => ({ ours: name, theirs: name, ...more }));

export const number = (config: Config, key: string): number | undefined => (typeof config[key] === "number" ? config[key] : undefined);

/** A setting for each key of config.json that is there. */
export function settings(config: Config, keys: Readonly<Record<string, string>>, neutral: Readonly<Record<string, unknown>> = {}): Setting[] {
  return Object.entries(keys).filter(([, key]) => config[key] !== undefined && config[key] !== null)
    .map(([option, key]) => ({ option, value: config[key], from: `config.json ${key}`, ...(option in neutral && { neutral: neutral[option] }) }));
}

/** Settings told by shapes; those that a missing tensor leaves open are left out. */
export const fromTable = (table: Readonly<Record<string, number | undefined>>): Setting[] =>
  Object.entries(table).filter(([, value]) => value !== undefined).map(([option, value]) => ({ option, value, from: "the shapes" }));
