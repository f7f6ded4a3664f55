import * as ops from "../ops/index.ts";
import type { Tensor } from "../tensor/index.ts";
import type { Members } from "./members.ts";

/**
 * Sequence parallelism: between the products of a stack every member holds a share of the tokens, so that norms and residuals are neither computed
 * nor remembered several times. Where outputs of a product are shared out, tokens are gathered before it; where inputs are, the sum over members is
 * scattered over tokens: the same bytes as an all-reduce. Source: Korthikanti et al. 2022, "Reducing activation recomputation".
 *
 * SQ-1: inside of `throughStack` x is (B, share, D): the tokens [index * share, (index + 1) * share) of N, the last ones zeros where N does not divide.
 *       Of the gathered tokens a product remembers all, as it does without: what is saved is everything between products.
 * SQ-2: what all members apply to their own tokens (norms, biases, scales) learns from the tokens of all: `alike`.
 */
export interface SequenceShare { members: Members; length: number; padding: number }

let current: SequenceShare | undefined;

/** The share that the layers now running work on. */
export const sequenceShare = (): SequenceShare | undefined => current;

/** Runs `work` as layers of that share: for what runs later and elsewhere, too. */
export function withSequenceShare<T>(share: SequenceShare | undefined, work: () => T): T {
  const outer = current;
  current = share;
  try {
    return work();
  } finally {
    current = outer;
  }
}

/** Runs a stack of blocks, x (B, N, D) alike -> what it returns, (B, N, D) each, alike. With members that share tokens out, blocks see theirs (SQ-1). */
export function throughStack<T extends Tensor | readonly Tensor[]>(context: { members?: Members }, x: Tensor, blocks: (x: Tensor) => T): T {
  const { members } = context;
  if (!members?.sharesTokens) return blocks(x);
  const length = x.shape[1], padding = (members.count - (length % members.count)) % members.count;
  const share = { members, length, padding };
  const found = withSequenceShare(share, () => blocks(members.part(padded(x, share), 1)));
  const gathered = (y: Tensor): Tensor => cut(members.gather(y, 1), share);
  return (Array.isArray(found) ? (found as readonly Tensor[]).map(gathered) : gathered(found as Tensor)) as T;
}

/** x (B, share, D) of each -> (B, N, D). The way back sums over members and leaves each its tokens. */
export function gatherTokens(x: Tensor, share: SequenceShare): Tensor {
  const all = share.members.gatherParts(x, 1), real = cut(all, share);
  if (real !== all) all.dispose();
  return real;
}

/** Summands (B, N, D) of each -> the sum, of it the tokens here, (B, share, D). Frees x: a product's output, which nothing looks at again. */
export function scatterTokens(x: Tensor, share: SequenceShare): Tensor {
  const whole = padded(x, share), here = share.members.scatter(whole, 1);
  for (const summand of [x, whole]) summand.dispose();
  return here;
}

/** A parameter's value where every member applies it to its own tokens (SQ-2). */
export const alike = (value: Tensor): Tensor => (current ? current.members.enter(value) : value);

const padded = (x: Tensor, { padding }: SequenceShare): Tensor => (padding === 0 ? x : ops.pad(x, 1, 0, padding));
const cut = (x: Tensor, { length, padding }: SequenceShare): Tensor => (padding === 0 ? x : ops.slice(x, 1, 0, length));
