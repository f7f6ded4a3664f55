import { RuntimeError, ShapeError } from "../errors.ts";
import { Scope, type Tensor, refusePromise, sameShape, scoped } from "../tensor/index.ts";
import { BackwardHalves } from "./backward-halves.ts";
import { GradientSlots } from "./gradient-slots.ts";

/** Gradients of one operand or of a group that one kernel computes together. */
export interface GradientRule<S> {
  /** Positions of the operands in the op's arguments. */
  operands: readonly number[];
  run(dys: readonly (Tensor | undefined)[], saved: S): readonly (Tensor | undefined)[];
}

/** One recorded call. `saved` is all that its gradients may look at. */
export interface Entry<S = unknown> {
  op: string;
  inputs: readonly unknown[];
  outputs: readonly Tensor[];
  rules: readonly GradientRule<S>[];
  saved: S;
  /** In place of rules: makes the outputs again, to be recorded this time (T-6). `inputs` are those that need a gradient. */
  again?: () => readonly Tensor[];
}

/** What `again` did. `scope` owns what it made. */
export interface SecondRun { entries: readonly Entry[]; outputs: readonly Tensor[]; scope: Scope }

/**
 * What `backward` found, for trainable parameters and watched tensors. Each gradient has storage of its own and belongs
 * to the scope entered during `backward`.
 */
export interface Gradients {
  get(tensor: Tensor): Tensor | undefined;
}

/** The gradient of an output, from outside. */
export type Seed = readonly [output: Tensor, gradient: Tensor];

/** A backward that has reached the watched tensors. The seeds must live until `weights`, which runs once or never. */
export interface InputHalf extends Gradients {
  /** What was recorded and `weights` does not look at: whoever owns such a tensor may free it. */
  unneeded(): ReadonlySet<Tensor>;
  /** The other half: the gradients of parameters. */
  weights(): Gradients;
}

/**
 * Remembers the ops of a forward pass and walks them back.
 *
 * T-1: entries are visited strictly in reverse of recording; a tensor used several times gets its gradients added in visiting order.
 * T-2: an op is recorded only inside `record`, and only when one of its operands needs a gradient.
 * T-3: the tape frees only gradients that it made itself and nobody needs any more. What an entry saved lives as long as its scope.
 * T-4: `backward` spends the recording: the entries are gone afterwards.
 * T-5: `backwardInputs` and then its `weights` give the bits of `backward`.
 * T-6: what runs inside `recomputed` is forgotten but for its outputs, and runs again when a gradient comes to them. Its ops are then
 *      walked back where they would have been without it, so gradients are the same bits. Source: Chen et al. 2016.
 */
export class Tape {
  #entries: Entry[] = [];
  #reached = new Set<Tensor>();
  #watched = new Set<Tensor>();
  #forgets = true;

  /** Records the ops that `work` calls. Synchronous; the innermost tape records. */
  record<T>(work: () => T): T {
    const outer = recording;
    recording = this;
    try {
      return refusePromise(work(), "tape");
    } finally {
      recording = outer;
    }
  }

  /** Marks a tensor whose gradient is wanted: the input of a stage, for example. */
  watch(tensor: Tensor): Tensor {
    this.#watched.add(tensor);
    return tensor;
  }

  /** Does a gradient have to reach this tensor? */
  needs(tensor: Tensor): boolean {
    return tensor.requiresGrad || this.#reached.has(tensor) || this.#watched.has(tensor);
  }

  /** Number of calls recorded and not yet walked back. */
  get length(): number {
    return this.#entries.length;
  }

  /** Called by `defineOp` for each call made while recording. */
  add(entry: Entry): void {
    for (const input of entry.inputs) {
      if (input !== undefined && this.needs(input as Tensor)) {
        this.#entries.push(entry);
        for (const output of entry.outputs) this.#reached.add(output);
        return;
      }
    }
  }

  /**
   * Runs `work` and keeps nothing of it but what it returns (T-6). It runs a second time in `backward` and must do the same then: it may
   * read whatever lives as long as the entered scope, and draws random numbers by counters alone. It may contain others of its kind.
   */
  recomputed<T extends Tensor | readonly Tensor[]>(work: () => T): T {
    if (!this.#forgets) return work();
    const before = this.#entries.length, result = scoped("recomputed", work);
    const forgotten = this.#entries.splice(before), made = new Set(forgotten.flatMap((entry) => entry.outputs));
    const inputs = new Set(forgotten.flatMap((entry) => entry.inputs.filter((input) => this.#wants(input) && !made.has(input))));
    const places = [...asList(result).keys()].filter((i) => made.has(asList(result)[i])), chosen = (all: readonly Tensor[]) => places.map((i) => all[i]);
    const outputs = chosen(asList(result));
    for (const tensor of made) if (!outputs.includes(tensor)) this.#reached.delete(tensor);
    if (outputs.length > 0) this.#entries.push({ op: "recomputed", inputs: [...inputs], outputs, rules: [], saved: undefined, again: () => chosen(asList(work())) });
    return result;
  }

  /**
   * Walks back from the given gradients of outputs. Seeds stay the caller's and are not changed.
   * Throws ERR_TAPE for an output that this tape did not record, ShapeError when a seed does not fit its output.
   */
  backward(seeds: readonly Seed[]): Gradients {
    return this.#spend(seeds, (entries, slots) => {
      this.#walk(entries, slots);
      return slots.handOut();
    });
  }

  /** Walks back to the watched tensors only; what parameters get is left for `weights` (T-5, `BackwardHalves`). Throws as `backward`. */
  backwardInputs(seeds: readonly Seed[]): InputHalf {
    const reached = this.#reached; // the tape itself forgets it
    const wants = (input: unknown): input is Tensor => input !== undefined && ((input as Tensor).requiresGrad || reached.has(input as Tensor) || this.#watched.has(input as Tensor));
    return this.#spend(seeds, (entries, slots) => {
      const halves = new BackwardHalves(entries, slots, this.#watched, wants, (again, flat) => this.#runAgain(again, reached, !flat)), gradients = halves.inputs();
      return {
        get: (tensor) => gradients.get(tensor),
        unneeded: () => halves.unneeded(),
        weights: () => withoutRecording(() => halves.weights()),
      };
    });
  }

  #spend<T>(seeds: readonly Seed[], walk: (entries: readonly Entry[], slots: GradientSlots) => T): T {
    for (const seed of seeds) this.#checkSeed(seed);
    const entries = this.#entries;
    try {
      return withoutRecording(() => {
        const slots = new GradientSlots();
        for (const [output, gradient] of seeds) slots.seed(output, gradient);
        return walk(entries, slots);
      });
    } finally {
      this.#entries = [];
      this.#reached = new Set();
    }
  }

  #walk(entries: readonly Entry[], slots: GradientSlots): void {
    for (let i = entries.length - 1; i >= 0; i--) this.#visit(entries[i], slots);
  }

  #visit(entry: Entry, slots: GradientSlots): void {
    const dys = entry.outputs.map((output) => slots.take(output, this.#watched.has(output)));
    if (dys.every((dy) => dy === undefined)) return;
    if (entry.again) return this.#visitAgain(entry.again, dys, slots);
    for (const rule of entry.rules) {
      if (!rule.operands.some((position) => this.#wants(entry.inputs[position]))) continue;
      const gradients = rule.run(dys, entry.saved);
      rule.operands.forEach((position, i) => {
        const gradient = gradients[i];
        const input = entry.inputs[position];
        if (gradient === undefined) return;
        if (this.#wants(input)) slots.add(input, gradient, entry.op);
        else slots.discard(gradient);
      });
    }
    for (const dy of dys) if (dy) slots.release(dy);
  }

  #visitAgain(again: () => readonly Tensor[], dys: readonly (Tensor | undefined)[], slots: GradientSlots): void {
    const { entries, outputs, scope } = this.#runAgain(again, this.#reached);
    try {
      slots.move(dys, outputs);
      this.#walk(entries, slots);
    } finally {
      scope.close();
    }
  }

  /** Records the second run, as this tape would. Without `forgets` blocks inside of it are recorded as well. */
  #runAgain(again: () => readonly Tensor[], reached: Set<Tensor>, forgets = true): SecondRun {
    const scope = new Scope("recomputed"), tape = new Tape();
    tape.#reached = reached;
    tape.#watched = this.#watched;
    tape.#forgets = forgets;
    try {
      const outputs = scope.enter(() => tape.record(again));
      return { entries: tape.#entries, outputs, scope };
    } catch (error) {
      scope.close();
      throw error;
    }
  }

  #wants(input: unknown): input is Tensor {
    return input !== undefined && this.needs(input as Tensor);
  }

  #checkSeed([output, gradient]: Seed): void {
    if (!this.needs(output)) {
      throw new RuntimeError("ERR_TAPE", `backward: ${output} was not recorded by this tape, or nothing it depends on needs a gradient,`
        + " or backward already ran."
        + " Compute it inside record(), from parameters or watched tensors, once per backward.", { shape: output.shape });
    }
    if (!sameShape(output.shape, gradient.shape) || output.dtype !== gradient.dtype) {
      throw new ShapeError({ op: "backward", operand: "gradient", expected: output.toString(), got: gradient.shape,
        fix: `A gradient has the shape and dtype of its output; this one is ${gradient.dtype}.` });
    }
  }
}

const asList = (result: Tensor | readonly Tensor[]): readonly Tensor[] => (Array.isArray(result) ? result as readonly Tensor[] : [result as Tensor]);

let recording: Tape | undefined;

/** The innermost tape now recording. */
export const recordingTape = (): Tape | undefined => recording;

/** Runs `work` without recording: for constants, metrics and inference inside a recorded section. */
export function withoutRecording<T>(work: () => T): T {
  const outer = recording;
  recording = undefined;
  try {
    return work();
  } finally {
    recording = outer;
  }
}

/** Runs `work`; where a tape records, it keeps what `work` returns and runs it again on the way back (T-6). */
export function recomputed<T extends Tensor | readonly Tensor[]>(work: () => T): T {
  return recording ? recording.recomputed(work) : work();
}
