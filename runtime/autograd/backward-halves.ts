import { Tensor } from "../tensor/index.ts";
import type { GradientSlots } from "./gradient-slots.ts";
import type { Entry, GradientRule } from "./tape.ts";

/** A rule that the second half runs, or whose gradients it adds where their turn comes. */
interface Later { rule: GradientRule<unknown>; withheld?: readonly (Tensor | undefined)[] }

/** An entry with rules left. `dys`: gradients of its outputs, held; absent where they come in the second walk; empty where all is withheld. */
interface Unfinished { entry: Entry; dys?: readonly (Tensor | undefined)[]; rules: Later[] }

/**
 * A backward in two walks over the same entries: first to the watched tensors (I of a zero-bubble schedule), then, whenever there is
 * time, to the parameters (W). Source: Qi et al. 2023, "Zero bubble pipeline parallelism", section 2.
 *
 * BH-1: the bits of one walk. A tensor that leads to no watched one gets all its gradients in the second walk, in the order of the one
 *       walk, also those that a rule computed together with a gradient of the first.
 * BH-2: between the walks live, of the gradients, those of the outputs whose rules are left; of the recording, what these rules look at.
 */
export class BackwardHalves {
  readonly #leading: ReadonlySet<Tensor>;
  #unfinished: Unfinished[] = [];

  /** `wants`: must a gradient reach it? */
  constructor(private readonly entries: readonly Entry[], private readonly slots: GradientSlots,
    private readonly watched: ReadonlySet<Tensor>, private readonly wants: (input: unknown) => input is Tensor) {
    this.#leading = leadingFrom(watched, entries);
  }

  /** The gradients of watched tensors. */
  inputs(): Map<Tensor, Tensor> {
    for (let i = this.entries.length - 1; i >= 0; i--) this.#toInputs(this.entries[i]);
    return this.slots.handOut((value) => this.watched.has(value));
  }

  /** The gradients of everything else that wants one. */
  weights(): Map<Tensor, Tensor> {
    for (const unfinished of this.#unfinished) this.#toWeights(unfinished);
    this.#unfinished = [];
    return this.slots.handOut();
  }

  /** After `inputs`: what was recorded and no rule that is left looks at. */
  unneeded(): Set<Tensor> {
    const found = new Set<Tensor>();
    for (const { outputs, saved } of this.entries) {
      for (const output of outputs) found.add(output);
      eachTensor(saved, (tensor) => found.add(tensor));
    }
    for (const { entry: { saved }, rules } of this.#unfinished) {
      if (rules.some(({ withheld }) => !withheld)) eachTensor(saved, (tensor) => found.delete(tensor));
    }
    return found;
  }

  #toInputs(entry: Entry): void {
    const { outputs, inputs, op } = entry, wanted = entry.rules.filter((rule) => rule.operands.some((position) => this.wants(inputs[position])));
    if (!outputs.some((output) => this.#leading.has(output))) {
      if (wanted.length > 0) this.#unfinished.push({ entry, rules: wanted.map((rule) => ({ rule })) });
      return;
    }
    const dys = outputs.map((output) => this.slots.take(output, this.watched.has(output)));
    if (dys.every((dy) => dy === undefined)) return;
    const rules = wanted.flatMap((rule): Later[] => {
      if (!rule.operands.some((position) => this.#leading.has(inputs[position] as Tensor))) return [{ rule }];
      const gradients = rule.run(dys, entry.saved);
      const withheld = rule.operands.map((position, i) => {
        const gradient = gradients[i], input = inputs[position];
        if (gradient === undefined) return undefined;
        if (!this.wants(input)) return this.slots.discard(gradient), undefined;
        if (!this.#leading.has(input)) return this.slots.hold(gradient), gradient;
        this.slots.add(input, gradient, op);
        return undefined;
      });
      return withheld.every((gradient) => gradient === undefined) ? [] : [{ rule, withheld }];
    });
    if (rules.some(({ withheld }) => !withheld)) this.#unfinished.push({ entry, dys, rules });
    else {
      if (rules.length > 0) this.#unfinished.push({ entry, dys: [], rules });
      for (const dy of dys) if (dy) this.slots.release(dy);
    }
  }

  #toWeights({ entry, dys: known, rules }: Unfinished): void {
    const dys = known ?? entry.outputs.map((output) => this.slots.take(output, false));
    if (!known && dys.every((dy) => dy === undefined)) return;
    for (const { rule, withheld } of rules) {
      const gradients = withheld ?? rule.run(dys, entry.saved);
      rule.operands.forEach((position, i) => {
        const gradient = gradients[i], input = entry.inputs[position];
        if (gradient === undefined) return;
        if (this.wants(input)) this.slots.add(input, gradient, entry.op);
        else this.slots.discard(gradient);
        if (withheld) this.slots.release(gradient);
      });
    }
    for (const dy of dys) if (dy) this.slots.release(dy);
  }
}

/** The watched tensors and what was made from them: a gradient must pass there to reach a watched one. */
function leadingFrom(watched: ReadonlySet<Tensor>, entries: readonly Entry[]): Set<Tensor> {
  const leading = new Set(watched);
  for (const { inputs, outputs } of entries) {
    if (inputs.some((input) => leading.has(input as Tensor))) for (const output of outputs) leading.add(output);
  }
  return leading;
}

/** Tensors in what an op saved: itself, or in objects and lists of it. */
function eachTensor(saved: unknown, work: (tensor: Tensor) => void): void {
  if (saved instanceof Tensor) work(saved);
  else if (typeof saved === "object" && saved !== null && !ArrayBuffer.isView(saved)) for (const value of Object.values(saved)) eachTensor(value, work);
}
