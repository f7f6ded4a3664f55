import { RuntimeError, ShapeError } from "../errors.ts";
import { type Shape, type Tensor, fromArray } from "../tensor/index.ts";
import { split64 } from "../tensor/philox.ts";
import { needDtype, needShape } from "./check.ts";
import { type DropoutOptions, stepOperand } from "./dropout.ts";

/** S2-Attn: tokens see their own group of `size` tokens; in the second half of the heads the groups lie size/2 further. */
export interface AttentionGroups {
  /** Even, a divisor of N: pad to the next multiple and hide the padding with keyMask. */
  size: number;
  /** Ends of the displaced groups: two of half the size (default), or one that joins the last tokens and the first (and lets causal look ahead). */
  wrap?: "split" | "roll";
}

/** Dropout of the weights. `sampleIds` has one number per batch element, or per sequence where there are boundaries. */
export interface AttentionDropout extends DropoutOptions {
  /** i32 (B): queries without padding. Default: as many as keys up to the last real one if Nq = Nk, else Nq. */
  queryLengths?: Tensor | readonly number[];
  /** Number of the first head, where this operand holds some heads of a layer. */
  firstHead?: number;
}

/** Which keys a query sees, and which weights are dropped: the part of attention that not every call has. */
export interface AttentionRules {
  /** Query i sees key j iff 0 <= i + (Nk - Nq) - j < window; with `causal`. Jiang et al. 2023. */
  window?: number;
  /** Chen et al. 2023 (LongLoRA). Self-attention only. */
  groups?: AttentionGroups;
  /**
   * A packed batch (1, N) of sequences that do not see each other: i32 (S+1), sequence s is tokens boundaries[s] .. boundaries[s+1].
   * A tensor is checked on the device, where its values are known: they start at 0, never fall and end at N.
   */
  boundaries?: Tensor | readonly number[];
  dropout?: AttentionDropout;
}

export interface AttentionSizes {
  batch: number;
  queries: number;
  keys: number;
  heads: number;
  causal: boolean;
  biasTable: boolean;
  shape: Shape;
}

const integers = (values: Tensor | readonly number[]): Tensor =>
  Array.isArray(values) ? fromArray(Int32Array.from(values as number[]), [values.length], "i32") : values as Tensor;

/** What the kernels take behind their plain operands and scalars; nothing when no rule is asked for. Throws ShapeError. */
export function attentionRules(rules: AttentionRules, sizes: AttentionSizes): { operands: (Tensor | undefined)[]; scalars: number[] } {
  const { window, groups, boundaries } = rules;
  const dropout = rules.dropout?.p ? rules.dropout : undefined;
  if (rules.dropout && !(rules.dropout.p >= 0 && rules.dropout.p < 1)) {
    throw new RuntimeError("ERR_INPUT", `attention: dropout.p expected in [0, 1), got ${rules.dropout.p}. Use 0 to switch it off.`, { p: rules.dropout.p });
  }
  if (window === undefined && !groups && !boundaries && !dropout) return { operands: [], scalars: [] };
  checkPlaces(rules, sizes);

  const packed = boundaries && integers(boundaries);
  if (packed) {
    needDtype("attention", "boundaries", packed, "i32");
    needShape("attention", "boundaries", packed, ["S+1"], "Cumulative lengths of the sequences, the first 0, the last N.");
  }
  const samples = dropout && integers(dropout.sampleIds), lengths = dropout?.queryLengths && integers(dropout.queryLengths);
  if (samples) {
    needDtype("attention", "dropout.sampleIds", samples, "i32");
    needShape("attention", "dropout.sampleIds", samples, [packed ? packed.size - 1 : sizes.batch], "One sample number per row of the batch, or per sequence.");
  }
  if (lengths) {
    needDtype("attention", "dropout.queryLengths", lengths, "i32");
    needShape("attention", "dropout.queryLengths", lengths, [sizes.batch], "One number of queries per row of the batch.");
  }
  const [low, high] = split64(dropout?.seed ?? 0), [step, [stepTensor]] = stepOperand("attention", dropout?.step ?? 0);
  return {
    operands: [packed, samples, lengths, stepTensor],
    scalars: [window ?? 0, groups?.size ?? 0, Number(groups?.wrap === "roll"), dropout?.p ?? 0, low, high, step, dropout?.site ?? 0, dropout?.firstHead ?? 0],
  };
}

function checkPlaces({ window, groups, boundaries }: AttentionRules, { batch, queries, keys, heads, causal, biasTable, shape }: AttentionSizes): void {
  const need = (holds: boolean, operand: string, expected: string, fix: string): void => {
    if (!holds) throw new ShapeError({ op: "attention", operand, expected, got: shape, fix });
  };
  if (window !== undefined) {
    need(Number.isInteger(window) && window > 0, "window", "one key or more", `The window given is ${window}; leave it out for none.`);
    need(causal, "window", "causal attention", "A window looks back from the query: pass causal: true.");
    need(!groups, "window", "no groups beside it", "Groups are a sparsity of their own.");
  }
  if (groups) {
    const { size } = groups;
    need(Number.isInteger(size) && size > 0 && size % 2 === 0, "groups", "an even size", `The size given is ${size}.`);
    need(heads % 2 === 0, "groups", "an even number of heads", `Half of the heads have displaced groups; there are ${heads}.`);
    need(queries === keys, "groups", "as many queries as keys", "Groups are for self-attention, in training; decode with full attention.");
    need(queries % size === 0, "groups", `a multiple of ${size} tokens`, "Pad on the right and hide the padding with keyMask.");
    need(!boundaries, "groups", "no boundaries beside them", "Groups span a whole page each.");
  }
  if (boundaries) {
    need(batch === 1, "boundaries", "a batch of one", "A packed batch has its sequences side by side in (1, N).");
    need(queries === keys, "boundaries", "as many queries as keys", "One set of boundaries serves both.");
  }
  need(!biasTable || (window === undefined && !groups && !boundaries), "biasTable", "no window, groups or boundaries beside it",
    "The bias table speaks about one whole page.");
}
