/**
 * A PEFT adapter that goes on learning beside its base: what a component's option `lora` must say to have these parameters, and their values.
 * LA-1: the component then computes what base and adapter compute together; A, B and tensors that were trained whole are the file's, bit for bit.
 * LA-2: what the option cannot say, one rank and one alpha for all maps, is refused: such an adapter can be merged.
 */
import { RuntimeError } from "../errors.ts";
import type { Adapter } from "./adapter.ts";
import type { StoredTensor } from "./stored.ts";

export interface LiveAdapter {
  /** Of `lora`. */
  option: Record<string, unknown>;
  /** By full name: both halves of every map, and whole tensors that take the place of the base's. */
  tensors: ReadonlyMap<string, StoredTensor>;
}

/** `names`: the component's parameters without adapters, by full name; they begin with `prefix`. The adapter fits them (`requireFit`). */
export function liveAdapter(adapter: Adapter, prefix: string, names: readonly string[]): LiveAdapter {
  const { config, modules, replaced } = adapter, tensors = new Map<string, StoredTensor>();
  const [first] = modules.values();
  if (!first) throw refusal("it holds no LoRA pair");
  const other = [...modules.values()].find(({ rank, scale }) => rank !== first.rank || scale !== first.scale);
  if (other) throw refusal(`${other.path} has rank ${other.rank} and scale ${other.scale}, ${first.path} rank ${first.rank} and scale ${first.scale}; maps that learn side by side have the same`);
  for (const { path, kind, a, b } of modules.values()) {
    tensors.set(`${prefix}${path}.${kind === "linear" ? "lora_A.weight" : "lora_embedding_A"}`, a);
    tensors.set(`${prefix}${path}.${kind === "linear" ? "lora_B.weight" : "lora_embedding_B"}`, b);
  }
  for (const [name, tensor] of replaced) tensors.set(prefix + name, tensor);
  return {
    tensors,
    option: {
      r: first.rank, alpha: first.scale * (config.use_rslora ? Math.sqrt(first.rank) : first.rank), dropout: config.lora_dropout, rslora: config.use_rslora,
      targets: targetsOf([...modules.keys()], names.map((name) => name.slice(prefix.length))), train: partsOf([...replaced.keys()].map((name) => prefix + name), names),
    },
  };
}

/** The ends of names that choose these paths and no others; whole paths where an end would choose more. */
function targetsOf(paths: readonly string[], names: readonly string[]): string[] {
  const ends = [...new Set(paths.map((path) => path.split(".").at(-1)!))];
  return ends.flatMap((end) => {
    const own = paths.filter((path) => path === end || path.endsWith(`.${end}`));
    const all = names.filter((name) => name === `${end}.weight` || name.endsWith(`.${end}.weight`));
    return own.length === all.length ? [end] : own;
  });
}

/** Parts of names that choose the whole tensors: LongLoRA's `embed` and `norm` where these are all there are, else their names. */
function partsOf(whole: readonly string[], names: readonly string[]): string[] {
  const parts = ["embed", "norm"].filter((part) => whole.some((name) => name.includes(part)));
  return names.filter((name) => parts.some((part) => name.includes(part))).length === whole.length ? parts : [...whole];
}

const refusal = (what: string): RuntimeError => new RuntimeError("ERR_CHECKPOINT", `the adapter cannot go on learning: ${what}. Merge it into the weights instead (--adapter).`, { what });
