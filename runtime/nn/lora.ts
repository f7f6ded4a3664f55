import { RuntimeError, nearest } from "../errors.ts";
import { withoutRecording } from "../autograd/index.ts";
import * as ops from "../ops/index.ts";
import { Scope, type Tensor, assign, fnv1a32, full, widened } from "../tensor/index.ts";
import { type Randomness, drawnBy } from "./drop-path.ts";
import { entered, left } from "./members.ts";
import { Parameter, type Parameters } from "./parameter.ts";
import { alike, sequenceShare } from "./sequence-share.ts";

/**
 * LoRA: a weight learns through a product of two thin matrices beside it. Sources: Hu et al. 2021; rsLoRA: Kalajdzievski 2023.
 *   linear: y = x W' + s dropout(x) A' B', A (r, in), B (out, r);   table: rows + s A'[ids] B', A (r, V), B (D, r);   s = alpha / r, or alpha / sqrt(r)
 *
 * LO-1: an adapter that has just begun (B = 0) changes no bit of what the weight gives.
 * LO-2: merged or beside the weight, an adapter gives the same up to rounding; unmerge after merge gives the weight back up to rounding.
 * LO-4: beside a weight that is shared out, what meets the split side is: B where outputs are, A where inputs are; the other is alike.
 * LO-3: several adapters lie on one weight by name; the active ones take part, in the order in which they were attached.
 * Names: lora_A.weight, lora_B.weight (of tables lora_embedding_A, lora_embedding_B) of the adapter called "default", of others
 * lora_A.<name>.weight ...: those of PEFT.
 */
export interface LoraOptions {
  /** Default "default". */
  name?: string;
  r: number;
  alpha: number;
  /** Of the input of A, while training. */
  dropout?: number;
  rslora?: boolean;
  /** Ends of names, as `q_proj` or `layers.0.mlp.up_proj`. Default: every linear map, no table. */
  targets?: readonly string[];
  /** It takes part and does not learn: an adapter of an earlier stage. */
  frozen?: boolean;
}

interface Pair { a: Parameter; b: Parameter; scale: number; dropout: number; site: number; active: boolean; merged: boolean }

/** The adapters on one weight (out, in), or on a table (V, D). */
export class Adapters {
  readonly #pairs = new Map<string, Pair>();

  constructor(readonly weight: Parameter, readonly kind: "linear" | "table") {}

  /** `path`: the weight's place in the model, which keys dropout. Throws ERR_INPUT for a name that is taken. */
  attach(path: string, { name = plain, r, alpha, dropout = 0, rslora = false, frozen = false }: LoraOptions): void {
    if (this.#pairs.has(name)) throw new RuntimeError("ERR_INPUT", `${path}: an adapter called "${name}" is there already. Give the other one another name.`, { path, name });
    const [rows, columns] = this.weight.shape;
    const [from, to] = this.kind === "linear" ? [columns, rows] : [rows, columns];
    const o = { trainable: !frozen, ...(this.kind === "table" && { decay: false }) };
    this.#pairs.set(name, {
      a: new Parameter([r, from], { kind: "uniform", bound: from ** -0.5 }, o), b: new Parameter([to, r], { kind: "zeros" }, o),
      scale: alpha / (rslora ? Math.sqrt(r) : r), dropout, site: fnv1a32(`${path}.lora.${name}`), active: true, merged: false,
    });
  }

  parameters(): Parameters {
    return Object.fromEntries([...this.#pairs].flatMap(([name, { a, b }]) => {
      const label = name === plain ? "" : `.${name}`;
      return this.kind === "linear" ? [[`lora_A${label}.weight`, a], [`lora_B${label}.weight`, b]] : [[`lora_embedding_A${label}`, a], [`lora_embedding_B${label}`, b]];
    }));
  }

  get names(): string[] {
    return [...this.#pairs.keys()];
  }

  get state(): string {
    return [...this.#pairs].map(([name, { active, merged }]) => `${name}${merged ? "=" : active ? "+" : "-"}`).join("");
  }

  activate(names: readonly string[]): void {
    for (const [name, pair] of this.#pairs) pair.active = names.includes(name);
  }

  /** y (..., out) = x W' + b -> y with what the active adapters add. x (B, ..., in). */
  addTo(y: Tensor, x: Tensor, keys: Randomness | undefined): Tensor {
    for (const { a, b, scale, dropout, site } of this.#beside()) {
      const given = dropout > 0 && keys?.training ? dropped(x, a, { p: dropout, ...drawnBy(keys), site }) : x;
      y = ops.add(y, ops.scale(thinProduct(given, a, b), scale));
    }
    return y;
  }

  /** rows (..., D) of the table at `ids` -> rows with what the active adapters add. */
  addRows(rows: Tensor, ids: Tensor): Tensor {
    for (const { a, b, scale } of this.#beside()) rows = ops.add(rows, ops.scale(ops.linear(ops.gatherRows(ops.permute(a.value, [1, 0]), ids), ofAllRows(a, b)), scale));
    return rows;
  }

  /** The weight with what the active adapters add, for heads that share a table. */
  whole(): Tensor {
    return this.#beside().reduce((weight, pair) => ops.add(weight, this.#product(pair)), this.weight.value);
  }

  /** W += s B A, in place; does nothing where it is merged already. */
  merge(name: string): void {
    this.#move(name, true, 1);
  }

  /** W -= s B A, in place; does nothing where it is not merged. */
  unmerge(name: string): void {
    this.#move(name, false, -1);
  }

  #move(name: string, merged: boolean, sign: 1 | -1): void {
    const pair = this.#pairs.get(name);
    if (!pair || pair.merged === merged) return;
    const scope = new Scope("merge of an adapter");
    try {
      scope.enter(() => withoutRecording(() => assign(ops.add(this.weight.value, ops.scale(this.#product(pair), sign)), this.weight.value)));
    } finally {
      scope.close();
    }
    pair.merged = merged;
  }

  #product({ a, b, scale }: Pair): Tensor {
    const product = this.kind === "linear" ? ops.matmul(b.value, a.value) : ops.matmul(a.value, ofAllRows(a, b), { transA: true, transB: true });
    return ops.scale(product, scale);
  }

  #beside(): Pair[] {
    return [...this.#pairs.values()].filter(({ active, merged }) => active && !merged);
  }
}

/** x A' B', summed or shared out as the weight that they lie on. Where tokens are shared out, x has been gathered for A, and B is applied to the tokens here. */
function thinProduct(x: Tensor, a: Parameter, b: Parameter): Tensor {
  if (a.split) return ops.linear(left(ops.linear(x, a.value), a.split), alike(b.value));
  return sequenceShare() ? ops.linear(ops.linear(x, alike(a.value)), b.value) : ops.linear(entered(ops.linear(x, a.value), b), b.value);
}

/** B of a table, which learns from the rows of all members where A has only those here. */
const ofAllRows = (a: Parameter, b: Parameter): Tensor => (a.split ? a.split.members.enter(b.value) : b.value);

/** Dropout of the input of A, which may be this member's share of it: what is dropped is drawn for the whole. */
function dropped(x: Tensor, { split, wholeShape }: Parameter, o: ops.DropoutOptions): Tensor {
  if (!split) return ops.dropout(x, o);
  const { index } = split.members, width = x.shape[x.rank - 1], whole = [...x.shape.slice(0, -1), wholeShape[1]];
  return ops.mul(x, ops.slice(ops.dropout(full(whole, 1, widened(x.dtype)), o), -1, index * width, width));
}

/** PEFT's name for the one adapter that needs none. */
const plain = "default";

/** What adapters can lie on: `nn.linear`, `nn.embedding`. */
export interface Adaptable { readonly adapters: Adapters }

/** The adapters of a model whose parts have names: `layers.0.self_attn.q_proj`. */
export class AdapterSet {
  constructor(readonly parts: Readonly<Record<string, Adaptable>>, readonly prefix = "") {}

  /** Puts an adapter on every part whose name ends as a target says. Before the parameters are collected. Throws ERR_INPUT for a target that no part has. */
  attach(o: LoraOptions): this {
    const names = Object.keys(this.parts);
    const targets = o.targets ?? names.filter((name) => this.parts[name].adapters.kind === "linear");
    const chosen = new Set<string>();
    for (const target of targets) {
      const fitting = names.filter((name) => name === target || name.endsWith(`.${target}`));
      if (fitting.length === 0) {
        const guess = nearest(target, [...new Set(names.map((name) => name.split(".").at(-1)!))]);
        throw new RuntimeError("ERR_INPUT", `LoRA target "${target}": expected the end of a name such as ${names.at(-1)}, found none that fits.${guess ? ` Did you mean "${guess}"?` : ""}`, { target });
      }
      for (const name of fitting) chosen.add(name);
    }
    for (const name of names) if (chosen.has(name)) this.parts[name].adapters.attach(this.prefix + name, o);
    return this;
  }

  get names(): string[] {
    return [...new Set(Object.values(this.parts).flatMap(({ adapters }) => adapters.names))];
  }

  /** Says which take part and which are merged: what was recorded under one state is wrong under another. */
  get state(): string {
    return Object.entries(this.parts).map(([name, { adapters }]) => adapters.state && `${name}:${adapters.state}`).filter(Boolean).join(" ");
  }

  /** Only these take part from now on. Throws ERR_INPUT for a name that no part knows. */
  activate(...names: string[]): void {
    for (const name of names) this.#known(name);
    for (const { adapters } of Object.values(this.parts)) adapters.activate(names);
  }

  merge(name: string): void {
    this.#known(name);
    for (const { adapters } of Object.values(this.parts)) adapters.merge(name);
  }

  unmerge(name: string): void {
    this.#known(name);
    for (const { adapters } of Object.values(this.parts)) adapters.unmerge(name);
  }

  #known(name: string): void {
    if (this.names.includes(name)) return;
    throw new RuntimeError("ERR_INPUT", `adapter "${name}": expected one of ${this.names.join(", ") || "none: no adapter is attached"}.`, { name, known: this.names });
  }
}

const isAdapter = (name: string): boolean => /\.lora_(A|B|embedding_A|embedding_B)(\.|$)/.test(name);

/** The parameters that are no part of an adapter, in their order. */
export const baseOf = (parameters: Parameters): Parameters => Object.fromEntries(Object.entries(parameters).filter(([name]) => !isAdapter(name)));

/** Freezes what is no part of an adapter and has none of `train` in its name: LongLoRA's `embed` and `norm` train beside it. */
export function freezeBase(parameters: Parameters, train: readonly string[] = []): void {
  for (const [name, parameter] of Object.entries(baseOf(parameters))) if (!train.some((part) => name.includes(part))) parameter.freeze();
}
