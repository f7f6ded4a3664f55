import * as ops from "../ops/index.ts";
import { type Tensor, full, zeros } from "../tensor/index.ts";
import type { Parameters } from "./parameter.ts";

/**
 * A context group, as stacks of layers see it: processes that hold the same layers, each of which works on its own run of the tokens of every
 * sequence. All make the same calls in the same order. "Alike": the same bits on all members. Source: Liu et al. 2023 (ring attention).
 */
export interface TokenShare {
  readonly index: number;
  readonly count: number;
  /** x, alike -> this member's equal part along an axis. The way back puts the parts of all together. */
  part(x: Tensor, axis: number): Tensor;
  /** (.., n, ..) of each -> (.., count n, ..) alike, in the order of members. The way back is this member's part of dy, which is alike. */
  gather(x: Tensor, axis: number): Tensor;
  /** A parameter, alike, that works on own tokens alone: the way back sums what it gets over members. */
  enter(value: Tensor): Tensor;
  /** Own queries over the keys of all members; q, k, v and keyMask hold own tokens. Throws ERR_PLAN for rules that speak of places in the whole sequence. */
  attention(input: ops.AttentionInput): Tensor;
}

/** That a component's stacks go through `overTokens`; or the option that stands in the way, and why. */
export interface ContextDeclaration { refused?: { option: string; because: string } }

/** A sequence on its way through a stack: x (B, N, D), positions i32 (B, N), keyMask u8 (B, N). */
export interface Tokens {
  x: Tensor;
  positions: Tensor;
  keyMask?: Tensor;
}

/**
 * `work` over the tokens, or over this member's run of them where they are shared out: x and what `work` gives (B, N, ..) are whole and alike
 * outside. N is filled up to a multiple of the members by hidden tokens at the end.
 */
export function overTokens(share: TokenShare | undefined, tokens: Tokens, work: (own: Tokens) => Tensor): Tensor {
  if (!share) return work(tokens);
  const [batch, length] = tokens.x.shape, each = Math.ceil(length / share.count), rest = each * share.count - length;
  const x = rest === 0 ? tokens.x : ops.pad(tokens.x, 1, 0, rest);
  const own = (t: Tensor): Tensor => ops.slice(rest === 0 ? t : ops.concat([t, zeros([batch, rest], t.dtype)], 1), 1, share.index * each, each);
  const keyMask = tokens.keyMask ?? (rest === 0 ? undefined : full([batch, length], 1, "u8"));
  const done = share.gather(work({ x: share.part(x, 1), positions: own(tokens.positions), keyMask: keyMask && own(keyMask) }), 1);
  return rest === 0 ? done : ops.slice(done, 1, 0, length);
}

/** `work` with parameters that work on own tokens alone (`TokenShare.enter`). */
export function entering<T>(share: TokenShare | undefined, parameters: Parameters, work: () => T): T {
  if (!share) return work();
  const learning = Object.values(parameters).filter((parameter) => parameter.trainable);
  for (const parameter of learning) parameter.lend(share.enter(parameter.value));
  try {
    return work();
  } finally {
    for (const parameter of learning) parameter.lend(undefined);
  }
}
