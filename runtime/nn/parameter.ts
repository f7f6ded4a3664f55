import { RuntimeError, ShapeError } from "../errors.ts";
import { type Shape, type Tensor, fromArray, sameShape, sizeOf } from "../tensor/index.ts";
import { type Initializer, initialValues } from "./initializer.ts";
import { type Split, shareOf } from "./members.ts";

/**
 * A trained tensor: a shape, how it starts, and, once materialised, a value. The parameter owns its value.
 * `name` is the global name ("vision.cls_token"), given when it is materialised.
 *
 * P-1: a parameter that is shared out (`shareOut`) holds its member's share of what the whole would hold: shape, size, value and all that
 *      an optimizer keeps are local; `wholeShape` and what checkpoints hold are not.
 */
export class Parameter {
  name = "";
  /** Its value came from elsewhere (a checkpoint), not from its start. */
  loaded = false;
  #trainable: boolean;
  #seed: number | undefined;
  #decay: boolean | undefined;
  #value: Tensor | undefined;
  #lent: Tensor | undefined;
  #split: Split | undefined;
  #shape: Shape;

  constructor(readonly wholeShape: Shape, readonly init: Initializer, o: { decay?: boolean; trainable?: boolean } = {}) {
    this.#decay = o.decay;
    this.#trainable = o.trainable ?? true;
    this.#shape = wholeShape;
  }

  get shape(): Shape {
    return this.#shape;
  }

  /** How it is shared out, if it is. */
  get split(): Split | undefined {
    return this.#split;
  }

  /** Its value will be a share of the whole. Before it has one. Throws ShapeError where the members do not divide it. */
  shareOut(split: Split): void {
    const { axis, parts, members: { count } } = split;
    if (this.#value || parts.reduce((sum, size) => sum + size, 0) !== this.wholeShape[axis] || parts.some((size) => size % count !== 0)) {
      throw new ShapeError({ op: "Parameter.shareOut", operand: this.name || "parameter", expected: `no value yet, and dimension ${axis} in parts (${parts.join(", ")}) that ${count} members divide`, got: this.wholeShape,
        fix: "Share out before materialise, by a number that divides heads and widths." });
    }
    this.#split = split;
    this.#shape = this.wholeShape.map((size, i) => (i === axis ? size / count : size));
  }

  get trainable(): boolean {
    return this.#trainable;
  }

  /** The seed of its random start, where that is not the run's. */
  get seed(): number | undefined {
    return this.#seed;
  }

  /** No gradient and no optimizer reaches it from now on. With a seed of its own it starts alike in every run. */
  freeze(seed?: number): void {
    this.#trainable = false;
    this.#seed = seed ?? this.#seed;
    if (this.#value) this.#value.requiresGrad = false;
  }

  get size(): number {
    return sizeOf(this.shape);
  }

  /** Does weight decay apply? By name and shape, unless the module said so. */
  get decay(): boolean {
    return this.#decay ?? decays(this.name, this.shape);
  }

  get value(): Tensor {
    if (this.#lent) return this.#lent;
    if (this.#value === undefined) {
      throw new RuntimeError("ERR_HANDLE", `parameter ${this.name || "without a name yet"} (${this.shape.join(", ")}) has no value.`
        + " Call materialise() on the module's parameters before forward().", { name: this.name });
    }
    return this.#value;
  }

  get materialised(): boolean {
    return this.#value !== undefined;
  }

  /** The parameter takes the tensor over from whoever owned it, and frees its former value. */
  set(tensor: Tensor): void {
    if (!sameShape(tensor.shape, this.shape)) {
      throw new ShapeError({ op: "Parameter.set", operand: this.name || "value", expected: `(${this.shape.join(", ")})`, got: tensor.shape,
        fix: "A parameter keeps its shape; resize tables before setting them." });
    }
    tensor.scope?.keep(tensor);
    tensor.requiresGrad = this.trainable;
    if (this.#value !== tensor) this.#value?.dispose();
    this.#value = tensor;
  }

  /** Stands in for the value from now on, and stays the lender's: a weight that belongs to another component. undefined: the loan ends. */
  lend(tensor: Tensor | undefined): void {
    if (tensor && !sameShape(tensor.shape, this.shape)) {
      throw new ShapeError({ op: "Parameter.lend", operand: this.name || "value", expected: `(${this.shape.join(", ")})`, got: tensor.shape, fix: "Lender and borrower must have the same sizes." });
    }
    this.#lent = tensor;
  }

  /** Frees the value. Allowed at any time. */
  release(): void {
    this.#value?.dispose();
    this.#value = undefined;
  }
}

/** Dotted names, relative to the module. */
export type Parameters = Record<string, Parameter>;

export interface Module {
  parameters(): Parameters;
}

type Branch = Module | Parameter | readonly Module[] | undefined;

/** Names for a tree: { qkv: linear, gamma_1: Parameter, blocks: [a, b] } -> "qkv.weight", "gamma_1", "blocks.0.norm1.weight" ... */
export function collect(tree: Record<string, Branch>): Parameters {
  const result: Parameters = {};
  const put = (name: string, parameter: Parameter) => {
    if (name in result) {
      throw new RuntimeError("ERR_PLUGIN", `two parameters of one module are called ${name}. Give them different names.`, { name });
    }
    result[name] = parameter;
  };
  const walk = (name: string, branch: Branch): void => {
    if (branch === undefined) return;
    if (branch instanceof Parameter) put(name, branch);
    else if (Array.isArray(branch)) branch.forEach((module, i) => walk(`${name}.${i}`, module));
    else for (const [inner, parameter] of Object.entries((branch as Module).parameters())) put(`${name}.${inner}`, parameter);
  };
  for (const [name, branch] of Object.entries(tree)) walk(name, branch);
  return result;
}

export interface MaterialiseOptions {
  seed: number;
  /** Put before every name with a dot; "" when the names are complete. */
  prefix: string;
  dtype?: "f32" | "f64";
  /** Values from elsewhere, by global name; undefined = start afresh. */
  load?: (globalName: string, parameter: Parameter) => ArrayLike<number> | undefined;
}

/**
 * Gives every parameter its global name and its value. A random start depends on (seed, global name) alone, so it is
 * the same in every layout and order. Owned by the parameters, also when a scope is entered.
 */
export function materialise(parameters: Parameters, { seed, prefix, dtype = "f32", load }: MaterialiseOptions): void {
  for (const [local, parameter] of Object.entries(parameters)) {
    parameter.name = prefix === "" ? local : `${prefix}.${local}`;
    const given = load?.(parameter.name, parameter);
    parameter.loaded = given !== undefined;
    const data = given ?? initialValues(parameter.init, sizeOf(parameter.wholeShape), parameter.seed ?? seed, parameter.name);
    parameter.set(fromArray(shareOfValues(parameter, data), parameter.shape, dtype));
  }
}

/** Of values of the whole tensor, those of this member's share. Throws ShapeError where they are not as many as the whole has. */
export function shareOfValues({ wholeShape, split, size, name }: Parameter, values: ArrayLike<number>): ArrayLike<number> {
  if (values.length !== sizeOf(wholeShape)) {
    throw new ShapeError({ op: "materialise", operand: name, expected: `${sizeOf(wholeShape)} elements for (${wholeShape.join(", ")})`, got: [values.length],
      fix: "The checkpoint or the initial data belongs to another size of this model." });
  }
  if (!split) return values;
  const share = new Float64Array(size), inner = sizeOf(wholeShape.slice(split.axis + 1)), row = wholeShape[split.axis] * inner;
  let to = 0;
  for (let from = 0; from < values.length; from += row) {
    for (const { start, length } of shareOf(split, split.members)) {
      for (let i = from + start * inner; i < from + (start + length) * inner; i++) share[to++] = values[i];
    }
  }
  return share;
}

/** The counterpart: from the shares of all members, in order, the values of the whole. */
export function joinShares({ wholeShape, split }: Parameter, shares: readonly ArrayLike<number>[]): Float64Array {
  const { axis, members: { count } } = split!, whole = new Float64Array(sizeOf(wholeShape)), inner = sizeOf(wholeShape.slice(axis + 1)), row = wholeShape[axis] * inner;
  for (const [index, share] of shares.entries()) {
    let from = 0;
    for (let to = 0; to < whole.length; to += row) {
      for (const { start, length } of shareOf(split!, { index, count })) {
        for (let i = to + start * inner; i < to + (start + length) * inner; i++) whole[i] = share[from++];
      }
    }
  }
  return whole;
}

/** Freezes all of them (`Parameter.freeze`): for teachers, and for what an earlier stage trained. */
export function freeze(parameters: Parameters, o: { seed?: number } = {}): Parameters {
  for (const parameter of Object.values(parameters)) parameter.freeze(o.seed);
  return parameters;
}

export function release(parameters: Parameters): void {
  for (const parameter of Object.values(parameters)) parameter.release();
}

export function countParameters(parameters: Parameters): number {
  return Object.values(parameters).reduce((total, parameter) => total + parameter.size, 0);
}

/**
 * No decay for vectors and scalars, biases, tokens, positions, embedding tables and Fourier frequencies.
 * The relative bias table does decay, as in BEiT's original code.
 */
const tokens = /(^|\.)(bias|cls_token|mask_token|no_box|not_a_point|point_embeddings|pos_embed|positional_embedding)$/;
const tables = /(^|\.)(embed_tokens|\w+_embeddings|token_embedding|type_embed|Wr)\.weight$/;

const decays = (name: string, shape: Shape): boolean => shape.length > 1 && !tokens.test(name) && !tables.test(name);
