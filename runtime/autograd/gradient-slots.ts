import { RuntimeError } from "../errors.ts";
import { type Tensor, accumulate, allocate, clone, kernel, sameShape } from "../tensor/index.ts";

const addKernel = kernel("add");

/** Who still looks at one storage during a backward pass. */
interface Holders {
  count: number;
  /** A seed: it belongs to the caller, so it is neither written nor freed here. */
  pinned: boolean;
  tensors: Set<Tensor>;
}

/**
 * The gradients under way during one backward pass. Gradients may share storage (the gradient of a sum is the same
 * for both sides), so every storage counts its holders: only a storage with a single holder is added to in place,
 * and one without holders is freed at once.
 */
export class GradientSlots {
  readonly #slots = new Map<Tensor, Tensor>();
  readonly #holders = new Map<Tensor, Holders>();

  /** A gradient from outside. */
  seed(value: Tensor, gradient: Tensor): void {
    this.hold(gradient);
    this.#holders.get(gradient.root)!.pinned = true;
    this.add(value, gradient, "seed");
    this.release(gradient);
  }

  /** Adds to the gradient of `value`. The sum is existing + gradient, whichever way it is computed. */
  add(value: Tensor, gradient: Tensor, op: string): void {
    if (!sameShape(value.shape, gradient.shape) || value.dtype !== gradient.dtype) {
      throw new RuntimeError("ERR_TAPE", `${op}: a gradient rule returned ${gradient} for an operand ${value}. The rule is wrong.`,
        { op, got: gradient.shape, expected: value.shape });
    }
    const existing = this.#slots.get(value);
    if (existing === undefined) {
      this.#slots.set(value, gradient);
      this.hold(gradient);
      return;
    }
    if (this.#exclusive(existing)) {
      accumulate(gradient, existing);
    } else {
      const total = allocate(value.shape, value.dtype);
      addKernel([existing, gradient, total]);
      this.#slots.set(value, total);
      this.hold(total);
      this.release(existing);
    }
    this.discard(gradient);
  }

  /** The finished gradient of an output, or nothing when no gradient reached it. The taker releases it. */
  take(value: Tensor, keepSlot: boolean): Tensor | undefined {
    const gradient = this.#slots.get(value);
    if (gradient === undefined) return undefined;
    if (keepSlot) this.hold(gradient);
    else this.#slots.delete(value);
    return gradient;
  }

  /** What was taken becomes the gradients of other tensors that stand for the same. */
  move(taken: readonly (Tensor | undefined)[], to: readonly Tensor[]): void {
    for (const [i, gradient] of taken.entries()) {
      if (!gradient) continue;
      this.add(to[i], gradient, "recomputed");
      this.release(gradient);
    }
  }

  release(gradient: Tensor): void {
    const holders = this.#holders.get(gradient.root);
    if (holders === undefined || --holders.count > 0) return;
    this.#free(gradient.root, holders);
  }

  /** A gradient that nobody took: freed, unless its storage is held elsewhere. */
  discard(gradient: Tensor): void {
    const holders = this.#holders.get(gradient.root);
    if (holders === undefined) gradient.dispose();
    else holders.tensors.add(gradient);
  }

  /** What remains are leaves and watched tensors; those `of` names are no longer here afterwards. Shared storage is copied, so that each gradient has one of its own. */
  handOut(of: (value: Tensor) => boolean = () => true): Map<Tensor, Tensor> {
    const result = new Map<Tensor, Tensor>();
    for (const [value, gradient] of this.#slots) {
      if (!of(value)) continue;
      this.#slots.delete(value);
      if (this.#exclusive(gradient)) {
        this.#holders.delete(gradient.root);
        result.set(value, gradient);
      } else {
        result.set(value, clone(gradient));
        this.release(gradient);
      }
    }
    return result;
  }

  /** One more looks at it, until `release`. */
  hold(gradient: Tensor): void {
    const holders = this.#holders.get(gradient.root);
    if (holders === undefined) this.#holders.set(gradient.root, { count: 1, pinned: false, tensors: new Set([gradient]) });
    else {
      holders.count++;
      holders.tensors.add(gradient);
    }
  }

  #exclusive(gradient: Tensor): boolean {
    const holders = this.#holders.get(gradient.root)!;
    return holders.count === 1 && !holders.pinned;
  }

  #free(root: Tensor, holders: Holders): void {
    this.#holders.delete(root);
    if (!holders.pinned) for (const tensor of holders.tensors) tensor.dispose();
  }
}
