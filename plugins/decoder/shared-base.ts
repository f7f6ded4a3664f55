/**
 * Weights that belong to the text encoder: one copy of a language model, an adapter on either side. They arrive end to end in one tensor, so
 * that gradients go back through it to their owner, wherever that runs. Order: that of the parameters of table, layers and norm.
 */
import { nn, reshape, slice, type Tensor } from "../../runtime/index.ts";

export class SharedBase {
  constructor(readonly parameters: nn.Parameters) {}

  /** base (N) -> one tensor per parameter, by name. */
  cut(base: Tensor): Record<string, Tensor> {
    let start = 0;
    return Object.fromEntries(Object.entries(this.parameters).map(([name, { size, shape }]) => {
      const part = reshape(slice(base, 0, start, size), shape);
      start += size;
      return [name, part];
    }));
  }

  /** Runs `work` with these in the place of the parameters' values. */
  with<T>(tensors: Record<string, Tensor>, work: () => T): T {
    try {
      for (const [name, parameter] of Object.entries(this.parameters)) parameter.lend(tensors[name]);
      return work();
    } finally {
      for (const parameter of Object.values(this.parameters)) parameter.lend(undefined);
    }
  }
}
