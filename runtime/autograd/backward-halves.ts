import { Tensor, enteredScope } from "../tensor/index.ts";
import type { GradientSlots } from "./gradient-slots.ts";
import type { Entry, GradientRule, SecondRun } from "./tape.ts";

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
 * BH-3: a recomputed block runs again once: in the first walk when it leads to a watched tensor, and the second walk then looks at what that
 *       run made; else in the second walk, and everything that was recorded lives until then, for nobody knows what the block reads.
 */
export class BackwardHalves {
  readonly #leading: Set<Tensor>;
  #unfinished: Unfinished[] = [];

  /** `wants`: must a gradient reach it? */
  constructor(private readonly entries: readonly Entry[], private readonly slots: GradientSlots,
    private readonly watched: ReadonlySet<Tensor>, private readonly wants: (input: unknown) => input is Tensor,
    private readonly runAgain: (again: () => readonly Tensor[], flat: boolean) => SecondRun) {
    this.#leading = new Set(watched);
    this.#lead(entries);
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
    if (this.#unfinished.some(({ entry }) => entry.again)) return new Set();
    const found = new Set<Tensor>();
    for (const { outputs, saved } of this.entries) {
      for (const output of outputs) found.add(output);
      eachTensor(saved, (tensor) => found.add(tensor));
    }
    for (const tensor of neededBy(this.#unfinished)) found.delete(tensor);
    return found;
  }

  #toInputs(entry: Entry): void {
    const { outputs, inputs, op } = entry, wanted = this.#wanted(entry);
    if (!outputs.some((output) => this.#leading.has(output))) {
      if (wanted.length > 0 || entry.again) this.#unfinished.push({ entry, rules: wanted.map((rule) => ({ rule })) });
      return;
    }
    const dys = outputs.map((output) => this.slots.take(output, this.watched.has(output)));
    if (dys.every((dy) => dy === undefined)) return;
    if (entry.again) return this.#throughBlock(entry.again, dys);
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

  /** The first walk through the second run of a block. What rules that are left look at goes over to the entered scope. */
  #throughBlock(again: () => readonly Tensor[], dys: readonly (Tensor | undefined)[]): void {
    const { entries, outputs, scope } = this.runAgain(again, true), before = this.#unfinished.length;
    try {
      this.#lead(entries);
      this.slots.move(dys, outputs);
      for (let i = entries.length - 1; i >= 0; i--) this.#toInputs(entries[i]);
      const outer = enteredScope();
      for (const tensor of neededBy(this.#unfinished.slice(before))) {
        if (tensor.scope !== scope) continue;
        if (outer) outer.adopt(tensor);
        else scope.keep(tensor);
      }
    } finally {
      scope.close();
    }
  }

  /** The only walk through a block that leads to no watched tensor. */
  #blockToWeights(again: () => readonly Tensor[], dys: readonly (Tensor | undefined)[]): void {
    const { entries, outputs, scope } = this.runAgain(again, false);
    try {
      this.slots.move(dys, outputs);
      for (let i = entries.length - 1; i >= 0; i--) this.#toWeights({ entry: entries[i], rules: this.#wanted(entries[i]).map((rule) => ({ rule })) });
    } finally {
      scope.close();
    }
  }

  #wanted({ rules, inputs }: Entry): GradientRule<unknown>[] {
    return rules.filter((rule) => rule.operands.some((position) => this.wants(inputs[position])));
  }

  /** Watched tensors lead to themselves, and what is made from what leads does: a gradient must pass there to reach a watched one. */
  #lead(entries: readonly Entry[]): void {
    for (const { inputs, outputs } of entries) {
      if (inputs.some((input) => this.#leading.has(input as Tensor))) for (const output of outputs) this.#leading.add(output);
    }
  }

  #toWeights({ entry, dys: known, rules }: Unfinished): void {
    const dys = known ?? entry.outputs.map((output) => this.slots.take(output, false));
    if (!known && dys.every((dy) => dy === undefined)) return;
    if (entry.again) return this.#blockToWeights(entry.again, dys);
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

/** What the rules that are left look at. */
function neededBy(unfinished: readonly Unfinished[]): Set<Tensor> {
  const needed = new Set<Tensor>();
  for (const { entry: { saved }, rules } of unfinished) if (rules.some(({ withheld }) => !withheld)) eachTensor(saved, (tensor) => needed.add(tensor));
  return needed;
}

/** Tensors in what an op saved: itself, or in objects and lists of it. */
function eachTensor(saved: unknown, work: (tensor: Tensor) => void): void {
  if (saved instanceof Tensor) work(saved);
  else if (typeof saved === "object" && saved !== null && !ArrayBuffer.isView(saved)) for (const value of Object.values(saved)) eachTensor(value, work);
}
