import { recomputed } from "../autograd/index.ts";
import type { Tensor } from "../tensor/index.ts";
import { sequenceShare, withSequenceShare } from "./sequence-share.ts";

/**
 * Runs one block of a stack. With `context.recompute` the way back remembers its inputs only and runs it a second time: memory of one block
 * in place of all, for a third more arithmetic. The bits are the same. `work` must do the same both times
 * (T-6 of the tape): it must not read variables that change after it.
 */
export function throughBlock<T extends Tensor | readonly Tensor[]>(context: { recompute?: boolean }, work: () => T): T {
  const share = sequenceShare();
  return context.recompute ? recomputed(() => withSequenceShare(share, work)) : work();
}
