import { RuntimeError } from "../errors.ts";
import { type Tensor, accumulateMany } from "../tensor/index.ts";

type Named = Map<string, Tensor>;

/**
 * Sums the gradients of microbatches as a binary tree over the microbatch number: [0, n) splits in the middle, each half again.
 *
 * G-1: the sums are the same bits whatever the order of `push`.
 * G-2: a contiguous power-of-two share of the microbatches is a subtree, so data-parallel ranks that sum their own share
 *      and then each other's give the same bits too.
 * G-3: at most one partial sum per tree level is alive when microbatches come in order. The tree owns what is pushed.
 */
export class GradientTree {
  readonly #waiting = new Map<string, Named>();
  readonly #pushed = new Set<number>();

  constructor(readonly microbatches: number) {}

  /** Takes over the tensors of one microbatch, by parameter name. A name without a gradient in it is left out. */
  push(index: number, gradients: Named): void {
    if (!Number.isInteger(index) || index < 0 || index >= this.microbatches || this.#pushed.has(index)) {
      const fault = this.#pushed.has(index) ? "already there" : `not one of 0..${this.microbatches - 1}`;
      throw new RuntimeError("ERR_INPUT", `gradient tree: microbatch ${index} is ${fault}. Each comes once.`, { index });
    }
    this.#pushed.add(index);
    for (const tensor of gradients.values()) tensor.scope?.keep(tensor);
    let node = gradients;
    for (const [low, high, siblingLow, siblingHigh] of pathToRoot(index, this.microbatches)) {
      const sibling = this.#waiting.get(key(siblingLow, siblingHigh));
      if (sibling === undefined) {
        this.#waiting.set(key(low, high), node);
        return;
      }
      this.#waiting.delete(key(siblingLow, siblingHigh));
      node = low < siblingLow ? merge(node, sibling) : merge(sibling, node);
    }
    this.#waiting.set(key(0, this.microbatches), node);
  }

  /** Partial sums alive now: each as large as what is pushed. */
  get partialSums(): number {
    return this.#waiting.size;
  }

  /** The sums, by name; the caller owns them. Throws while a microbatch is missing. */
  result(): Named {
    const root = this.#waiting.get(key(0, this.microbatches));
    if (root === undefined) {
      const missing = Array.from({ length: this.microbatches }, (_, i) => i).filter((i) => !this.#pushed.has(i));
      const fault = missing.length > 0 ? `microbatches ${missing.join(", ")} have not come` : "the result was already taken";
      throw new RuntimeError("ERR_INPUT", `gradient tree: ${fault}. Push each microbatch once, then take the result once.`, { missing });
    }
    this.#waiting.delete(key(0, this.microbatches));
    return root;
  }

  /** Frees what is still inside: after a step that was given up. */
  dispose(): void {
    for (const node of this.#waiting.values()) for (const tensor of node.values()) tensor.dispose();
    this.#waiting.clear();
  }
}

const key = (low: number, high: number): string => `${low}:${high}`;

/** From the leaf [index, index + 1) upwards: each node below the root with its sibling. */
function pathToRoot(index: number, count: number): (readonly [low: number, high: number, siblingLow: number, siblingHigh: number])[] {
  const path: (readonly [number, number, number, number])[] = [];
  let low = 0;
  let high = count;
  while (high - low > 1) {
    const middle = low + Math.ceil((high - low) / 2);
    if (index < middle) {
      path.push([low, middle, middle, high]);
      high = middle;
    } else {
      path.push([middle, high, low, middle]);
      low = middle;
    }
  }
  return path.reverse();
}

/** left + right, in left's storage. */
function merge(left: Named, right: Named): Named {
  const pairs: [Tensor, Tensor][] = [];
  for (const [name, tensor] of right) {
    const sum = left.get(name);
    if (sum === undefined) left.set(name, tensor);
    else pairs.push([tensor, sum]);
  }
  accumulateMany(pairs);
  for (const [tensor] of pairs) tensor.dispose();
  return left;
}
