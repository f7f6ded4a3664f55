import * as ops from "../ops/index.ts";
import { type Tensor, fromArray } from "../tensor/index.ts";
import { gatherTokens, scatterTokens, sequenceShare } from "./sequence-share.ts";

/**
 * The members of a tensor group, as layers see them: processes that hold the same layers and share out the numbers of some of their
 * weights. All make the same calls in the same order. "Alike": the same bits on all members. Source: Shoeybi et al. 2019 (Megatron-LM).
 */
export interface Members {
  readonly index: number;
  readonly count: number;
  /** Before a product whose outputs are shared out: x, alike. The way back sums what each member's share gives x. */
  enter(x: Tensor): Tensor;
  /** After a product whose inputs are shared out: the sum over members, alike. Takes x over and writes it. The way back is dy. */
  leave(x: Tensor): Tensor;
  /** (.., n, ..) of each -> (.., count n, ..) alike, in the order of members. The way back is this member's part of dy, which is alike. */
  gather(x: Tensor, axis: number): Tensor;
  /** x, alike -> this member's equal part along an axis. The way back puts the parts of all together. */
  part(x: Tensor, axis: number): Tensor;
  /** Between products members share out tokens: `throughStack`. */
  readonly sharesTokens: boolean;
  /** As `gather`, to be used by each in its own way: the way back sums what members give and leaves this one its part. */
  gatherParts(x: Tensor, axis: number): Tensor;
  /** Of the sum over members this one's equal part along an axis. The way back puts the parts of all together. */
  scatter(x: Tensor, axis: number): Tensor;
}

/** How a parameter is shared out: along one axis, each of its `parts` by itself (q, k and v in one weight), in equal contiguous shares. */
export interface Split {
  /** Of the whole tensor. */
  axis: number;
  /** Sizes along the axis of what is split by itself; they add up to it. */
  parts: readonly number[];
  members: Members;
}

/** [start, length) along the axis of this member's share of every part. */
export function shareOf({ parts }: Pick<Split, "parts">, { index, count }: Pick<Members, "index" | "count">): { start: number; length: number }[] {
  let before = 0;
  return parts.map((size) => {
    const length = size / count, start = before + index * length;
    before += size;
    return { start, length };
  });
}

/** How many of `heads` a member has whose projection is split, and which is its first. */
export function headsOf(heads: number, split: Split | undefined): { heads: number; firstHead: number } {
  const own = heads / (split?.members.count ?? 1);
  return { heads: own, firstHead: own * (split?.members.index ?? 0) };
}

/** x as the products of these weights take it: summed over members on the way back where they are split by outputs. Once for weights that share an input. */
export function entered(x: Tensor, { split }: { readonly split: Split | undefined }): Tensor {
  if (split?.axis !== 0) return x;
  const tokens = sequenceShare();
  return tokens ? gatherTokens(x, tokens) : split.members.enter(x);
}

/** The sum over members of what products of split inputs gave, which it takes over; where tokens are shared out, of the tokens here. */
export function left(x: Tensor, { members }: Split): Tensor {
  const tokens = sequenceShare();
  return tokens ? scatterTokens(x, tokens) : members.leave(x);
}

/** A tensor that stands for a parameter, alike on all members: its shares put together. */
export const wholeOf = ({ split }: { readonly split: Split | undefined }, value: Tensor): Tensor => (split ? split.members.gather(value, split.axis) : value);

/** ids i32 (...) of words -> their places among the `count` rows here, and u8 (...): 1 where the word is another member's and the place means nothing. */
export function wordsHere(ids: Tensor, count: number, { index: member }: Pick<Members, "index">): { index: Tensor; outside: Tensor } {
  const places = ops.sub(ops.cast(ids, "f32"), fromArray([member * count], [1])), near = ops.clamp(places, 0, count - 1);
  return { index: ops.cast(near, "i32"), outside: ops.ne(near, places) };
}
