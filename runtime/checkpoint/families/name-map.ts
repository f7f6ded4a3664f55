import type { Dialect, Family, Rule } from "./family.ts";
import { families } from "./index.ts";

/** Where the data of one of our tensors stands in a source. */
export interface Found { rule: Rule; sources: readonly string[]; /** Some of the parts are missing. */ incomplete: boolean }

/** A source's names read through one dialect of a family (FA-2). */
export interface NameMap {
  readonly family: Family;
  readonly dialect: Dialect;
  readonly prefix: string;
  /** Our names that the source can give, with where. */
  readonly ours: ReadonlyMap<string, Found>;
  readonly ignored: readonly string[];
  readonly unexpected: readonly string[];
  /** Layers of the main stack. */
  readonly layers: number;
  /** Where a name of ours comes from, substitutes included; undefined without a rule, no sources when they are missing. */
  find(ours: string): Found | undefined;
}

/** Reads names through every dialect of the families given and keeps the one that understands most; undefined when none understands any. */
export function recognise(names: readonly string[], among: readonly Family[] = families): NameMap | undefined {
  const maps = among.flatMap((family) => family.dialects.flatMap((dialect) => dialect.prefixes.map((prefix) => mapNames(names, family, dialect, prefix))));
  const understood = (map: NameMap): number => names.length - map.unexpected.length - map.ignored.length;
  const best = maps.reduce((a, b) => (understood(b) > understood(a) ? b : a));
  return understood(best) === 0 ? undefined : best;
}

export function mapNames(names: readonly string[], family: Family, dialect: Dialect, prefix: string): NameMap {
  const rules = compile(dialect, prefix);
  const actual = new Map(names.map((name) => [(dialect.spellings ?? []).reduce((text, [from, to]) => text.replace(from, to), name), name]));
  const ours = new Map<string, Found>(), ignored: string[] = [], unexpected: string[] = [];
  let layers = 0;
  const take = (rule: Rule, layer: string | undefined): Found => {
    const theirs = prefixed(rule, prefix).map((name) => fillIn(name, layer));
    const sources = theirs.filter((name) => actual.has(name)).map((name) => actual.get(name)!);
    return { rule, sources, incomplete: sources.length < theirs.length };
  };
  for (const [spelled, name] of actual) {
    const known = lookUp(rules.theirs, spelled);
    if (known) {
      ours.set(fillIn(known.rule.ours, known.layer), take(known.rule, known.layer));
      if (/^(layers|blocks|encoder\.layer|encoder\.blocks)\.\{i\}/.test(known.rule.ours)) layers = Math.max(layers, Number(known.layer) + 1);
    } else (family.ignored.some((pattern) => pattern.test(name)) ? ignored : unexpected).push(name);
  }
  return {
    family, dialect, prefix, ours, ignored, unexpected, layers,
    find(name) {
      const known = lookUp(rules.ours, name);
      if (!known) return undefined;
      const found = take(known.rule, known.layer);
      const substitute = known.rule.orElse === undefined ? undefined : fillIn(withPrefix(known.rule, known.rule.orElse, prefix), known.layer);
      const other = substitute === undefined ? undefined : actual.get(substitute);
      return found.sources.length === 0 && other !== undefined ? { rule: known.rule, sources: [other], incomplete: false } : found;
    },
  };
}

/** What a tensor of ours is called in a dialect; undefined when it has no name there. */
export function theirNames(ours: string, dialect: Dialect): { rule: Rule; names: readonly string[] } | undefined {
  const [prefix] = dialect.prefixes;
  const known = lookUp(compile(dialect, prefix).ours, ours);
  return known && { rule: known.rule, names: prefixed(known.rule, prefix).map((name) => fillIn(name, known.layer)) };
}

type DialectRule = Dialect["rules"][number];
interface Compiled { ours: Map<string, DialectRule>; theirs: Map<string, DialectRule> }

const compiled = new WeakMap<Dialect, Map<string, Compiled>>();

function compile(dialect: Dialect, prefix: string): Compiled {
  const known = compiled.get(dialect) ?? compiled.set(dialect, new Map()).get(dialect)!;
  const made = known.get(prefix) ?? {
    ours: new Map(dialect.rules.map((rule) => [rule.ours, rule])),
    theirs: new Map(dialect.rules.flatMap((rule) => prefixed(rule, prefix).map((name) => [name, rule] as const))),
  };
  known.set(prefix, made);
  return made;
}

const prefixed = (rule: DialectRule, prefix: string): string[] =>
  (typeof rule.theirs === "string" ? [rule.theirs] : rule.theirs).map((name) => withPrefix(rule, name, prefix));
const withPrefix = (rule: DialectRule, name: string, prefix: string): string => (rule.bare ? name : prefix + name);

const fillIn = (name: string, layer: string | undefined): string => (layer === undefined ? name : name.replace("{i}", layer));

/** By the whole name, else with its first number read as that of a layer. */
function lookUp(rules: ReadonlyMap<string, DialectRule>, name: string): { rule: DialectRule; layer?: string } | undefined {
  const whole = rules.get(name);
  if (whole) return { rule: whole };
  const layer = /(?<=\.)(0|[1-9]\d*)(?=\.)/.exec(name);
  const rule = layer ? rules.get(`${name.slice(0, layer.index)}{i}${name.slice(layer.index + layer[0].length)}`) : undefined;
  return rule && { rule, layer: layer![0] };
}
